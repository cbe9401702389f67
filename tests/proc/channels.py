#!/usr/bin/env python3
"""What else than its numbers could tell of the data: sizes, times, refusals, withheld cells. Two sites of equal names' length answer the same
questions, one with a table of nobody, the other with one patient of 60,000 rows among thousands."""
import os
import re
import statistics
import time

from harness import Sandbox, done, licence, note, ok

MANIFEST = """dataset: t
version: "1"
size: 1000
unit: patient
max_rows_per_unit: 3
columns:
  - {name: patient, type: text, deidentify: pseudonym}
  - {name: x, type: real, min: 0, max: 100}
  - {name: sex, type: category, values: [F, M]}
"""
COHORT = 40
QUESTIONS = ["COUNT(*)", "SUM(x), AVG(x)", "sex, COUNT(*), STDDEV(x)", "MEDIAN(x)", "HISTOGRAM(x, 6)"]


def table(box, name, full):
    rows = ["patient,x,sex"]
    if full:
        rows += [f"p{i},{i % 101},{'FM'[i % 2]}" for i in range(3000)] + ["heavy,100,F"] * 60000
    else:
        rows += ["nobody,,"]  # one row, without any value
    path = box.write("rows.csv", "\n".join(rows) + "\n")
    box.run(name, "dataset", "import", box.write("m.yaml", MANIFEST + licence(epsilon_total=100000, per_query=1000, cohort=COHORT)), "--data", path)


def ask(box, site, number, what, epsilon=1):
    group = " GROUP BY sex" if what.startswith("sex") else ""
    return box.try_run("asker", "query", f"SELECT {what} FROM t WHERE x <> {1000 + number}{group}", "--sites", site, "--purpose", "DUO:0000006",
                       "--epsilon", epsilon)


def sizes_and_times(box):
    times = {"north": [], "south": []}
    number = 0
    for _ in range(4):
        for what in QUESTIONS:
            number += 1
            for site in ("north", "south"):
                began = time.monotonic()
                code, answer, text = ask(box, site, number, what)
                times[site].append(time.monotonic() - began)
                if code:
                    note(text)
                ok(code == 0, f"{site} answers {what}") if number <= len(QUESTIONS) else None
    sizes = {site: [row["bytes"] for row in box.run(site, "audit", "egress") if row["kind"] == "answer"] for site in times}
    ok(len(sizes["north"]) == number and sizes["north"] == sizes["south"], f"answers are of the same sizes, whatever is in the table: {sizes['north'][:5]}")
    middle = {site: statistics.median(took) for site, took in times.items()}
    note(f"median seconds: {middle}")
    ok(min(min(took) for took in times.values()) >= 0.1, "no answer comes before its tick of 100 ms")
    ok(abs(middle["north"] - middle["south"]) < 0.05, "nobody and 63,000 rows take the same time, to within half a tick")


def ticks(box):
    """The site's own log says when answers were ready and how long they waited."""
    waits = []
    for line in box.log("south").splitlines():
        found = re.search(r'"query.times".* all (\d+) .* wait (\d+) microseconds', line)
        if found:
            waits.append((int(found.group(1)) + int(found.group(2))) / 1000)
    ok(len(waits) >= 20 and all(abs(wait / 100 - round(wait / 100)) < 0.05 for wait in waits if wait < 1000),
       f"all {len(waits)} answers left on a whole number of ticks: {sorted(round(wait) for wait in waits)[:3]}...")


def refusals(box):
    cases = [("a column that is not there", "SELECT COUNT(nothing) FROM t", []), ("an action without grant", "SELECT COUNT(*) FROM t", ["--epsilon", "2000"]),
             ("no purpose", "SELECT COUNT(*) FROM t", None), ("more than all budget", "SELECT COUNT(*) FROM t", ["--epsilon", "200000"]),
             ("text as number", "SELECT SUM(sex) FROM t", [])]
    for name, sql, extra in cases:
        said = []
        for site in ("north", "south"):
            args = [] if extra is None else ["--purpose", "DUO:0000006"] + extra
            code, answer, _ = box.try_run("asker", "query", sql, "--sites", site, *args)
            error = answer.get("error", {})
            said.append((code, error.get("code"), error.get("detail", "").replace(site, "SITE"), str(error.get("sites")).replace(site, "SITE")))
        ok(said[0][0] != 0 and said[0] == said[1], f"{name}: both refuse in the same words (exit {said[0][0]})")
    lists = {site: [row["bytes"] for row in box.run(site, "audit", "egress") if row["kind"] == "answer"] for site in ("north", "south")}
    ok(lists["north"] == lists["south"], f"and with as many bytes: {lists['north'][-3:]}")


