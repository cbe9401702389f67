#!/usr/bin/env python3
"""kill -9 at random moments of queries, imports and training: nothing answered is forgotten, nothing reserved is refunded.

KILLS=n (20 in `make check`; `make chaos` runs for MINUTES=n and at least 200). SEED is printed and accepted."""
import os
import threading
import time

from harness import SEED, Refused, Sandbox, concordat, done, flchain, licence, note, ok, rng

KILLS = int(os.environ.get("KILLS", "20"))
MINUTES = float(os.environ.get("MINUTES", "0"))
PURPOSE = ("--purpose", "DUO:0000006")

MANIFEST = """dataset: NAME
version: "VERSION"
size: 2500
columns:
  - {name: age, type: integer, min: 50, max: 110, deidentify: age90}
  - {name: sex, type: category, values: [F, M]}
  - {name: kappa, type: real, min: 0, max: 10}
  - {name: death, type: boolean}
""" + licence(epsilon_total=400, per_query=4, per_job=100)

JOB = """job: chaos
task: tabular-classification
dataset: flchain
purpose: "DUO:0000006"
features: [age, sex, kappa]
target: death
rounds: 6
participation: {{min_sites: 1, round_timeout: 20s}}
privacy: {{epsilon: {epsilon}, delta: 1e-6, clip: 1.0}}
evaluate: {{split: 0.1, every: 2}}
"""


class Chaos:
    def __init__(self, box):
        self.box = box
        self.charges = {}  # node -> its ledger's rows by id, as they were last seen
        self.released = {} # node -> rho of the answers that it released to us, each counted once
        self.answers = {}  # question -> rows, as they were released
        self.kills = self.questions = self.imports = self.jobs = 0
        self.bad = []

    def budget_seen(self, rows):
        for row in rows:
            spent = row["rho_total"] - row["rho_left"]
            if row.get("dataset", "flchain") == "flchain" and spent < self.released.get(row["node"], 0) - 1e-9:
                self.bad.append(f"{row['node']} says that {spent} is spent, but released answers for {self.released[row['node']]}")

    def ledger_seen(self, node):
        """No charge shrinks or goes, but a training job's by the steps that it never started, once it has ended; and they add up to what is spent."""
        answer = self.box.run(node, "budget", "flchain")
        now = {row["id"]: row for row in answer["history"]}
        for key, old in self.charges.get(node, {}).items():
            new = now.get(key)
            training = old["kind"] == "training"
            least = old["rho"] * new["started"] / new["steps"] if new and training and new["state"] == "finished" else old["rho"]
            if not new or new["rho"] < least - 1e-9 or training and new["started"] < old["started"]:
                self.bad.append(f"{node}: the charge {old} is now {new}")
        self.charges[node] = now
        row = next(row for row in answer["budget"] if row["dataset"] == "flchain")
        spent, total = row["rho_total"] - row["rho_left"], sum(row["rho"] for row in now.values())
        if abs(spent - total) > 1e-6:
            self.bad.append(f"{node}: {spent} is spent, but the charges add up to {total}")
        self.budget_seen(answer["budget"])

    def ask(self, node):
        number = rng.randrange(60)
        sql = f"SELECT COUNT(*), SUM(kappa) FROM flchain WHERE age > {50 + number}"
        code, answer, _ = self.box.try_run(node, "query", sql, *PURPOSE, "--epsilon", "0.2", "--timeout", "4s")
        if code:
            return
        self.questions += 1
        for site in answer["sites"]:
            if site["status"] == "answered" and not site.get("replayed"):
                self.released[site["node"]] = self.released.get(site["node"], 0) + answer["cost"]["rho"]
        self.budget_seen(answer["budget"])
        who = tuple(sorted(s["node"] for s in answer["sites"] if s["status"] == "answered"))
        old = self.answers.setdefault((sql, who), answer["rows"])
        if old != answer["rows"]:
            self.bad.append(f"{sql}: {who} answered {old}, later {answer['rows']}")

    def bring_in(self, node):
        path = self.box.write(f"import-{node}.yaml", MANIFEST.replace("NAME", "second").replace("VERSION", str(self.imports)))
        code, _, _ = self.box.try_run(node, "dataset", "import", path, "--data", f"{self.box.dir}/{node}.csv")
        self.imports += code == 0

    def train(self, node):
        job = self.box.write("job.yaml", JOB.format(epsilon=rng.choice([1, 2, 3])))
        code, _, _ = self.box.try_run(node, "train", "start", job)
        if code == 0:
            self.jobs += 1
            time.sleep(rng.uniform(0, 1.5))

    def one(self):
        """One operation, and a kill somewhere in its middle."""
        node = rng.choice(self.box.names)
        victim = rng.choice(self.box.names)
        action = rng.choice([self.ask, self.ask, self.ask, self.bring_in, self.train])
        killer = threading.Timer(rng.uniform(0, 0.6), self.box.kill, [victim])
        killer.start()
        action(node)
        killer.join()
        self.box.kill(victim)
        self.kills += 1
        self.box.start()
        self.ledger_seen(victim)
        for name in self.box.names if self.kills % 10 == 0 else [victim]:
            code, report, text = concordat("--home", self.box.home(name), "audit", "verify")
            if code or not report["ok"]:
                self.bad.append(f"{name}'s audit chain: {text}")


def main():
    began = time.monotonic()
    with Sandbox("alpha,beta,gamma") as box:
        source = box.write("all.csv", "\n".join(",".join(row) for row in flchain()[:1501]) + "\n")
        box.run("alpha", "sandbox", "split", source, "--into", box.dir)
        for name in box.names:
            box.run(name, "dataset", "import", box.write("m.yaml", MANIFEST.replace("NAME", "flchain").replace("VERSION", "1")), "--data", f"{box.dir}/{name}.csv")
        chaos = Chaos(box)
        while chaos.kills < KILLS or time.monotonic() - began < MINUTES * 60:
            chaos.one()
            if chaos.bad:
                break
        for text in chaos.bad:
            note(text)
        note(f"seed {SEED}: {chaos.kills} kills, {chaos.questions} answers, {chaos.imports} imports, {chaos.jobs} jobs, {time.monotonic() - began:.0f} s")
        ok(chaos.kills >= KILLS and chaos.questions > 0, f"{chaos.kills} kills; every restart worked")
        ok(not chaos.bad, "no budget came back, no answer changed, every audit chain verified")
    done()


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
