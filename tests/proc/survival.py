#!/usr/bin/env python3
"""Rounds that survive hospitals: five sites, twenty rounds, the coordinator killed twice, two sites killed and back, one frozen for
a while, one that refuses midway. The job ends, each round says who was missing and why, and the model is what its rounds make it."""
import os
import signal
import time

from harness import Refused, Sandbox, done, note, ok
from notes import BASE, MANIFEST, OPEN, conll, job, sentences

ROUNDS = 20
FROZEN_S = 30


def start_job(box):
    text = job("survive", "open", "lora").replace("rounds: 2", f"rounds: {ROUNDS}").replace("standby: 0", "standby: 4")
    return box.run("alpha", "train", "start", box.write("survive.yaml", text), timeout=60)["job"]


class Watch:
    """Asks whoever is there."""

    def __init__(self, box, job_id):
        self.box, self.id = box, job_id

    def shown(self):
        best = None
        for name in self.box.names:
            if self.box.pid(name):
                code, answer, _ = self.box.try_run(name, "train", "show", self.id)
                if code == 0 and answer.get("history") is not None and (best is None or (answer["round"], answer["state"]) > (best["round"], best["state"])):
                    best = answer
        return best or {"round": 0, "state": "?", "history": [], "coordinator": "?"}

    def until(self, what, condition, seconds):
        took = self.box.wait(what, lambda: condition(self.shown()), seconds)
        if took is None:
            shown = self.shown()
            ok(False, f"{what}: not within {seconds} s; {shown['state']}, round {shown['round']}, {shown.get('error')}")
        return took


def kill_leader(box, watch, at):
    """Kills the coordinator in the middle of a round; returns its name and how long it took until another one had closed a round."""
    watch.until(f"round {at}", lambda s: s["round"] >= at, 120)
    before = watch.shown()
    leader = before["coordinator"]
    box.kill(leader)
    took = watch.until(f"a round after {leader} was killed", lambda s: s["round"] > before["round"] and s["coordinator"] != leader, 60)
    after = watch.shown()
    ok(took is not None and took <= 30, f"{leader} was killed after round {before['round']}; {after['coordinator']} closed the next {took or 0:.1f} s later")
    kept = [r["weights"] for r in after["history"]][:len(before["history"])]
    ok(kept == [r["weights"] for r in before["history"]], f"no finished round was lost: {len(kept)} are the same")
    return leader


def others(box, watch, count, without=()):
    leader = watch.shown()["coordinator"]
    return [n for n in box.names if n != leader and n not in without][:count]


def prepare(box):
    text = sentences()
    for i, name in enumerate(box.names):
        data = box.write(f"{name}.conll", conll(text[i * 60:i * 60 + 60], name))
        box.run(name, "dataset", "import", box.write("m.yaml", MANIFEST.replace("NAME", "open") + OPEN), "--data", data, "--format", "conll")
    box.run("alpha", "model", "import", BASE, "--name", "tiny", "--licence", "CC-BY-4.0")
    box.wait("the catalogue", lambda: all(len(box.run(n, "catalog")["datasets"]) >= 5 for n in box.names), 30)


def explain_history(box, shown):
    rows = shown["history"]
    ok([r["round"] for r in rows] == list(range(1, ROUNDS + 1)), f"each of {len(rows)} rounds once")
    named = all(sorted(r["participants"] + [a["node"] for a in r["absent"]]) == sorted(box.names) for r in rows)
    ok(named and all(a["reason"] for r in rows for a in r["absent"]), "each round names every site once, and why it was missing")
    reasons = sorted({(a["node"], a["reason"]) for r in rows for a in r["absent"]})
    note(f"absences: {reasons}")


def main():
    began = time.monotonic()
    with Sandbox("alpha,beta,gamma,delta,omega") as box:
        prepare(box)
        watch = Watch(box, start_job(box))
        first = kill_leader(box, watch, 2)
        box.start()
        # Two sites die and come back; one stands still for a while, and one refuses from then on.
        gone = others(box, watch, 2)
        for name in gone:
            box.kill(name)
        at = watch.shown()["round"]
        watch.until("a round without them", lambda s: s["round"] > at, 60)
        box.start()
        second = kill_leader(box, watch, at + 2)
        box.start()
        frozen = others(box, watch, 1)[0]
        refuser = others(box, watch, 1, (frozen,))[0]
        os.kill(box.pid(frozen), signal.SIGSTOP)
        box.run(refuser, "train", "pause")
        time.sleep(FROZEN_S)
        os.kill(box.pid(frozen), signal.SIGCONT)
        watch.until("the end", lambda s: s["state"] == "done", 180)
        shown = watch.shown()
        ok(shown["state"] == "done" and first != second, f"the job is {shown['state']} after {time.monotonic() - began:.0f} s; killed: {first}, {second}")
        explain_history(box, shown)
        last = {a["node"]: a["reason"] for a in shown["history"][-1]["absent"]}
        ok(last.get(refuser) == "PAUSED", f"who refused is named: {refuser} in {last}")
        checked = box.run(shown["coordinator"], "train", "verify", shown["job"])
        ok(checked["ok"] and checked["rounds"] == ROUNDS and checked["weights"] == shown["history"][-1]["weights"], "the model is what its rounds make it")
        for name in box.names:
            ok(box.run(name, "audit", "verify")["ok"], f"{name}'s audit chain is whole")
    done()


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
