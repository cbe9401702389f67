#!/usr/bin/env python3
"""Three nodes do the main job; each requirement that can be seen from outside is looked at once."""

import os
import sqlite3
import statistics
import time

from harness import Refused, Sandbox, done, flchain, licence, note, ok, rng

COLUMNS = """
  - {name: age, type: integer, min: 50, max: 110, deidentify: age90}
  - {name: sex, type: category, values: [F, M]}
  - {name: kappa, type: real, min: 0, max: 10}
  - {name: lambda, type: real, min: 0, max: 10}
  - {name: flc_group, type: integer, min: 1, max: 10, source: flc.grp}
  - {name: creatinine, type: real, min: 0, max: 5, missing: ["", NA]}
  - {name: mgus, type: boolean}
  - {name: futime, type: integer, min: 0, max: 6000}
  - {name: death, type: boolean}
"""


def manifest(name, terms):
    return f"dataset: {name}\nversion: \"1\"\ntitle: Test table\nsize: 2500\ncolumns:{COLUMNS}{terms}"


def pooled():
    """sqlite3 on all rows, after the manifest's de-identification and clamping."""
    rows = flchain()
    head = rows[0]
    take = [head.index(c) for c in ("age", "sex", "kappa", "lambda", "flc.grp", "creatinine", "mgus", "futime", "death")]
    db = sqlite3.connect(":memory:")
    moments(db)
    db.execute("CREATE TABLE t(age, sex, kappa, lambda, flc_group, creatinine, mgus, futime, death)")

    def clamp(text, low, high):
        return None if text in ("", "NA") else min(max(float(text), low), high)

    for row in rows[1:]:
        v = [row[i] for i in take]
        db.execute("INSERT INTO t VALUES(?,?,?,?,?,?,?,?,?)",
                   (min(int(v[0]), 90), v[1], clamp(v[2], 0, 10), clamp(v[3], 0, 10), int(v[4]), clamp(v[5], 0, 5), int(v[6]),
                    clamp(v[7], 0, 6000), int(v[8])))
    return db


def condition():
    def leaf():
        kind = rng.randrange(6)
        if kind == 0:
            low = rng.randrange(50, 80)
            return f"age BETWEEN {low} AND {low + rng.randrange(5, 30)}"
        if kind == 1:
            return f"creatinine {rng.choice(['<', '<=', '>', '>='])} {rng.uniform(0.6, 1.6):.2f}"
        if kind == 2:
            return f"flc_group IN ({', '.join(map(str, rng.sample(range(1, 11), 4)))})"
        if kind == 3:
            return rng.choice(["sex = 'F'", "sex <> 'F'"])
        if kind == 4:
            return rng.choice(["creatinine IS NULL", "creatinine IS NOT NULL", "death = 1", "mgus = 0"])
        return f"kappa > {rng.uniform(0.5, 2):.2f}"

    terms = [leaf() for _ in range(rng.randrange(1, 4))]
    text = terms[0]
    for term in terms[1:]:
        text = f"({text} {rng.choice(['AND', 'OR'])} {rng.choice(['', 'NOT '])}({term}))"
    return text


class Moments:
    """Aggregates that sqlite3 lacks, by Python's statistics; over rows in which every argument has a value."""

    def __init__(self):
        self.rows = []

    def step(self, *values):
        if None not in values:
            self.rows.append([float(value) for value in values])

    def finalize(self):
        try:
            return self.of(*zip(*self.rows))
        except (statistics.StatisticsError, TypeError):
            return None


def moments(db):
    for name, arguments, function in (("VAR", 1, statistics.variance), ("STDDEV", 1, statistics.stdev),
                                      ("CORR", 2, statistics.correlation)):
        db.create_aggregate(name, arguments, type(name, (Moments,), {"of": staticmethod(function)}))


def question():
    items = rng.sample(["COUNT(*)", "COUNT(creatinine)", "SUM(kappa)", "AVG(creatinine)", "AVG(age)", "SUM(futime)", "AVG(lambda)", "VAR(age)",
                        "STDDEV(creatinine)", "CORR(kappa, lambda)", "CORR(age, creatinine)"],
                       rng.randrange(1, 4))
    groups = rng.choice([[], [], ["sex"], ["sex", "death"]])
    sql = "SELECT " + ", ".join(groups + items) + " FROM flchain"
    if rng.random() < 0.8:
        sql += " WHERE " + condition()
    return sql + (" GROUP BY " + ", ".join(groups) if groups else ""), groups


