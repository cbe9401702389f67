#!/usr/bin/env python3
"""500 random questions at epsilon 1000 against sqlite3 on the pooled rows, and against plain Python for what sqlite3 lacks.

No number may be further off than the larger of a thousandth of it and twice its margin. Twice the margin is 3.9 standard deviations of
the noise, which one number in 11,000 exceeds by chance; a question that is off is asked again with fresh noise and counts as wrong only when
it is off both times: less than once in 1,000 runs for all 500 together."""

import bisect
import datetime
import math
import os
import random
import re
import sqlite3
import statistics
import threading
from concurrent.futures import ThreadPoolExecutor

from harness import Refused, Sandbox, done, flchain, licence, note, ok, rng

FLCHAIN = """
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
VISITS = """
  - {name: patient, type: text, deidentify: pseudonym}
  - {name: ward, type: category, values: private}
  - {name: arm, type: category, values: [a, b, none]}
  - {name: score, type: integer, min: 0, max: 40}
  - {name: cost, type: real, min: -50, max: 200}
  - {name: weight, type: real, min: 30, max: 150}
  - {name: seen, type: date, min: 2020-01-01, max: 2021-12-31}
  - {name: urgent, type: boolean}
"""
QUESTIONS = 500
checking = threading.Lock()  # sqlite3 with functions in Python may lock up when threads share a connection


def manifest(name, columns, extra=""):
    terms = licence(epsilon_total=1000000, per_query=10000)
    return f"dataset: {name}\nversion: \"1\"\ntitle: Test table\nsize: 2500\n{extra}columns:{columns}{terms}"


# ---- what sqlite3 lacks -------------------------------------------------------------------------

class Collected:
    """An aggregate over the rows in which every argument has a value."""

    def __init__(self):
        self.rows = []

    def step(self, *values):
        if None not in values:
            self.rows.append([float(value) for value in values])

    def finalize(self):
        try:
            return self.of(*zip(*self.rows))
        except (statistics.StatisticsError, TypeError, IndexError):
            return None


def quantile(values, q):
    """Linear between order statistics: type 7 of Hyndman and Fan, which numpy, R and PERCENTILE_CONT use."""
    values = sorted(values)
    at = q * (len(values) - 1)
    low = math.floor(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (at - low) * (values[high] - values[low])


def add_aggregates(db):
    for name, arguments, function in (("VAR", 1, statistics.variance), ("STDDEV", 1, statistics.stdev), ("CORR", 2, statistics.correlation),
                                      ("MEDIAN", 1, lambda x: quantile(x, 0.5)), ("QUANTILE", 2, lambda x, q: quantile(x, q[0]))):
        db.create_aggregate(name, arguments, type(name, (Collected,), {"of": staticmethod(function)}))


def solve(a, b):
    """Gauss and Jordan with pivots: the solution and the inverse."""
    n = len(a)
    m = [list(row) + [b[i]] + [float(i == j) for j in range(n)] for i, row in enumerate(a)]
    for c in range(n):
        best = max(range(c, n), key=lambda r: abs(m[r][c]))
        m[c], m[best] = m[best], m[c]
        m[c] = [v / m[c][c] for v in m[c]]
        for r in range(n):
            if r != c:
                m[r] = [v - m[r][c] * w for v, w in zip(m[r], m[c])]
    return [row[n] for row in m], [row[n + 1:] for row in m]


def regression(rows):
    """Coefficients and standard errors of the first column on a constant and the others."""
    xs = [[1.0] + list(row[1:]) for row in rows]
    k = len(xs[0])
    a = [[sum(x[i] * x[j] for x in xs) for j in range(k)] for i in range(k)]
    beta, inverse = solve(a, [sum(x[i] * row[0] for x, row in zip(xs, rows)) for i in range(k)])
    rss = sum((row[0] - sum(c * v for c, v in zip(beta, x))) ** 2 for x, row in zip(xs, rows))
    s2 = rss / (len(rows) - k)
    return [(beta[i], math.sqrt(s2 * inverse[i][i])) for i in range(k)], s2


def edges(low, high, bins):
    return [low + (high - low) * (i / bins) for i in range(bins)] + [high]


def class_of(cuts, value):
    return min(max(bisect.bisect_right(cuts, value) - 1, 0), len(cuts) - 2)


def life_table(rows, low, high, bins):
    """Events, at risk and survival by bin."""
    cuts = edges(low, high, bins)
    events, others = [0] * bins, [0] * bins
    for time, event in rows:
        (events if event else others)[class_of(cuts, time)] += 1
    table, survival, at_risk = [], 1.0, len(rows)
    for i in range(bins):
        if at_risk:
            survival *= 1 - events[i] / at_risk
        table.append((cuts[i + 1], events[i], at_risk, survival))
        at_risk -= events[i] + others[i]
    return table


def logrank(tables):
    """Chi-square of two groups."""
    score = variance = 0.0
    for (_, d1, n1, _), (_, d2, n2, _) in zip(*tables):
        n, d = n1 + n2, d1 + d2
        if n > 1:
            score += d1 - n1 * d / n
            variance += d * (n - d) / (n - 1) * n1 / n * (1 - n1 / n)
    return score * score / variance if variance else None


# ---- tables ---------------------------------------------------------------------------------------

def clamp(text, low, high):
    return None if text in ("", "NA") else min(max(float(text), low), high)


def pooled_flchain():
    rows = flchain()
    head = rows[0]
    take = [head.index(c) for c in ("age", "sex", "kappa", "lambda", "flc.grp", "creatinine", "mgus", "futime", "death")]
    out = []
    for row in rows[1:]:
        v = [row[i] for i in take]
        out.append((min(int(v[0]), 90), v[1], clamp(v[2], 0, 10), clamp(v[3], 0, 10), int(v[4]), clamp(v[5], 0, 5), int(v[6]),
                    clamp(v[7], 0, 6000), int(v[8])))
    return out


EPOCH = datetime.date(1970, 1, 1)


def days(text):
    return (datetime.date.fromisoformat(text) - EPOCH).days


def make_visits(box):
    """Rows of patients with one to five visits at two nodes. Returns the pooled rows with their node."""
    pooled = []
    for number, (name, patients) in enumerate(zip(box.names, (700, 500))):
        lines = ["patient,ward,arm,score,cost,weight,seen,urgent"]
        for p in range(patients):
            weight = rng.gauss(75, 12)
            for _ in range(rng.randrange(1, 6)):
                ward = rng.choice(["east", "west", "north", "n" + str(number), "o'dd \"one"]) if rng.random() < 0.97 else f"rare{p}"
                score = min(40, int(rng.expovariate(0.1)))
                values = [ward, rng.choice(["a", "b", "none", ""]), str(score), f"{rng.gauss(40 + score, 40):.2f}",
                          f"{min(max(weight + rng.gauss(0, 3), 30), 150):.1f}", f"{rng.choice([2020, 2021])}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}",
                          rng.choice(["true", "false"])]
                values = ["" if i != 1 and rng.random() < 0.05 else v for i, v in enumerate(values)]
                quoted = ['"' + v.replace('"', '""') + '"' if '"' in v else v for v in values]
                lines.append(f"{name}{p}," + ",".join(quoted))
                w, arm, s, cost, kg, seen, urgent = [v if v else None for v in values]
                pooled.append((number, f"{name}{p}", w, arm, s and int(s), cost and clamp(cost, -50, 200), kg and clamp(kg, 30, 150), seen and days(seen),
                               urgent and int(urgent == "true")))
        box.write(f"visits.{name}.csv", "\n".join(lines) + "\n")
    return pooled


def database(flchain_rows, visit_rows):
    db = sqlite3.connect(":memory:", check_same_thread=False)
    add_aggregates(db)
    db.execute("CREATE TABLE flchain(age, sex, kappa, lambda, flc_group, creatinine, mgus, futime, death)")
    db.executemany("INSERT INTO flchain VALUES(?,?,?,?,?,?,?,?,?)", flchain_rows)
    db.execute("CREATE TABLE visits(node, patient, ward, arm, score, cost, weight, seen, urgent)")
    db.executemany("INSERT INTO visits VALUES(?,?,?,?,?,?,?,?,?)", visit_rows)
    return db


# ---- questions ------------------------------------------------------------------------------------

class Table:
    """What may be asked of one table: (name, low, high) of numbers, groups with their values, conditions."""

    def __init__(self, name, numbers, groups, unit, leaves, pairs, times):
        self.name, self.numbers, self.groups, self.unit, self.leaves, self.pairs, self.times = name, numbers, groups, unit, leaves, pairs, times


def date_text(day):
    return (EPOCH + datetime.timedelta(days=day)).isoformat()


def flchain_leaf(r):
    kind = r.randrange(7)
    if kind == 0:
        low = r.randrange(50, 80)
        return f"age BETWEEN {low} AND {low + r.randrange(5, 30)}"
    if kind == 1:
        return f"creatinine {r.choice(['<', '<=', '>', '>=', '<>'])} {r.uniform(0.6, 1.6):.1f}"
    if kind == 2:
        return f"flc_group {r.choice(['', 'NOT '])}IN ({', '.join(map(str, r.sample(range(1, 11), 4)))})"
    if kind == 3:
        return r.choice(["sex = 'F'", "sex <> 'F'"])
    if kind == 4:
        return r.choice(["creatinine IS NULL", "creatinine IS NOT NULL", "death = 1", "mgus = 0"])
    if kind == 5:
        return r.choice(["1 = 2", "age > 200", "TRUE"])
    return f"kappa > {r.uniform(0.5, 2):.2f}"


def visits_leaf(r):
    kind = r.randrange(6)
    if kind == 0:
        low = r.randrange(0, 30)
        return f"score {r.choice(['', 'NOT '])}BETWEEN {low} AND {low + r.randrange(1, 20)}"
    if kind == 1:
        return f"cost {r.choice(['<', '>='])} {r.uniform(-20, 120):.2f}"
    if kind == 2:
        return r.choice(["arm = 'a'", "arm IN ('a', 'b')", "arm IS NULL", "arm <> 'none'", "urgent = 1", "urgent IS NOT NULL", "weight IS NULL"])
    if kind == 3:
        return f"weight > {r.uniform(50, 90):.1f}"
    if kind == 4:
        return f"seen {r.choice(['<', '>='])} '{date_text(r.randrange(18262, 18990))}'"
    if r.random() < 0.5:
        return r.choice(["ward = 'east'", "ward <> 'west'", "ward NOT IN ('east', 'rare7', 'o''dd \"one')", "ward IN ('n1', 'nowhere', 'north')",
                         "ward = 'nowhere'", "ward <> 'nowhere'", "NOT ward = 'east'"])
    return r.choice(["score = 3", "score < 0", "weight < 75 OR urgent = 0"])


TABLES = [
    Table("flchain", [("age", 50, 90), ("kappa", 0, 10), ("lambda", 0, 10), ("creatinine", 0, 5), ("futime", 0, 6000), ("flc_group", 1, 10)],
          [["sex"], ["sex", "death"], ["death", "mgus"], ["flc_group"]], None, flchain_leaf, [("kappa", "lambda"), ("age", "creatinine"), ("death", "age")],
          ("futime", 0, 6000, "death")),
    Table("visits", [("score", 0, 40), ("cost", -50, 200), ("weight", 30, 150)], [["arm"], ["urgent", "arm"], ["score"], ["ward"], ["ward", "urgent"]], "patient",
          visits_leaf, [("score", "cost"), ("weight", "urgent")], ("score", 0, 40, "urgent")),
]


def condition(table, r):
    terms = [table.leaves(r) for _ in range(r.randrange(1, 4))]
    text = f"({terms[0]})" if "OR" in terms[0] else terms[0]
    for term in terms[1:]:
        text = f"({text} {r.choice(['AND', 'OR'])} {r.choice(['', 'NOT '])}({term}))"
    return text


def single(table, r):
    name, low, high = r.choice(table.numbers)
    kinds = ["COUNT(*)", f"COUNT({name})", f"SUM({name})", f"AVG({name})", f"VAR({name})", f"STDDEV({name})", f"MIN({name})", f"MAX({name})",
             f"MEDIAN({name})", f"QUANTILE({name}, {r.choice(['0.1', '0.25', '0.9', '0.995'])})", "CORR({}, {})".format(*r.choice(table.pairs))]
    if table.unit:
        kinds += [f"COUNT(DISTINCT {table.unit})", "MEDIAN(seen)", "COUNT(seen)"]
    return r.choice(kinds)


class Question:
    """One question: its text, and the same for sqlite3."""

    def __init__(self, r):
        self.table = table = r.choice(TABLES)
        self.where = f" WHERE {condition(table, r)}" if r.random() < 0.75 else ""
        self.kind = r.choices(["single", "HISTOGRAM", "LINREG", "SURVIVAL"], [0.76, 0.08, 0.08, 0.08])[0]
        self.groups = r.choice([[], [], *table.groups])
        if self.kind != "single" and "ward" in self.groups:
            self.groups = ["arm"]
        if self.kind == "single":
            self.items = []
            for _ in range(r.randrange(1, 4)):
                item = single(table, r)
                if item not in self.items and not ("ward" in self.groups and item.startswith(("M", "Q"))):
                    self.items.append(item)
            self.items = self.items or ["COUNT(*)"]
        elif self.kind == "HISTOGRAM":
            self.column = r.choice(table.numbers)
            self.bins = r.choice([1, 3, 8, 20, 64])
            self.items = [f"HISTOGRAM({self.column[0]}, {self.bins})"]
        elif self.kind == "LINREG":
            self.columns = [c[0] for c in r.sample(table.numbers, r.randrange(2, len(table.numbers) + 1))]
            self.items = [f"LINREG({', '.join(self.columns)})"]
        else:
            self.bins = r.choice([2, 6, 13, 40])
            self.items = [f"SURVIVAL({table.times[0]}, {table.times[3]}, {self.bins})"]
            if table.unit:
                self.items, self.kind = ["COUNT(*)"], "single"  # one row of each patient counts: not what sqlite3 would answer
        tail = self.where + (" GROUP BY " + ", ".join(self.groups) if self.groups else "")
        self.sql = "SELECT " + ", ".join(self.groups + self.items) + f" FROM {table.name}{tail}"
        self.for_sqlite = re.sub(r"(seen \S+) '([0-9-]+)'", lambda m: f"{m[1]} {days(m[2])}", self.sql)
        self.where_for_sqlite = re.sub(r"(seen \S+) '([0-9-]+)'", lambda m: f"{m[1]} {days(m[2])}", self.where)


def keys_of(groups, values):
    """Group values as the answer shows them."""
    return tuple(("false", "true")[v] if group in ("death", "mgus", "urgent") and v in (0, 1) else v for group, v in zip(groups, values))


class Check:
    """Compares one answer; says what is off."""

    def __init__(self, question, answer, db):
        self.question, self.answer, self.db = question, answer, db
        self.off = []
        self.numbers = self.inside = 0

    def number(self, got, margin, want, relative=1e-3):
        if got is None:
            return
        if isinstance(got, str):
            got = days(got)
        want = want or 0
        self.numbers += 1
        self.inside += abs(got - want) <= (margin or 0) + 1e-9 * abs(want) + 1e-9
        if not abs(got - want) <= max(relative * abs(want), 2 * (margin or 0)) + 1e-6:
            self.off.append(f"{self.question.sql}: got {got} +- {margin}, expected {want}")

    def rows(self):
        return zip(self.answer["rows"], self.answer["margin95"])

    def by_group(self, columns):
        """Rows of the named columns without nulls, by group; only groups with a value."""
        groups = self.question.groups
        found = {}
        for row in self.db.execute(f"SELECT {', '.join(groups + columns)} FROM {self.question.table.name}{self.question.where_for_sqlite}"):
            key, values = row[:len(groups)], row[len(groups):]
            if None not in key and None not in values:
                found.setdefault(keys_of(groups, key), []).append(values)
        return found

    def single(self):
        question = self.question
        truth = {}
        for row in self.db.execute(question.for_sqlite):
            truth[keys_of(question.groups, row)] = row[len(question.groups):]
        per_node = self.units_by_node() if "ward" in question.groups else None
        seen = set()
        for row, margins in self.rows():
            key = tuple(row[:len(question.groups)])
            seen.add(key)
            if per_node is not None and not all(n == 0 or n > 3 for n in per_node.get(key, [])):
                continue  # a site with three people or fewer in the group need not tell it
            for item, got, margin, want in zip(question.items, row[len(question.groups):], margins[len(question.groups):],
                                               truth.get(key, [None] * len(question.items))):
                if want is None and not item.startswith(("COUNT", "SUM")):
                    continue  # a mean or a quantile over nobody
                self.number(got, margin, self.nearby(item, key, got, want))
        if per_node is not None:
            for key, counts in per_node.items():
                if max(counts) > 3 and key not in seen:
                    self.off.append(f"{question.sql}: the group {key} is missing")
                if max(counts) <= 1 and key in seen:
                    self.off.append(f"{question.sql}: the group {key} is of one person")

    def nearby(self, item, key, got, want):
        """A quantile of whole numbers jumps by one when a rank moves by one row, which no margin says: what is the quantile five rows up or
        down is right as well."""
        match = re.match(r"(MIN|MAX|MEDIAN|QUANTILE)\((\w+)(?:, ([0-9.]+))?\)", item)
        if not match or match[2] not in ("age", "score", "seen", "futime", "flc_group") or got is None:
            return want
        got = days(got) if isinstance(got, str) else got
        values = sorted(row[0] for row in self.by_group([match[2]]).get(key, []))
        q = {"MIN": 0, "MAX": 1, "MEDIAN": 0.5}.get(match[1]) if not match[3] else float(match[3])
        at = q * (len(values) - 1)
        low, high = values[max(0, math.floor(at) - 5)], values[min(len(values) - 1, math.ceil(at) + 5)]
        return got if low <= got <= high else want

    def units_by_node(self):
        found = {}
        groups = self.question.groups
        for row in self.db.execute(f"SELECT {', '.join(groups)}, node, COUNT(DISTINCT patient) FROM visits{self.question.where_for_sqlite} GROUP BY {', '.join(groups)}, node"):
            if None not in row[:len(groups)]:
                found.setdefault(keys_of(groups, row), [0, 0])[row[len(groups)]] = row[-1]
        return found

    def histogram(self):
        name, low, high = self.question.column
        cuts = edges(low, high, self.question.bins)
        found = self.by_group([name])
        n = len(self.question.groups)
        for i, (row, margins) in enumerate(self.rows()):
            at = i % self.question.bins
            want = sum(class_of(cuts, value[0]) == at for value in found.get(tuple(row[:n]), []))
            self.number(row[n], None, cuts[at], 1e-12)
            self.number(row[n + 1], None, cuts[at + 1], 1e-12)
            self.number(row[n + 2], margins[n + 2], want)

    def linreg(self):
        columns = self.question.columns
        found = self.by_group(columns)
        n = len(self.question.groups)
        width = next(high - low for name, low, high in self.question.table.numbers if name == columns[0])
        answered = list(self.rows())
        for i, (row, margins) in enumerate(answered):
            rows = found.get(tuple(row[:n]), [])
            if len(rows) < 100 or row[n + 1] is None:
                continue
            term = i % len(columns)
            try:
                fit, square = regression(rows)
                beta, error = fit[term]
            except ZeroDivisionError:
                continue  # a column that does not vary
            if row[n] != (columns[term] if term else "(intercept)"):
                self.off.append(f"{self.question.sql}: term {row[n]}")
            # A coefficient near 0 is a small difference of large numbers: its standard error is the scale.
            self.number(row[n + 1], max(margins[n + 1], 1e-3 * error), beta)
            both = math.hypot(error, margins[n + 1] / 1.96)
            # The residual variance is a difference of noisy sums: the noise of a sum of squares is that of the sum, which is at most
            # the constant's, times half of the column's width.
            noise = answered[i - term][1][n + 1] / 1.96 * width / 2 / square if square else math.inf
            self.number(row[n + 2], (0.05 + noise) * both, both)

    def survival(self):
        time, low, high, event = self.question.table.times
        found = self.by_group([time, event])
        n = len(self.question.groups)
        tables = {}
        for i, (row, margins) in enumerate(self.rows()):
            key = tuple(row[:n])
            table = tables.setdefault(key, life_table(found.get(key, []), low, high, self.question.bins))
            at, _, at_risk, survival = table[i % self.question.bins]
            self.number(row[n], None, at, 1e-12)
            self.number(row[n + 1], margins[n + 1], at_risk)
            if at_risk >= 5 and row[n + 2] is not None:
                self.number(row[n + 2], margins[n + 2], survival)
        if self.question.groups == ["sex"] and min((len(rows) for rows in found.values()), default=0) > 300:
            want = logrank([tables[("F",)], tables[("M",)]])
            got = self.answer.get("comparison", {}).get("chi2")
            if want and (got is None or abs(got - want) > 0.02 * want + 0.05):
                self.off.append(f"{self.question.sql}: chi-square {got}, expected {want}")

    def run(self):
        counts = [site.get("withheld") for site in self.answer["sites"]]
        if any(counts) and self.small():
            return True  # a site kept a small cell to itself, as min_cohort asks: the sum is then of the others
        getattr(self, self.question.kind.lower())()
        return not self.off

    def small(self):
        """Some cell has few people, so that a site may rightly withhold it."""
        groups = self.question.groups
        sql = f"SELECT COUNT(*) FROM {self.question.table.name}{self.question.where_for_sqlite}" + (f" GROUP BY {', '.join(groups)}" if groups else "")
        counts = [row[0] for row in self.db.execute(sql)]
        cells = {("sex",): 2, ("sex", "death"): 4, ("death", "mgus"): 4, ("arm",): 3, ("urgent", "arm"): 6, ("flc_group",): 10, ("score",): 41}.get(tuple(groups), 1)
        return len(counts) < cells or min(counts, default=0) < 40


def agree(box, db, question, node, seen):
    """True when the answer agrees, asked at most twice."""
    for epsilon in (1000, 999):
        answer = box.run(node, "query", question.sql, "--purpose", "DUO:0000006", "--epsilon", epsilon, "--rows-per-unit", 5, "--timeout", "60s")
        check = Check(question, answer, db)
        with checking:
            good = check.run()
            seen[0] += check.numbers
            seen[1] += check.inside
            seen[2].add(question.kind + ("/" + "+".join(question.groups) if question.groups else ""))
        if good:
            return True
    note("\n".join(check.off[:3]))
    return False


def main():
    with Sandbox("alpha,beta,gamma") as box:
        box.run("alpha", "sandbox", "split", os.path.join(os.environ["top_srcdir"], "deploy/demo-files/data/flchain.csv"), "--into", box.dir)
        wide = box.write("flchain.yaml", manifest("flchain", FLCHAIN))
        visits = box.write("visits.yaml", manifest("visits", VISITS, "unit: patient\nmax_rows_per_unit: 5\nmax_nodes_per_unit: 2\n"))
        pooled = make_visits(box)
        for name in box.names:
            box.run(name, "dataset", "import", wide, "--data", f"{box.dir}/{name}.csv")
        for name in box.names[:2]:
            box.run(name, "dataset", "import", visits, "--data", os.path.join(box.folder, f"visits.{name}.csv"))
        ok(box.wait("catalogue", lambda: all(len(box.run(n, "catalog")["datasets"]) == 5 for n in box.names)) is not None, "every node knows all five datasets")
        bounds = {c["name"]: (c["min"], c["max"]) for c in box.run("beta", "dataset", "show", "visits")["columns"]}
        ok(bounds["seen"] == ("2020-01-01", "2021-12-31") and bounds["score"] == (0, 40), f"bounds are shown as manifests write them: {bounds['seen']}")
        db = database(pooled_flchain(), pooled)
        told = box.run("beta", "query", "SELECT arm, COUNT(*) FROM visits GROUP BY arm", "--purpose", "DUO:0000006", "--groups-per-unit", 2)["privacy"]
        ok((told["unit"], told["relation"], told["scope"]) == ("patient", "add-remove-one", "per person") and
           [told.get(k) for k in ("nodes_per_unit", "rows_per_unit", "rows_per_group", "groups_per_unit")] == [2, 5, 5, 2],
           f"the answer states whom it protects and what of a person counts: {told}")
        seen = [0, 0, set()]
        questions = [Question(random.Random(rng.random())) for _ in range(QUESTIONS)]
        with ThreadPoolExecutor(8) as pool:
            good = sum(pool.map(lambda i: agree(box, db, questions[i], box.names[i % 3], seen), range(QUESTIONS)))
        ok(good == QUESTIONS, f"{good} of {QUESTIONS} generated questions agree with sqlite3 and Python on the pooled rows")
        ok(seen[0] > 4 * QUESTIONS and seen[1] >= 0.9 * seen[0], f"{seen[1]} of {seen[0]} numbers lie within the printed margin")
        ok(len(seen[2]) >= 14, f"{len(seen[2])} kinds of question with their groups: {', '.join(sorted(seen[2]))}")
    done()


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
