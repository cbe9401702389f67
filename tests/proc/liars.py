#!/usr/bin/env python3
"""A site that lies, and one that is late, among honest ones: what is malformed, replayed, oversized, of another shape, not whole or beyond what any
table could give is left out of the sum, named to who asked and logged; the others' totals stay right. gamma's daemon is the real one with tests/proc/liar.c
linked in."""
import hashlib
import json
import os
import signal
import subprocess
import time

from harness import SRC, TOP, Sandbox, done, licence, note, ok, running

ROWS = 1000
BASE = os.path.join(SRC, "deploy/demo-ner-files/bert-tiny-biomed")
MANIFEST = """dataset: t
version: "1"
size: 1000
unit: patient
columns:
  - {name: patient, type: text, deidentify: pseudonym}
  - {name: x, type: real, min: 0, max: 100}
  - {name: y, type: boolean}
""" + licence(epsilon_total=1000000, per_query=1000, per_job=1000)
LIES = [("cell", "MALFORMED"), ("short", "MALFORMED"), ("noise", "MALFORMED"), ("fraction", "MALFORMED"), ("flood", "MALFORMED"), ("rubbish", "MALFORMED"),
        ("below", "OUT_OF_RANGE"), ("huge", "OUT_OF_RANGE"), ("replay", "REPLAYED")]


class Test:
    def __init__(self, box):
        self.box, self.asked = box, 0
        self.lie = box.write("lie", "")

    def launch(self):
        """gamma with the lying daemon."""
        with open(os.path.join(self.box.home("gamma"), "log", "concordatd.log"), "ab") as log:
            self.daemon = subprocess.Popen([os.path.join(TOP, "tests/proc/concordatd_liar"), "--home", self.box.home("gamma"), "--foreground"],  # pylint: disable=consider-using-with
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "CONCORDAT_LIE": self.lie})

    def ask(self, timeout="20s"):
        """A new question of all three."""
        self.asked += 1
        answer = self.box.run("alpha", "query", f"SELECT COUNT(*), SUM(x), AVG(x) FROM t WHERE x <> {1000 + self.asked}", "--purpose", "DUO:0000006",
                              "--epsilon", "500", "--timeout", timeout)
        return answer, {site["node"]: (site["status"], site.get("reason")) for site in answer["sites"]}

    def misbehaviour(self):
        """What alpha's log says of it."""
        events = [json.loads(line) for line in self.box.log("alpha").splitlines() if "query.misbehaved" in line and line.startswith("{")]
        return [json.dumps(event) for event in events]


def right(answer, sites):
    count, total, mean = answer["rows"][0]
    return abs(count - sites * ROWS) < 10 and abs(total - sites * ROWS * 50) < 2000 and abs(mean - 50) < 1


def lies(t):
    answer, sites = t.ask()
    ok(right(answer, 3) and all(site[0] == "answered" for site in sites.values()), f"while gamma is honest, it counts: {answer['rows'][0]}")
    for lie, reason in LIES:
        before = len(t.misbehaviour())
        with open(t.lie, "w", encoding="ascii") as file:
            file.write(lie)
        answer, sites = t.ask()
        said = t.misbehaviour()[before:]
        good = right(answer, 2) and sites["gamma"] == ("unavailable", reason) and sites["alpha"][0] == sites["beta"][0] == "answered"
        good = good and len(said) == 1 and "gamma" in said[0] and reason in said[0]
        if not ok(good, f"{lie}: left out, named {reason}, and logged"):
            note(f"{answer['rows']} {sites} {said}")
    with open(t.lie, "w", encoding="ascii") as file:
        file.write("")
    answer, sites = t.ask()
    ok(right(answer, 3) and sites["gamma"][0] == "answered", "once it tells the truth again, it counts again")


UPDATES = {"r": "MALFORMED", "p": "MALFORMED", "b": "OTHER_WEIGHTS", "s": "SHAPE", "n": "NOT_FINITE", "a": "MALFORMED", "w": "OTHER_VECTOR"}
JOB = """job: lied-to
task: tabular-classification
dataset: t
purpose: "DUO:0000006"
features: [x]
target: y
rounds: 8
participation: {min_sites: 1, round_timeout: 60s, standby: 0}
privacy: {epsilon: 500, delta: 1e-6}
evaluate: {every: 0}
"""


def updates(t):
    """Updates of training that are not what was asked for: of another round, plan, base or length, not finite, or a vector that is here already."""
    with open(t.lie, "w", encoding="ascii") as file:
        file.write("updates:" + "".join(UPDATES) + "-")
    started = t.box.run("alpha", "train", "run", t.box.write("job.yaml", JOB), timeout=90)
    shown = t.box.run("alpha", "train", "show", started["job"])
    for letter, row in zip(UPDATES, shown["history"]):
        absent = [(a["node"], a["reason"]) for a in row["absent"]]
        ok(absent == [("gamma", UPDATES[letter])] and sorted(row["participants"]) == ["alpha", "beta"], f"update {letter}: left out and named: {absent}")
    last = shown["history"][-1]
    ok(len(shown["history"]) == 8 and sorted(last["participants"]) == ["alpha", "beta", "gamma"] and not last["absent"],
       "once it tells the truth it takes part again")
    ok(t.box.run("alpha", "train", "verify", shown["job"])["ok"], "the model is what its rounds make it")
    with open(t.lie, "w", encoding="ascii") as file:
        file.write("")