def agree(box, db, sql, groups, epsilon, seen):
    """One question against sqlite3: no cell further off than twice its margin (and a thousandth). SEEN counts cells and those inside."""
    answer = box.run(rng.choice(box.names), "query", sql, "--purpose", "DUO:0000006", "--epsilon", epsilon)
    truth = {}
    for row in db.execute(sql.replace("FROM flchain", "FROM t")):
        key = tuple("true" if v == 1 else "false" if v == 0 else str(v) for v in row[:len(groups)])
        truth[key] = row[len(groups):]
    where = sql.split(" FROM flchain", 1)[1].split(" GROUP BY", 1)[0]
    counts = [row[0] for row in db.execute(f"SELECT COUNT(*) FROM t {where}" + (" GROUP BY " + ", ".join(groups) if groups else ""))]
    if min(counts, default=0) < 30 and any(site.get("withheld") for site in answer["sites"]):
        return True  # a site kept a small cell to itself, as min_cohort asks: the sum is then of the others
    fine = True
    for row, margin in zip(answer["rows"], answer["margin95"]):
        for got, width, want in zip(row[len(groups):], margin[len(groups):], truth.get(tuple(row[:len(groups)]), ())):
            want = want or 0
            if got is None:
                continue
            seen[0] += 1
            seen[1] += abs(got - want) <= (width or 0) + 1e-9 * abs(want)
            if abs(got - want) > max(1e-3 * abs(want), 2 * (width or 0)):
                fine = False
                note(f"{sql}: got {got} +- {width}, sqlite3 has {want}")
    return fine


def compare(box, db):
    """50 generated queries at epsilon 1000. Twice the margin is 3.9 standard deviations, which about 190 cells exceed in one run of 60;
    so a question that is off is asked again with fresh noise, and is wrong only when it is off both times."""
    good = 0
    seen = [0, 0]
    for _ in range(50):
        sql, groups = question()
        good += agree(box, db, sql, groups, 1000, seen) or agree(box, db, sql, groups, 999, seen)
    ok(good == 50, f"{good} of 50 generated queries agree with sqlite3 on the pooled rows")
    ok(seen[0] > 50 and seen[1] >= 0.9 * seen[0], f"{seen[1]} of {seen[0]} cells lie within the printed margin")


