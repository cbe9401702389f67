#!/usr/bin/env python3
"""Another node goes on when a job's coordinator is gone: no finished round is lost, who comes back stands by, and the job is
stopped and resumed from any of the nodes that may coordinate it."""
import os

from harness import Refused, Sandbox, done, licence, note, ok
from training import job, manifest

ROUNDS = 24


def start(box, name, node="alpha"):
    return box.run(node, "train", "start", box.write("job.yaml", job(name, "wide", ROUNDS, 2)))["job"]


def show(box, node, job_id):
    code, answer, _ = box.try_run(node, "train", "show", job_id)
    return answer if code == 0 else {"round": 0, "state": "?", "coordinator": "?", "history": []}


def killed(box):
    started = start(box, "killed")
    box.wait("rounds", lambda: show(box, "alpha", started)["round"] >= 3, 40)
    before = show(box, "alpha", started)
    at = show(box, "beta", started)
    ok(at["state"] == "running" and at["coordinator"] == "alpha", f"a node that stands by shows the job: round {at['round']} of {before['round']}")
    box.kill("alpha")

    def others():
        """What the two that are left say; alpha may have closed one more round before it died."""
        return [one for one in (show(box, n, started) for n in ("beta", "gamma")) if one["coordinator"] not in ("alpha", "?")]

    took = box.wait("another coordinator", lambda: any(one["round"] > before["round"] for one in others()), 45)
    after = max(others(), key=lambda one: one["round"], default=before)
    ok(took is not None and took <= 30 and after["coordinator"] != "alpha", f"alpha was killed: {after['coordinator']} closed the next round {took or 0:.1f} s later")
    kept = [r["weights"] for r in after["history"]][:len(before["history"])]
    ok(kept == [r["weights"] for r in before["history"]], f"its {len(kept)} finished rounds stand")
    box.start()
    box.wait("alpha in step", lambda: show(box, "alpha", started)["round"] > after["round"], 40)
    # On a machine that is busy the lease may have gone on to a third node meanwhile: what counts is that all name the same one.
    same = box.wait("one coordinator", lambda: len({show(box, n, started)["coordinator"] for n in ("alpha", "beta", "gamma")}) == 1, 40)
    back = show(box, "alpha", started)
    ok(same is not None and back["state"] in ("running", "done"), f"alpha is back and goes with {back['coordinator']}: round {back['round']}")
    end = box.wait("the end", lambda: show(box, after["coordinator"], started)["state"] == "done", 120)
    last = show(box, after["coordinator"], started)
    ok(end is not None and [r["round"] for r in last["history"]] == list(range(1, ROUNDS + 1)), f"{last['state']}: each of {len(last['history'])} rounds once")
    ok(box.run(after["coordinator"], "train", "verify", started)["ok"], "the model is what its rounds make it")
    box.wait("alpha knows", lambda: show(box, "alpha", started)["state"] == "done", 10)
    ok(show(box, "alpha", started)["model"] == last["model"], "whoever stands by knows that it is done, and the model")
    terms = sorted({r["term"] for r in last["history"]}) if "term" in last["history"][0] else []
    ok(len(terms) != 1, f"terms of the rounds: {terms}")


