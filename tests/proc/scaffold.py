#!/usr/bin/env python3
"""SCAFFOLD over three sites whose patients differ, at an epsilon that hardly hides anything: as good as Newton's steps on the pooled
rows, through a killed coordinator and a killed site, whose control variates lie on disk and go with the job."""
import json
import math
import os

from harness import Refused, Sandbox, done, licence, note, ok
from training import job, loss, manifest, model_score, newton, table

ROUNDS = 40


def vectors(box, name):
    """How many blobs lie in a home."""
    return sum(len(files) for _, _, files in os.walk(os.path.join(box.home(name), "models")))


def main():
    data = table()
    best = loss(data, newton(data))
    with Sandbox("alpha,beta,gamma") as box:
        source = os.path.join(os.environ["top_srcdir"], "deploy/demo-files/data/flchain.csv")
        box.run("alpha", "sandbox", "split", source, "--into", box.dir, "--by", "label:death", "--alpha", "0.5")
        for name in box.names:
            box.run(name, "dataset", "import", box.write("skewed.yaml", manifest("skewed", licence(epsilon_total=20000, per_query=1, per_job=1000))), "--data", f"{box.dir}/{name}.csv")
        text = job("control", "skewed", ROUNDS, 1000, epochs=2, clip=2.0, extra="aggregate: {method: scaffold}\n").replace("every: 5", f"every: {ROUNDS}").replace("min_sites: 2, round_timeout: 60s", "min_sites: 2, standby: 0, round_timeout: 4s")
        path = box.write("control.yaml", text)
        box.agreed(path)
        before = {n: vectors(box, n) for n in box.names}
        started = box.run("alpha", "train", "start", path)["job"]

        def shown():
            return box.run("alpha", "train", "show", started)
        box.wait("some rounds", lambda: shown()["round"] >= 4, 30)
        held = vectors(box, "gamma") - before["gamma"]
        box.kill("gamma")
        at = shown()["round"]
        box.wait("rounds without gamma", lambda: shown()["round"] >= min(at + 2, ROUNDS - 8), 40)
        box.kill("alpha")
        box.start()
        state = shown()
        ok(state["state"] == "waiting" and 4 <= state["round"] < ROUNDS, f"after kill -9 the job is {state['state']} at round {state['round']}; gamma held {held} vectors of it")
        box.run("alpha", "train", "resume", started)
        box.wait("more rounds", lambda: shown()["round"] >= state["round"] + 2, 40)
        box.run("alpha", "train", "stop", started)
        state = shown()
        kept = vectors(box, "beta") - before["beta"]
        ok(state["state"] == "stopped" and state["round"] < ROUNDS and kept >= 1, f"stopped at round {state['round']}, beta keeps {kept} vectors to go on with")
        box.run("alpha", "train", "resume", started)
        box.wait("the job", lambda: shown()["state"] == "done", 60)
        state = shown()
        rounds = state["history"]
        ok(state["state"] == "done" and [r["round"] for r in rounds] == list(range(1, ROUNDS + 1)), f"it goes on and ends: {state['state']}, each of {len(rounds)} rounds once")
        ok(any("gamma" not in r["participants"] for r in rounds) and "gamma" in rounds[-1]["participants"], "gamma was away and came back")
        verified = box.run("alpha", "train", "verify", started)
        ok(verified["ok"] and verified["rounds"] == ROUNDS, "the recorded means lead to the model")
        folder = os.path.join(box.folder, state["model"])
        box.run("alpha", "model", "export", state["model"], "--out", folder)
        with open(os.path.join(folder, "model.json"), encoding="utf-8") as file:
            got = loss(data, model_score(json.load(file)))
        ok(got < best + 0.02, f"its loss on all rows is {got:.4f}, Newton's {best:.4f}, of guessing {math.log(2):.4f}")
        # One that was killed in a round may keep what it had of it: two that it fetched, two that it wrote.
        box.wait("what beta held of it to go", lambda: vectors(box, "beta") <= before["beta"], 10)
        ok(vectors(box, "beta") <= before["beta"] and vectors(box, "gamma") <= before["gamma"] + 4,
           f"control variates go with the job: {[vectors(box, n) - before[n] for n in ('beta', 'gamma')]} vectors stay at the sites")
        note(f"released: {rounds[-1]['eval_loss']}")
    done()


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
