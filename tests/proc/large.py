#!/usr/bin/env python3
"""Data that do not fit into memory: a daemon that imports them stays below 256 MiB, draws its progress on a terminal, and answers from
the old version until the new one is whole; and single fields, lines and objects of 1 GiB."""
import gzip
import os
import re
import select
import signal
import subprocess
import time

from harness import TOP, Refused, Sandbox, done, licence, note, ok, skip, terminal

LIMIT_KB = 256 << 10
HEAD = """dataset: NAME
version: "1"
size: 100000
unit: patient
max_rows_per_unit: 4
"""
TABLE = HEAD + """columns:
  - {name: patient, type: text, deidentify: pseudonym}
  - {name: age, type: integer, min: 0, max: 110, deidentify: age90}
  - {name: sex, type: category, values: [F, M]}
  - {name: zip, type: text, deidentify: zip3}
  - {name: seen, type: date, deidentify: dateshift}
  - {name: score, type: real, min: 0, max: 100}
  - {name: note, type: text, deidentify: redact}
""" + licence(epsilon_total=100000, per_query=1000)
CONDITIONS = HEAD + """mapping: fhir-condition
columns:
  - {name: patient, type: text, deidentify: pseudonym}
  - {name: sex, type: category, values: [F, M]}
  - {name: age, type: integer, min: 0, max: 110, deidentify: age90}
  - {name: code, type: category, values: [I10]}
""" + licence(epsilon_total=100000, per_query=1000)


def peak_kb(box):
    with open(f"/proc/{box.pid('alpha')}/status", encoding="ascii") as file:
        return int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1))


def small_enough(box, what):
    peak = peak_kb(box)
    ok(peak < LIMIT_KB, f"{what}: the daemon needed at most {peak >> 10} MiB")


def count(box, name):
    return round(box.run("alpha", "query", f"SELECT COUNT(*) FROM {name}", "--purpose", "DUO:0000006", "--epsilon", "900")["rows"][0][0])


def write_table(path, blocks, rows=100000):
    with open(path, "wb") as file:
        file.write(b"patient,age,sex,zip,seen,score,note\n")
        block = b"".join(b"p%d,%d,%c,%05d,2024-%02d-%02d,%.2f,seen again\n" % (i, i % 100, b"FM"[i % 2], i % 99999, 1 + i % 12, 1 + i % 28, i % 9999 / 100)
                         for i in range(rows))
        for _ in range(blocks):
            file.write(block)
    return blocks * rows