def moved(box):
    """Stop at a node that does not coordinate; a lone node may do nothing."""
    started = start(box, "moved", "beta")
    box.wait("rounds", lambda: show(box, "beta", started)["round"] >= 2, 40)
    box.run("gamma", "train", "stop", started, timeout=90)
    ok(box.wait("stopped", lambda: show(box, "gamma", started)["state"] == "stopped", 20) is not None, "stopped from another node")
    ok(box.wait("stopped there", lambda: show(box, "beta", started)["state"] == "stopped", 20) is not None, "and its coordinator left off")
    at = show(box, "gamma", started)
    box.run("alpha", "train", "resume", started, timeout=90)
    box.wait("its end", lambda: show(box, "alpha", started)["state"] == "done", 90)
    last = show(box, "alpha", started)
    ok(last["state"] == "done" and last["coordinator"] == "alpha" and len(last["history"]) >= ROUNDS - 1 and last["history"][:at["round"]] == at["history"],
       f"a third node goes on with it from round {at['round']} to its end: {last['state']}, {len(last['history'])} of {ROUNDS} rounds, coordinator {last['coordinator']}")
    ok(box.run("alpha", "train", "verify", started)["ok"], "the model is what its rounds make it")
    box.wait("the others know", lambda: all(show(box, n, started)["state"] == "done" for n in box.names), 15)
    ok(all(show(box, n, started)["state"] == "done" for n in box.names), "and all say so")
    started = start(box, "alone", "beta")
    box.wait("rounds", lambda: show(box, "beta", started)["round"] >= 2, 40)
    before = show(box, "beta", started)["round"]
    box.kill("beta")
    box.kill("alpha")
    said = []
    box.wait("an attempt's end", lambda: said.append(box.refusal("gamma", "train", "stop", started)) or said[-1][0] != 9, 30)  # gamma may be trying just now
    code, error = said[-1]
    ok(code == 6, f"one of three cannot take it over: exit {code}, {error.get('detail', '')[:100]}")
    box.start()
    def end():
        """What a node says that knows the job as done. A kill in a round spends that round's steps at the site, so that the last may be missing."""
        return next((one for one in (show(box, n, started) for n in box.names) if one["state"] == "done"), None)

    took = box.wait("it goes on", lambda: end() is not None, 120)
    last = end() or show(box, "gamma", started)
    short = ROUNDS - last["round"]
    if not ok(took is not None and short <= 1 and last["round"] > before, f"when they are back it goes on by itself to its end, {took or 0:.1f} s later"):
        note([(n, {key: show(box, n, started).get(key) for key in ("state", "round", "coordinator", "reason")}) for n in box.names])
    ok([r["round"] for r in last["history"]] == list(range(1, last["round"] + 1)) and (short == 0) == ("reason" not in last), f"{last['round']} of {ROUNDS} rounds, each once: {last.get('reason', 'all')}")


def paused(box):
    """A site's operator has the last word about its machine."""
    started = start(box, "paused", "beta")
    box.wait("rounds", lambda: show(box, "beta", started)["round"] >= 2, 40)
    box.run("gamma", "train", "pause")
    box.wait("rounds without gamma", lambda: any(a["reason"] == "PAUSED" for r in show(box, "beta", started)["history"] for a in r["absent"]), 30)
    box.run("gamma", "train", "unpause")
    box.wait("the end", lambda: show(box, "beta", started)["state"] == "done", 60)
    rows = box.run("alpha", "train", "history", started)["history"]
    without = [a["reason"] for r in rows for a in r["absent"]]
    ok(without and set(without) == {"PAUSED"} and "gamma" in rows[-1]["participants"], f"{len(without)} rounds name gamma as paused; then it is back")
    folder = os.path.join(box.folder, "board")
    box.run("alpha", "train", "history", started, "--svg", os.path.join(box.folder, "h.svg"), "--tensorboard", folder)
    with open(os.path.join(box.folder, "h.svg"), encoding="utf-8") as file:
        ok(file.read().startswith("<svg") and len(os.listdir(folder)) == 1, "its curves as a picture and for TensorBoard")


def main():
    with Sandbox("alpha,beta,gamma") as box:
        source = os.path.join(os.environ["top_srcdir"], "deploy/demo-files/data/flchain.csv")
        box.run("alpha", "sandbox", "split", source, "--into", box.dir)
        for name in box.names:
            text = manifest("wide", licence(epsilon_total=20000, per_query=1, per_job=1000))
            box.run(name, "dataset", "import", box.write("wide.yaml", text), "--data", f"{box.dir}/{name}.csv")
        box.wait("the catalogue", lambda: all(len(box.run(n, "catalog")["datasets"]) >= 3 for n in box.names), 30)
        paused(box)
        killed(box)
        moved(box)
    done()


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