def cohort(box):
    """A group of exactly as many people as the least cohort: the noisy number decides, so both verdicts come."""
    rows = "patient,x,sex\n" + "".join(f"q{i},50,F\n" for i in range(COHORT))
    path = box.write("edge.csv", rows)
    text = MANIFEST.replace("dataset: t", "dataset: edge") + licence(epsilon_total=100000, per_query=1000, cohort=COHORT)
    box.run("north", "dataset", "import", box.write("m.yaml", text), "--data", path)
    box.wait("the catalogue", lambda: any(row["dataset"] == "edge" for row in box.run("asker", "catalog")["datasets"]))
    shown = 0
    for i in range(40):
        answer = box.run("asker", "query", f"SELECT COUNT(*), AVG(x) FROM edge WHERE x <> {1000 + i}", "--purpose", "DUO:0000006", "--epsilon", "1")
        withheld = any(site.get("withheld") for site in answer["sites"])
        shown += not withheld
        if withheld and any(value is not None for value in answer["rows"][0] + answer["margin95"][0]):
            ok(False, f"a withheld cell shows nothing at all: {answer['rows'][0]}")
    note(f"{shown} of 40 shown")
    ok(0 < shown < 40, "at the least cohort the noisy number decides (by chance always the same with probability 2^-39)")
    answer = box.run("asker", "query", "SELECT COUNT(*), SUM(x) FROM edge WHERE x < 10", "--purpose", "DUO:0000006", "--epsilon", "100")
    ok(answer["rows"][0] == [None, None], "where nobody is, nothing is shown, and the question is answered")


def raised(box):
    """An answer that is stored is held to the cohort of now: a licence that asks for more people withholds what it told before."""
    rows = "patient,x,sex\n" + "".join(f"s{i},{10 if i < 10 else 90},{'FM'[i % 2]}\n" for i in range(200))
    path = box.write("raised.csv", rows)
    text = MANIFEST.replace("dataset: t", "dataset: raised")
    yaml = [text.replace('version: "1"', f'version: "{i}"') + licence(epsilon_total=100000, per_query=1000, cohort=cohort) for i, cohort in ((1, 2), (2, 60))]
    box.run("north", "dataset", "import", box.write("m.yaml", yaml[0]), "--data", path)

    def ask_both():
        return [box.run("asker", "query", f"SELECT sex, COUNT(*) FROM raised WHERE x {side} 50 GROUP BY sex", "--purpose", "DUO:0000006", "--epsilon", "500")
                for side in ("<", ">")]
    before = ask_both()
    ok(all(row[1] is not None for answer in before for row in answer["rows"]), f"a cohort of 2 tells groups of 5 and 95: {[a['rows'] for a in before]}")
    box.run("north", "dataset", "update", box.write("m.yaml", yaml[1]))
    ok(box.wait("the new licence", lambda: all(a["replayed"] and a["rows"] == [["F", None], ["M", None]] for a in ask_both()[:1])) is not None,
       "raised to 60, the same question is replayed without the groups of 5")
    after = ask_both()
    ok(after[0]["sites"][0].get("withheld") == 2 and after[1]["replayed"] and after[1]["rows"] == before[1]["rows"] and after[1]["cost"]["rho"] == 0,
       "and those of 95 are as they were, at no cost")


def numbers(box):
    """NaN, infinities and what no double can hold, by fixed rules at import; and no row can raise an error in WHERE."""
    rows = ["patient,x,sex"] + [f"r{i},50,M" for i in range(500)]
    bad = ["nan", "NaN", "inf", "-inf", "1e999", "0x10", "1_000", "--5"]
    path = box.write("odd.csv", "\n".join(rows + [f"b{i},{text},M" for i, text in enumerate(bad)]) + "\n")
    text = MANIFEST.replace("dataset: t", "dataset: odd") + licence(epsilon_total=100000, per_query=1000, cohort=2)
    answer = box.run("north", "dataset", "import", box.write("m.yaml", text), "--data", path, "--max-rejects", "100")
    ok(answer["rows"] + answer["rejected"] == 508 and answer["rejected"] >= 6, f"{answer['rejected']} of {len(bad)} odd numbers are rejected, by rule")
    answer = box.run("asker", "query", "SELECT COUNT(*), SUM(x), AVG(x) FROM odd", "--purpose", "DUO:0000006", "--epsilon", "500")
    count, total, mean = answer["rows"][0]
    ok(abs(count - 500) <= 10 and abs(mean - 50) < 2 and abs(total - 25000) < 1000, "and poison no total")
    answer = box.run("asker", "query", "SELECT COUNT(*) FROM odd WHERE x >= -1e300 AND NOT x > 1e300 OR x IS NULL", "--purpose", "DUO:0000006", "--epsilon", "500")
    ok(abs(answer["rows"][0][0] - 500) <= 10, "constants beyond all bounds are compared, not refused")


def main():
    box = Sandbox("asker,north,south", start=False)
    with box:
        for name in box.names:
            path = os.path.join(box.home(name), "node.yaml")
            with open(path, encoding="utf-8") as file:
                text = file.read()
            with open(path, "w", encoding="utf-8") as file:
                file.write(text.replace("log_level: info", "log_level: debug"))
        box.start()
        table(box, "north", False)
        table(box, "south", True)
        for part in (sizes_and_times, ticks, refusals, cohort, raised, numbers):
            note(part.__name__)
            part(box)
    done()


main()