class Terminal:
    """The command on a terminal of its own, and all that it drew; without any where there is none."""

    def __init__(self, box, *args):
        self.drawn = b""
        pair = terminal()
        self.real = pair is not None
        self.master, slave = pair or os.pipe()
        self.process = subprocess.Popen([os.path.join(TOP, "concordat"), "--home", box.home("alpha"), *args], stdin=subprocess.DEVNULL, stdout=slave, stderr=slave)
        os.close(slave)

    def read(self, seconds):
        """Until then, or the end."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    got = os.read(self.master, 65536)
                except OSError:
                    return False
                if not got:
                    return False
                self.drawn += got
        return True

    def end(self):
        while self.read(300):
            pass
        os.close(self.master)
        return self.process.wait(300)


def table(box):
    path = os.path.join(box.folder, "large.csv")
    manifest = box.write("large.yaml", TABLE.replace("NAME", "large"))
    write_table(path, 1, 5000)
    box.run("alpha", "dataset", "import", manifest, "--data", path)
    rows = write_table(path, 25)
    size = os.path.getsize(path)
    screen = Terminal(box, "dataset", "import", manifest, "--data", path)
    screen.read(1.2)
    busy = screen.process.poll() is None
    old = count(box, "large")
    still = screen.process.poll() is None
    ok(busy and (old == 5000 or not still), f"while the new version is written the old one answers: {old} rows")
    code = screen.end()
    drawn = screen.drawn.decode(errors="replace")
    ok(code == 0 and box.run("alpha", "dataset", "show", "large")["rows"] == rows, f"then the new one does: {rows} rows, {size >> 20} MiB")
    bar = "the terminal showed a bar, the rate and the time left"
    if not screen.real:
        skip(bar, "this machine gives no pseudo-terminal")
    elif not ok(re.search(r"importing, \d+ rows \[[#.]{24}\] +\d+ %  \d+\.\d MiB/s  \d+ s left", drawn), bar):
        note(drawn[-400:])
    small_enough(box, f"CSV of {size >> 20} MiB")
    os.unlink(path)
    limit(box)


def limit(box):
    """A scan that takes longer than the node allows ends between two chunks."""
    path = os.path.join(box.home("alpha"), "node.yaml")
    with open(path, encoding="utf-8") as file:
        before = file.read()
    left = box.run("alpha", "budget", "large")["budget"][0]["rho_left"]
    asked, costs = [], []

    def ask():
        asked.append(f"SELECT COUNT(*) FROM large WHERE score > {len(asked)}.5")
        code, answer, _ = box.try_run("alpha", "query", asked[-1], "--purpose", "DUO:0000006", "--epsilon", "1")
        if code:
            return answer["error"]["sites"][0]["status"]
        costs.append(answer["cost"]["rho"])
        return "answered"

    def write(text):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.kill(box.pid("alpha"), signal.SIGHUP)

    write(re.sub(r"scan_limit_ms: \d+", "scan_limit_ms: 1", before))
    ok(box.wait("the limit", lambda: ask() == "unavailable") is not None, "a scan of 1 ms is not enough for 2,500,000 rows: the site is unavailable")
    ok("longer than limits.scan_limit_ms" in box.log("alpha"), "its log says why")
    write(before)
    ok(box.wait("no limit", lambda: ask() == "answered") is not None, "with the limit of before it answers")
    spent = left - box.run("alpha", "budget", "large")["budget"][0]["rho_left"]
    ok(abs(spent - len(asked) * costs[-1]) < 1e-6, f"all {len(asked)} questions were charged, {len(costs)} of them answered")


def export(box):
    """800,000 patients, more than the joins may keep in memory, behind the Conditions that refer to some of them."""
    people, conditions = 800000, 100000
    manifest = box.write("export.yaml", CONDITIONS.replace("NAME", "export"))
    first, second = os.path.join(box.folder, "Condition.ndjson"), os.path.join(box.folder, "Patient.ndjson.gz")
    with open(first, "wb") as file:
        for i in range(conditions):
            file.write(b'{"resourceType":"Condition","subject":{"reference":"Patient/%d"},"onsetDateTime":"2020-06-01","code":{"coding":'
                       b'[{"system":"http://hl7.org/fhir/sid/icd-10","code":"I10"}]}}\n' % (i * 7919 % people))
    with gzip.open(second, "wb", compresslevel=1) as file:
        file.write(b"".join(b'{"resourceType":"Patient","id":"%d","gender":"%s","birthDate":"19%02d-05-20"}\n' % (i, (b"female", b"male")[i % 2], i % 100)
                            for i in range(people)))
    answer = box.run("alpha", "dataset", "import", manifest, "--data", first, "--data", second)
    ok((answer["rows"], answer["unjoined"], answer["rejected"]) == (conditions, 0, 0), f"{conditions} Conditions found theirs among {people} Patients")
    rows = {row[0]: round(row[1]) for row in box.run("alpha", "query", "SELECT sex, COUNT(*) FROM export GROUP BY sex", "--purpose", "DUO:0000006", "--epsilon", "900")["rows"]}
    want = {"F": sum(i * 7919 % people % 2 == 0 for i in range(conditions)), "M": sum(i * 7919 % people % 2 for i in range(conditions))}
    ok(rows == want, f"and their sex: {rows}")
    ok(not [name for name in os.listdir(os.path.join(box.home("alpha"), "partitions")) if "join" in name], "no file of the join is left")
    small_enough(box, "FHIR with joins beyond the memory that they may take")


def sparse(box, name, begin, end):
    """BEGIN, a hole up to 1 GiB, END: a file that costs no disk."""
    path = os.path.join(box.folder, name)
    with open(path, "wb") as file:
        file.write(begin)
        file.seek((1 << 30) - len(end))
        file.write(end)
    return path


def giants(box):
    table_yaml = box.write("giant.yaml", TABLE.replace("NAME", "giant"))
    fhir_yaml = box.write("giants.yaml", CONDITIONS.replace("NAME", "giants"))
    header = b"patient,age,sex,zip,seen,score,note\n"
    row = b"p1,1,F,10115,2024-01-01,1,x\n"
    condition = b'{"resourceType":"Condition","subject":{"reference":"Patient/1"}}\n'
    cases = [
        ("a field", table_yaml, sparse(box, "f.csv", header + row + b'p2,1,F,10115,2024-01-01,1,"' + b"x" * 100000, b'"\n'), "LIMIT", "line 3"),
        ("a field without quotes", table_yaml, sparse(box, "g.csv", header + row + b"p" * 100000, b"\n"), "LIMIT", "line 3"),
        ("a line of NDJSON", table_yaml, sparse(box, "h.ndjson", b'{"patient":"p1"}\n{"patient":"', b'"}\n'), "INVALID", "line 2: is too long"),
        ("a resource", fhir_yaml, sparse(box, "r.ndjson", condition + condition[:-2] + b',"note":"' + b"x" * (5 << 20), b'"}\n'), "INVALID", "line 2: holds a zero"),
        ("an entry of a Bundle", fhir_yaml, sparse(box, "b.json", b'{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"a":"' + b"x" * (5 << 20), b'"}}]}\n'),
         "INVALID", "line 1: "),
    ]
    for what, manifest, path, kind, word in cases:
        start = time.monotonic()
        code, error = box.refusal("alpha", "dataset", "import", manifest, "--data", path)
        ok(code == 7 and error.get("code") == kind and word in error.get("detail", ""),
           f"{what} of 1 GiB: exit {code}, {error.get('code')}, {time.monotonic() - start:.1f} s")
        os.unlink(path)
    small_enough(box, "giants")


def main():
    with Sandbox("alpha") as box:
        table(box)
        export(box)
        giants(box)
    done()


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