CLOSED = JOB.replace("lied-to", "closed").replace("dataset: t", "dataset: closed").replace("rounds: 8", "rounds: 1").replace("min_sites: 1", "min_sites: 2")


def file_hash(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest(), os.path.getsize(path)


def forge(t, lie, good):
    """gamma publishes its own base model, with a lie in the record; waits until alpha has heard of it."""
    with open(t.lie, "w", encoding="ascii") as file:
        file.write(lie)
    record = t.box.run("gamma", "model", "publish", "own")["record"]
    with open(t.lie, "w", encoding="ascii") as file:
        file.write("")
    return t.box.wait("the record", lambda: any(good(m) for m in t.box.run("alpha", "model", "list") if m["model"] == "own")) is not None and record


def records(t):
    """A record of a model is its issuer's word: what it names as statement or weights neither frees another's model nor locks a statement away."""
    box = t.box
    terms = MANIFEST.replace("dataset: t", "dataset: closed") + "  recipients: {institutions: [alpha, beta]}\n"
    for name in ("alpha", "beta"):
        box.run(name, "dataset", "import", box.write("closed.yaml", terms), "--data", os.path.join(box.folder, "rows.csv"))
    job = box.run("alpha", "train", "run", box.write("closed-job.yaml", CLOSED), timeout=90)
    ok(job["state"] == "done" and job["model"], f"a model that gamma may not have: {job['state']} {job['sites']}")
    shown = box.run("alpha", "model", "show", job["model"])
    weights, size = shown["weights"], shown["size"]
    out = os.path.join(box.folder, "closed")
    box.run("alpha", "model", "export", job["model"], "--out", out)
    statement, statement_size = file_hash(os.path.join(out, "lineage.json"))
    box.wait("the model", lambda: any(m["model"] == job["model"] for m in box.run("gamma", "model", "list")))
    blob = lambda name, what: os.path.join(box.home(name), "models", what)  # noqa: E731
    left = lambda: [r for r in box.run("alpha", "audit", "egress") if r["peer"] == "gamma" and r["id"] == weights]  # noqa: E731
    box.run("gamma", "model", "import", BASE, "--name", "own", "--licence", "CC0-1.0")

    ok(forge(t, f"lineage:{weights}:{size}", lambda m: True), "gamma names those weights as the statement of a model of its own")
    box.try_run("gamma", "model", "fetch", "own", "--node", "alpha", "--purpose", "DUO:0000006")
    ok(not left() and not os.path.exists(blob("gamma", weights)), f"and does not get them by that: {left()}")
    box.run("gamma", "model", "publish", "own")

    ok(forge(t, f"hoard:{statement}:{statement_size}", lambda m: m["task"] != "base"), "gamma names the statement as weights that nobody may have")
    for what in (weights, statement):
        if os.path.exists(blob("beta", what)):
            os.unlink(blob("beta", what))
    got = box.run("beta", "model", "fetch", job["model"], "--node", "alpha")
    ok(got["weights"] == weights and os.path.exists(blob("beta", weights)), "who may have the model gets it")
    ok(os.path.exists(blob("beta", statement)), "and where it comes from as well")
    ok(not left(), "gamma still has none of it")


def late(t):
    """beta is stopped in the middle: the others' answer comes at the deadline, and beta's late one is in no later sum."""
    pid = t.box.pid("beta")
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer, sites = t.ask("2s")
        took = time.monotonic() - began
    finally:
        os.kill(pid, signal.SIGCONT)
    ok(right(answer, 2) and sites["beta"][0] == "unreachable" and sites["alpha"][0] == sites["gamma"][0] == "answered", f"a frozen site is named after {took:.1f} s: {sites['beta']}")
    ok(2 <= took < 10, "at the deadline, not later")
    back = t.box.wait("beta", lambda: t.ask()[1]["beta"][0] == "answered")
    answer, sites = t.ask()
    ok(back is not None and right(answer, 3), "and counts once it is back, without what was late")


def main():
    with Sandbox("alpha,beta,gamma") as box:
        rows = box.write("rows.csv", "patient,x,y\n" + "".join(f"p{i},{i % 101},{str(i % 101 > 50).lower()}\n" for i in range(ROWS)))
        path = box.write("m.yaml", MANIFEST)
        for name in box.names:
            box.run(name, "dataset", "import", path, "--data", rows)
        t = Test(box)
        pid = box.pid("gamma")
        os.kill(pid, signal.SIGTERM)
        box.wait("gamma's end", lambda: not running(pid), 30)
        t.launch()
        ok(box.wait("gamma lies in wait", lambda: t.ask()[1].get("gamma", ("", ""))[0] == "answered", 40) is not None, "gamma runs the lying daemon")
        lies(t)
        updates(t)
        records(t)
        late(t)
        t.daemon.send_signal(signal.SIGTERM)
        ok(t.daemon.wait(30) == 0, "the lying daemon ends well")
    done()


main()
