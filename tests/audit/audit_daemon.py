#!/usr/bin/env python3
"""The whole way of a question, from the command through mutual TLS, licence, ledger, scan and noise and back, on two tables that differ
by one patient with a million rows: as many questions as fit into MINUTES, judged as in tests/audit/judge.h. Each question has another
constant outside of the data's range, since the same one again would only be replayed."""
import os
import subprocess
import sys
import threading
import time

TOP = os.environ.get("top_builddir", ".")
SRC = os.environ.get("top_srcdir", ".")
sys.path.insert(0, os.path.join(SRC, "tests/proc"))
sys.dont_write_bytecode = True

from harness import Sandbox, done, licence, note, ok  # noqa: E402

MINUTES = float(os.environ.get("MINUTES") or 1)
HEAVY = 1000000
ASKERS = 12
EPSILON = 2
DELTA = 1e-3

MANIFEST = """dataset: {name}
version: "1"
size: 1000
unit: patient
max_rows_per_unit: 4
columns:
  - {{name: patient, type: text, deidentify: pseudonym}}
  - {{name: x, type: real, min: 0, max: 100}}
  - {{name: y, type: integer, min: 0, max: 7}}
"""


def tables(box):
    rows = "".join(f"p{i // 2},0,{i % 3}\n" for i in range(60))
    for name in ("without", "with"):
        path = os.path.join(box.folder, "rows.csv")
        with open(path, "w", encoding="ascii") as file:
            file.write("patient,x,y\n" + rows)
            if name == "with":
                for start in range(0, HEAVY, 100000):
                    file.write("victim,100,7\n" * min(100000, HEAVY - start))
        box.run("alpha", "dataset", "import", box.write("m.yaml", MANIFEST.format(name=name) + licence(epsilon_total=1000000, per_query=2, delta=DELTA)),
                "--data", path, timeout=300)
        os.unlink(path)


class Asker(threading.Thread):
    """Asks both tables in turn until the time is over; keeps every answer."""

    def __init__(self, box, number, until):
        super().__init__()
        self.box, self.number, self.until = box, number, until
        self.lines, self.failed, self.rho = [], 0, 0

    def run(self):
        asked = 0
        while time.monotonic() < self.until:
            asked += 1
            constant = 1000 + self.number + asked * ASKERS
            for side, name in enumerate(("without", "with")):
                code, answer, _ = self.box.try_run("beta", "query", f"SELECT COUNT(*), SUM(x) FROM {name} WHERE x <> {constant}", "--purpose",
                                                   "DUO:0000006", "--epsilon", EPSILON, "--delta", DELTA, "--timeout", "60s", timeout=90)
                if code or answer["replayed"]:
                    self.failed += 1
                    continue
                self.rho = max(self.rho, answer["cost"]["rho"])
                # A cell that was withheld is an outcome, too: the last number.
                row = answer["rows"][0]
                self.lines.append(f"{side} " + " ".join(str(value or 0) for value in row) + f" {int(None in row)}")


def main():
    box = Sandbox("alpha,beta", start=False)
    with box:
        for name in box.names:
            path = os.path.join(box.home(name), "node.yaml")
            with open(path, encoding="utf-8") as file:
                text = file.read()
            with open(path, "w", encoding="utf-8") as file:
                file.write(text.replace("requests_per_second: 50", "requests_per_second: 10000"))
        box.start()
        tables(box)
        askers = [Asker(box, i, time.monotonic() + 60 * MINUTES) for i in range(ASKERS)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        failed = sum(asker.failed for asker in askers)
        rho = max(asker.rho for asker in askers)
        lines = "".join(line + "\n" for asker in askers for line in asker.lines)
        note(f"{lines.count(chr(10))} answers, {failed} refused or replayed, rho {rho} each")
        ok(failed == 0 and rho > 0, "every question was answered anew")
        judged = subprocess.run([os.path.join(TOP, "tests/audit/audit_stream"), "COUNT(*), SUM(x) of a daemon, with and without a patient of a million rows",
                                 "3", str(rho), "0"], input=lines.encode(), stdout=subprocess.PIPE, check=False)
        note(judged.stdout.decode().strip())
        ok(judged.returncode == 0, "no lower bound lies above what was promised")
        left = [b for b in box.run("alpha", "budget", "with")["budget"] if b["node"] == "alpha"][0]
        asked = sum(line.startswith("1 ") for asker in askers for line in asker.lines)
        spent = left["rho_total"] - left["rho_left"]
        ok(abs(spent - asked * rho) < 1e-6, f"the ledger was charged {spent:.6f} rho for {asked} questions")
    done()


main()
