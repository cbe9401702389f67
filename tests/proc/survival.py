#!/usr/bin/env python3
"""Rounds that survive hospitals: five sites, twenty rounds, the coordinator killed twice, two sites killed and back, one behind a
link that is cut for a while, one that refuses midway. The job ends, each round says who was missing and why, and the model is what its rounds make it."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

from harness import TOP, Refused, Sandbox, done, note, ok
from notes import BASE, MANIFEST, OPEN, conll, job, sentences

ROUNDS = 20
CUT_S = 30
EPOCHS = 24  # rounds so long that the job outlasts the cut
FAR = "omega"


def start_job(box):
    text = job("survive", "open", "lora").replace("rounds: 2", f"rounds: {ROUNDS}").replace("standby: 0", "standby: 4")
    text = text.replace("epochs: 1", f"epochs: {EPOCHS}")
    return box.run("alpha", "train", "start", box.write("survive.yaml", text), timeout=60)["job"]


class Link:
    """FAR lives in a network of its own, and one cable leads to it; the rest is in another one that this test made. Without the tools for
    that, or the right to, FAR is frozen in place of being cut off."""

    def __init__(self, box):
        self.box, self.space = box, None
        if os.environ.get("CONCORDAT_OWN_NETWORK"):
            self.space = subprocess.Popen(["unshare", "--net", "sleep", "900"])
            box.wait("a second network", lambda: os.readlink(f"/proc/{self.space.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
            self.ip("link", "set", "lo", "up")
            self.ip("link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(self.space.pid))
            self.ip("address", "add", "10.77.0.1/24", "dev", "near")
            self.ip("link", "set", "near", "up")
            for words in (("link", "set", "lo", "up"), ("address", "add", "10.77.0.2/24", "dev", "far"), ("link", "set", "far", "up")):
                self.ip(*words, inside=True)
            seeds = []
            for name in box.names:
                with open(os.path.join(box.home(name), "node.yaml"), encoding="utf-8") as file:
                    port = re.search(r"listen: '.*:([0-9]+)'", file.read())[1]
                seeds.append(f"tls+tcp://{'10.77.0.2' if name == FAR else '10.77.0.1'}:{port}")
            for name in box.names:
                path = os.path.join(box.home(name), "node.yaml")
                with open(path, encoding="utf-8") as file:
                    text = file.read()
                with open(path, "w", encoding="utf-8") as file:
                    # What they know of each other is where they were made; `seeds` tells where they are.
                    file.write(text.replace("127.0.0.1", "10.77.0.2" if name == FAR else "10.77.0.1").replace("seeds: []", f"seeds: {json.dumps(seeds)}"))
        self.start()

    def inside(self, words):
        return ["nsenter", f"--net=/proc/{self.space.pid}/ns/net", *words]

    def ip(self, *words, inside=False):
        subprocess.run(self.inside(["ip", *words]) if inside else ["ip", *words], check=True)

    def start(self):
        """Whoever is not there."""
        if self.space and not self.box.pid(FAR):
            home = self.box.home(FAR)
            with open(os.path.join(home, "log/far.log"), "a", encoding="utf-8") as log:
                subprocess.Popen(self.inside([os.path.join(TOP, "concordatd"), "--home", home]), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self.box.wait(f"{FAR} serves", lambda: self.box.try_run(FAR, "status")[0] == 0, 30)
        self.box.start()

    def cut(self, seconds):
        if self.space:
            self.ip("link", "set", "far", "down", inside=True)
            alone = self.box.run(FAR, "train", "list") is not None
            ok(alone, f"{FAR} is alive while nothing reaches it")
            time.sleep(seconds)
            self.ip("link", "set", "far", "up", inside=True)
        else:
            os.kill(self.box.pid(FAR), signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(self.box.pid(FAR), signal.SIGCONT)

    def close(self):
        if self.space:
            self.space.kill()
            self.space.wait()


def own_network():
    """This program again, in a network namespace, where that can be had."""
    if not os.environ.get("CONCORDAT_OWN_NETWORK") and all(map(shutil.which, ("ip", "unshare", "nsenter"))) and \
            subprocess.run(["unshare", "--net", "ip", "link", "add", "near", "type", "veth", "peer", "name", "far"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
        os.environ["CONCORDAT_OWN_NETWORK"] = "yes"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])


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


def survive(box, link, began):
    prepare(box)
    watch = Watch(box, start_job(box))
    first = kill_leader(box, watch, 2)
    link.start()
    # Two sites die and come back; one is out of reach for a while, and one refuses from then on.
    gone = others(box, watch, 2, (FAR,))
    for name in gone:
        box.kill(name)
    at = watch.shown()["round"]
    watch.until("a round without them", lambda s: s["round"] > at, 60)
    link.start()
    second = kill_leader(box, watch, at + 2)
    link.start()
    refuser = others(box, watch, 1, (FAR,))[0]
    box.run(refuser, "train", "pause")
    before = watch.shown()["round"]
    link.cut(CUT_S)
    watch.until("the end", lambda s: s["state"] == "done", 300)
    shown = watch.shown()
    ok(shown["state"] == "done" and first != second, f"the job is {shown['state']} after {time.monotonic() - began:.0f} s; killed: {first}, {second}")
    explain_history(box, shown)
    took = [FAR in r["participants"] for r in shown["history"] if r["round"] > before]
    ok(False in took and took[-1], f"{FAR} was missing for {took.count(False)} rounds while it was cut off, and is back")
    last = {a["node"]: a["reason"] for a in shown["history"][-1]["absent"]}
    ok(last.get(refuser) == "PAUSED", f"who refused is named: {refuser} in {last}")
    checked = box.run(shown["coordinator"], "train", "verify", shown["job"])
    ok(checked["ok"] and checked["rounds"] == ROUNDS and checked["weights"] == shown["history"][-1]["weights"], "the model is what its rounds make it")
    for name in box.names:
        ok(box.run(name, "audit", "verify")["ok"], f"{name}'s audit chain is whole")


def main():
    began = time.monotonic()
    with Sandbox(f"alpha,beta,gamma,delta,{FAR}", start=False) as box:
        link = Link(box)
        try:
            survive(box, link, began)
        finally:
            box.kill(FAR)
            link.close()
    done()


if __name__ == "__main__":
    own_network()
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