def main():
    began = time.monotonic()
    with Sandbox("alpha,beta,gamma") as box:
        took = time.monotonic() - began
        ok(took < 10, f"create and start of three nodes took {took:.1f} s, less than 10")
        peers = box.run("alpha", "peers")
        ok(len(peers) == 3 and all(p["state"] in ("self", "up") for p in peers), "every peer is up")

        split = box.run("alpha", "sandbox", "split", os.path.join(os.environ["top_srcdir"], "deploy/demo-files/data/flchain.csv"), "--into", box.dir)
        ok(sum(part["rows"] for part in split["parts"]) == 7874, "split keeps every row")
        wide = box.write("wide.yaml", manifest("flchain", licence(epsilon_total=1000000, per_query=10000)))
        rows = 0
        for name in box.names:
            report = box.run(name, "dataset", "import", wide, "--data", f"{box.dir}/{name}.csv")
            rows += report["rows"]
            ok(report["rejected"] == 0 and report["deidentified"]["age"] == "age90", f"{name} imports {report['rows']} rows")
        ok(rows == 7874, "all rows were imported")
        seen = box.wait("catalogue", lambda: all(len(box.run(n, "catalog")["datasets"]) == 3 for n in box.names))
        ok(seen is not None, f"every node knows all three datasets after {seen or 0:.1f} s")

        compare(box, pooled())

        sql = "SELECT sex, COUNT(*), AVG(creatinine) FROM flchain GROUP BY sex"
        first = box.run("beta", "query", sql, "--purpose", "DUO:0000006", "--epsilon", "0.5")
        again = box.run("beta", "query", "select sex, count(*), avg(creatinine) from flchain group by sex;", "--purpose", "DUO:0000006", "--epsilon", "0.5")
        ok(first["replayed"] is False and again["replayed"] is True, "the same question in other words is replayed")
        ok(first["rows"] == again["rows"] and again["cost"]["rho"] == 0, "with the same numbers, at no cost")
        left = [b["rho_left"] for b in first["budget"]]
        ok(left == [b["rho_left"] for b in again["budget"]], "and the budget stands as before")
        ok(abs(first["cost"]["rho"] - 0.006641525) < 2e-9, f"epsilon 0.5 at delta 1e-6 costs rho {first['cost']['rho']}")
        explained = box.run("alpha", "query", "SELECT SUM(kappa) FROM flchain", "--purpose", "DUO:0000006", "--epsilon", "1", "--explain")
        ok(explained["rows"] == [] and [b["rho_left"] for b in explained["budget"]] == left, "--explain spends nothing")

        code, error = box.refusal("gamma", "query", "SELECT COUNT(*) FROM flchain", "--purpose", "DUO:0000042")
        ok(code == 4 and {s.get("reason") for s in error.get("sites", [])} == {"PURPOSE"}, "the wrong purpose is refused: exit 4, PURPOSE")
        code, error = box.refusal("gamma", "query", "SELECT COUNT(*) FROM flchain", "--purpose", "DUO:0000006", "--mode", "secure")
        ok(code == 4 and error.get("code") == "UNSUPPORTED", "--mode secure is refused, not weakened")
        code, error = box.refusal("gamma", "query", "SELECT AVG(creatinin) FROM flchain", "--purpose", "DUO:0000006")
        ok(code == 7 or code == 2 and "creatinine" in error.get("detail", ""), "a misspelt column is named with a suggestion")
        ok("creatinine" in error.get("detail", ""), "the suggestion is the right column")

        tight = box.write("tight.yaml", manifest("tight", licence(epsilon_total=2, per_query=2)))
        box.run("alpha", "dataset", "import", tight, "--data", f"{box.dir}/alpha.csv")
        spent = []
        for i in range(20):
            code, answer, _ = box.try_run("alpha", "query", f"SELECT COUNT(*) FROM tight WHERE futime > {i}", "--purpose", "DUO:0000006", "--epsilon", "0.8")
            spent.append(code)
            if code:
                break
        before = box.run("alpha", "budget", "tight")["budget"][0]
        code, error = box.refusal("alpha", "query", "SELECT COUNT(*) FROM tight WHERE futime > 999", "--purpose", "DUO:0000006", "--epsilon", "0.8")
        after = box.run("alpha", "budget", "tight")["budget"][0]
        ok(spent[0] == 0 and spent[-1] == 5 and code == 5, f"the budget ends: exit codes {spent}")
        ok(before == after, "a refused question spends nothing")

        box.run("gamma", "licence", "withdraw", "flchain", "--reason", "test")
        heard = box.wait("withdrawal", lambda: [d["licence"]["state"] for d in box.run("alpha", "catalog")["datasets"] if d["node"] == "gamma"] == ["withdrawn"])
        ok(heard is not None, "the withdrawal is heard by others")
        answer = box.run("alpha", "query", "SELECT SUM(lambda) FROM flchain", "--purpose", "DUO:0000006", "--epsilon", "1")
        states = {s["node"]: (s["status"], s.get("reason")) for s in answer["sites"]}
        ok(states["gamma"] == ("refused", "REVOKED") and states["beta"][0] == "answered", f"and takes effect at once: {states}")

        box.kill("beta")
        answer = box.run("alpha", "query", "SELECT SUM(futime) FROM flchain", "--purpose", "DUO:0000006", "--epsilon", "1", "--timeout", "3s")
        states = {s["node"]: s["status"] for s in answer["sites"]}
        ok(states["beta"] == "unreachable" and states["alpha"] == "answered", "a node that does not answer is named")
        code, error = box.refusal("alpha", "query", "SELECT SUM(age) FROM flchain", "--purpose", "DUO:0000006", "--timeout", "3s", "--min-sites", "3")
        ok(code in (4, 6), f"too few sites: exit {code}")
        box.run("alpha", "dataset", "update", box.write("new.yaml", manifest("tight", licence(epsilon_total=3, per_query=1))))
        box.start()
        caught = box.wait("catching up", lambda: [d["budget"]["epsilon_total"] for d in box.run("beta", "catalog")["datasets"] if d["dataset"] == "tight"] == [3.0], 10)
        ok(caught is not None, f"a node that was down catches up {caught or 0:.1f} s after it is back")

        for name in box.names:
            report = box.run(name, "audit", "verify")
            ok(report["ok"] and report["entries"] > 0, f"{name}'s audit chain of {report['entries']} entries verifies beside its daemon")
        ok({row["peer"] for row in box.run("beta", "audit", "egress") if row["kind"] == "answer"} <= {"alpha", "beta", "gamma"}, "egress names who got answers")
        export = os.path.join(box.folder, "export")
        box.run("alpha", "audit", "export", export)
        ok(box.run("alpha", "audit", "verify", "--file", export)["ok"], "an export verifies")
        with open(export, "r+b") as file:
            file.seek(os.path.getsize(export) // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        ok(box.refusal("alpha", "audit", "verify", "--file", export)[0] == 8 or box.try_run("alpha", "audit", "verify", "--file", export)[0] == 8, "a changed byte in it: exit 8")
    done()


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
