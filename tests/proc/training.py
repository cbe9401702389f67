#!/usr/bin/env python3
"""Federated logistic regression: as good as a Newton fit on the pooled rows at epsilon 1000, better than before at epsilon 4,
and a coordinator killed in the middle goes on from its last round."""
import json
import math
import os
import time

from harness import Refused, Sandbox, done, flchain, licence, note, ok

COLUMNS = """
  - {name: age, type: integer, min: 50, max: 110, deidentify: age90}
  - {name: sex, type: category, values: [F, M]}
  - {name: kappa, type: real, min: 0, max: 10}
  - {name: lambda, type: real, min: 0, max: 10}
  - {name: creatinine, type: real, min: 0, max: 5, missing: ["", NA]}
  - {name: mgus, type: boolean}
  - {name: death, type: boolean}
"""
FEATURES = ["age", "sex", "creatinine", "kappa", "lambda", "mgus"]


def manifest(name, terms, columns=COLUMNS):
    return f"dataset: {name}\nversion: \"1\"\nsize: 2600\ncolumns:{columns}{terms}"


def job(name, dataset, rounds, epsilon, epochs=1, clip=1.0, extra=""):
    return f"""job: {name}
task: tabular-classification
dataset: {dataset}
purpose: "DUO:0000006"
features: [{", ".join(FEATURES)}]
target: death
rounds: {rounds}
local: {{epochs: {epochs}}}
participation: {{min_sites: 2, round_timeout: 60s}}
privacy: {{epsilon: {epsilon}, delta: 1e-6, clip: {clip}}}
evaluate: {{split: 0.1, every: 5}}
{extra}"""


def table(most=None):
    """Raw feature values and targets of the pooled rows (of the first MOST), as the manifest stores them."""
    rows = flchain()[:None if most is None else most + 1]
    at = {name: rows[0].index(name) for name in FEATURES + ["death"]}
    result = []
    for row in rows[1:]:
        if row[at["creatinine"]] in ("", "NA"):
            continue
        value = {name: row[at[name]] for name in FEATURES}
        result.append((value, int(row[at["death"]])))
    return result


def vector(value):
    return [min(int(value["age"]), 90) / 100, float(value["sex"] == "M"), min(float(value["creatinine"]), 5) / 5,
            min(float(value["kappa"]), 10) / 10, min(float(value["lambda"]), 10) / 10, float(value["mgus"]), 1.0]


def sigmoid(z):
    return 1 / (1 + math.exp(-z)) if z > -700 else 0.0


def solve(matrix, right):
    n = len(right)
    rows = [matrix[i][:] + [right[i]] for i in range(n)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(n):
            if r != i:
                factor = rows[r][i] / rows[i][i]
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i])]
    return [rows[i][n] / rows[i][i] for i in range(n)]


def newton(data):
    """Iteratively reweighted least squares; returns a function from a row to its score."""
    points = [(vector(v), y) for v, y in data]
    n = len(points[0][0])
    w = [0.0] * n
    for _ in range(12):
        gradient = [0.0] * n
        hessian = [[0.0] * n for _ in range(n)]
        for x, y in points:
            p = sigmoid(sum(a * b for a, b in zip(w, x)))
            for i in range(n):
                gradient[i] += (y - p) * x[i]
                for j in range(i + 1):
                    hessian[i][j] += p * (1 - p) * x[i] * x[j]
        for i in range(n):
            for j in range(i):
                hessian[j][i] = hessian[i][j]
        w = [a + b for a, b in zip(w, solve(hessian, gradient))]
    return lambda v: sum(a * b for a, b in zip(w, vector(v)))


def model_score(model):
    """The score that an exported model gives to a row of raw values."""
    def encode(feature, text):
        if feature["encoding"] == "one-hot":
            return [float(text == value) for value in feature["values"][1:]]
        if feature["encoding"] == "zero-one":
            return [float(text)]
        low, high = feature["min"], feature["max"]
        return [2 * (min(max(float(text), low), high) - low) / (high - low) - 1]

    def score(value):
        x = [number for feature in model["features"] for number in encode(feature, value[feature["name"]])]
        return sum(a * b for a, b in zip(model["weights"], x)) + model["intercept"]
    return score


def auc(data, score):
    pairs = sorted((score(v), y) for v, y in data)
    rank = positive = 0
    i = 0
    while i < len(pairs):
        j = i
        while j < len(pairs) and pairs[j][0] == pairs[i][0]:
            j += 1
        hits = sum(y for _, y in pairs[i:j])
        rank += hits * (i + j + 1) / 2
        positive += hits
        i = j
    negative = len(pairs) - positive
    return (rank - positive * (positive + 1) / 2) / (positive * negative)


def loss(data, score):
    total = 0.0
    for v, y in data:
        z = score(v) if y else -score(v)
        total += math.log1p(math.exp(-z)) if z > -30 else -z
    return total / len(data)


def train(box, node, text):
    shown = box.run(node, "train", "run", box.write("job.yaml", text), timeout=600)
    folder = os.path.join(box.folder, shown["model"])
    box.run(node, "model", "export", shown["model"], "--out", folder)
    with open(os.path.join(folder, "model.json"), encoding="utf-8") as file:
        return shown, model_score(json.load(file))


def compare(box):
    """The same job at one site and at all of them, both on record as jobs of their own."""
    plan = box.write("compare.yaml", job("compare", "narrow", 10, 2))
    spent = [box.run(name, "budget", "narrow")["budget"][0]["rho_left"] for name in box.names]
    both = box.run("beta", "train", "compare", plan, "--set", "rounds=5", timeout=600)
    local, federated = both["local"], both["federated"]
    ok([s["node"] for s in local["sites"]] == ["beta"] and local["history"][-1]["participants"] == ["beta"], "compare trains at this site alone")
    ok(sorted(federated["history"][-1]["participants"]) == sorted(box.names), "and with all of them")
    ok({j["state"] for j in (local, federated)} == {"done"} and local["round"] == federated["round"] == 5 and local["model"] != federated["model"],
       "both end, with a model each")
    paid = [before - box.run(name, "budget", "narrow")["budget"][0]["rho_left"] for name, before in zip(box.names, spent)]
    ok(paid[1] > paid[0] > 0 and abs(paid[0] - paid[2]) < 1e-9, f"this site pays for both, the others for one: {paid}")
    code, error = box.refusal("beta", "train", "compare", box.write("greedy.yaml", job("greedy", "narrow", 3, 5)))
    ok(code in (4, 5) and [s["node"] for s in error["sites"]] == ["beta"], f"what the licence forbids at home is refused before others are asked: exit {code}")


def resume(box):
    text = job("long", "narrow", 150, 2).replace("min_sites: 2", "min_sites: 2, standby: 0")
    spent = box.run("alpha", "budget", "narrow")["budget"][0]["rho_left"]
    started = box.run("alpha", "train", "start", box.write("long.yaml", text))["job"]
    box.wait("some rounds", lambda: box.run("alpha", "train", "show", started)["round"] >= 5, 30)
    box.kill("alpha")
    box.start()
    shown = box.run("alpha", "train", "show", started)
    ok(shown["state"] in ("waiting", "stopped") and shown["round"] >= 5, f"after kill -9 the job is {shown['state']} at round {shown['round']}")
    before = len(shown["history"])
    charged = box.run("alpha", "budget", "narrow")["budget"][0]["rho_left"]
    ok(charged < spent, "what was reserved stays charged")
    box.run("alpha", "train", "resume", started)
    done_ = box.wait("the resumed job", lambda: box.run("alpha", "train", "show", started)["state"] == "done", 240)
    shown = box.run("alpha", "train", "show", started)
    rounds = [h["round"] for h in shown["history"] if h["round"] > 0]
    ok(done_ is not None and rounds == list(range(1, 151)) and before <= len(shown["history"]), f"it goes on and ends: {shown['state']}, each of 150 rounds once")
    left = box.run("alpha", "budget", "narrow")["budget"][0]["rho_left"]
    ok(abs(left - charged) < 1e-9, "the resumed job was not charged again")


def comings(box):
    """A site that is away when a job starts joins later; one that dies is named in the rounds without it."""
    box.kill("gamma")
    began = time.monotonic()
    code, _ = box.refusal("alpha", "train", "start", box.write("all.yaml", job("all", "wide", 5, 1).replace("min_sites: 2", "min_sites: 3")))
    ok(code == 6 and time.monotonic() - began < 25, f"three sites wanted, one is away: exit {code} after {time.monotonic() - began:.1f} s")
    started = box.run("alpha", "train", "start", box.write("late.yaml", job("late", "wide", 120, 2)))["job"]

    def history():
        return [h for h in box.run("alpha", "train", "show", started)["history"] if h["round"] > 0]
    box.wait("a round without gamma", lambda: len(history()) >= 1, 40)
    box.start()
    box.wait("gamma in a round", lambda: any("gamma" in h["participants"] for h in history()), 60)
    box.kill("gamma")
    killed = len(history())
    box.wait("a round after its death", lambda: len(history()) > killed + 2, 60)
    box.start()
    box.wait("the job", lambda: box.run("alpha", "train", "show", started)["state"] == "done", 90)
    rows = history()
    without = [{a["node"]: a["reason"] for a in h["absent"]} for h in rows if "gamma" not in h["participants"]]
    ok([h["round"] for h in rows] == list(range(1, 121)), f"each of {len(rows)} rounds once")
    ok(all(sorted(h["participants"] + [a["node"] for a in h["absent"]]) == sorted(box.names) for h in rows), "each round names every site once")
    ok(without and all(a.get("gamma") for a in without), f"the rounds without gamma say why: {sorted({a['gamma'] for a in without})}")
    ok("gamma" not in rows[0]["participants"] and "gamma" in rows[-1]["participants"], "it joined late, and came back")


def stop(box):
    left = box.run("alpha", "budget", "wide")["budget"][0]["rho_left"]
    started = box.run("alpha", "train", "start", box.write("stop.yaml", job("stop", "wide", 60, 2)))["job"]
    box.wait("some rounds", lambda: box.run("alpha", "train", "show", started)["round"] >= 3, 30)
    during = box.run("alpha", "budget", "wide")["budget"][0]["rho_left"]
    box.run("alpha", "train", "stop", started)
    shown = box.run("alpha", "train", "show", started)
    after = box.run("alpha", "budget", "wide")["budget"][0]["rho_left"]
    ends = [s["state"] for s in shown["sites"]]
    ok(ends == ["stopped"] * 3, f"its sites are stopped with it: {ends}")
    ok(shown["state"] == "stopped" and during < after < left, f"a stopped job gives back what was not started: {left:.4f}, {during:.4f}, {after:.4f}")
    box.run("alpha", "train", "resume", started)
    again = box.run("alpha", "budget", "wide")["budget"][0]["rho_left"]
    ok(abs(again - during) < 1e-9, f"to go on takes the same again, and no more: {again:.4f}")
    box.wait("the job", lambda: box.run("alpha", "train", "show", started)["state"] == "done", 90)
    last = box.run("alpha", "train", "show", started)
    end = box.run("alpha", "budget", "wide")["budget"][0]["rho_left"]
    rows = last["history"]
    ok(all(s["state"] == "done" for s in last["sites"]), f"its sites are done with it: {[s['state'] for s in last['sites']]}")
    ok(last["state"] == "done" and [r["round"] for r in rows] == list(range(1, len(rows) + 1)) and len(rows) >= 59 and rows[:shown["round"]] == shown["history"],
       f"it goes on from round {shown['round']} to its end: {last['state']}, each of {len(rows)} rounds once")
    ok(during - 1e-9 <= end < after and rows[-1]["epsilon"] <= 2, f"all of it cost what was reserved at first: {left - end:.4f} of {left - during:.4f}, epsilon {rows[-1]['epsilon']:.4f}")
    ok(box.run("alpha", "train", "verify", started)["ok"], "the model is what its rounds make it")
    code, _ = box.refusal("alpha", "train", "resume", started)
    ok(code == 7, f"one that is done cannot be resumed: exit {code}")


def failed(box):
    """gamma lets a job have less than this one wants: the others admitted it, and are told how it ended."""
    box.run("gamma", "dataset", "update", box.write("less.yaml", manifest("wide", licence(epsilon_total=20000, per_query=1, per_job=1))))
    path = box.write("failed.yaml", job("failed", "wide", 5, 2).replace("min_sites: 2", "min_sites: 3, standby: 0"))
    code, error = box.refusal("alpha", "train", "start", path)
    ended = box.run("alpha", "train", "list")[0]
    ok(code in (4, 5) and (ended["name"], ended["state"]) == ("failed", "failed"), f"gamma's licence ends a job that wants all three: exit {code}, {ended['name']} {ended['state']}")
    ends = {s["node"]: s["state"] for s in box.run("alpha", "train", "show", ended["job"])["sites"]}
    said = {s["node"]: s["status"] for s in error.get("sites", [])}
    ok(ends == {"alpha": "left", "beta": "left", "gamma": "refused"}, f"each site with how it ended there: {ends}")
    ok(said == {"alpha": "answered", "beta": "answered", "gamma": "refused"}, f"and what it had said to the plan: {said}")
    box.wait("beta", lambda: box.run("beta", "train", "show", ended["job"])["state"] != "running", 10)
    at = box.run("beta", "train", "show", ended["job"])["state"]
    ok(at == "failed", f"a site that only takes part says so: {at}")


def main():
    data = table()
    best = newton(data)
    with Sandbox("alpha,beta,gamma") as box:
        source = os.path.join(os.environ["top_srcdir"], "deploy/demo-files/data/flchain.csv")
        box.run("alpha", "sandbox", "split", source, "--into", box.dir)
        terms = {"wide": licence(epsilon_total=20000, per_query=1, per_job=1000), "narrow": licence(epsilon_total=60, per_query=1, per_job=4)}
        for name in box.names:
            for dataset, text in terms.items():
                box.run(name, "dataset", "import", box.write(f"{dataset}.yaml", manifest(dataset, text)), "--data", f"{box.dir}/{name}.csv")

        for dataset in terms:
            box.agreed(box.write("plan.yaml", job("plan", dataset, 10, 4)))
        cost = box.run("alpha", "train", "start", box.write("plan.yaml", job("plan", "narrow", 10, 4)), "--explain")["cost"]
        ok(1 < cost["epsilon_tight"] < cost["epsilon"] == 4, f"the plan's tight loss is {cost['epsilon_tight']:.3f}")
        shown, score = train(box, "alpha", job("wide", "wide", 20, 1000, epochs=5, clip=2.0))
        want, got = auc(data, best), auc(data, score)
        ok(abs(want - got) <= 0.005, f"epsilon 1000: AUC {got:.4f}, Newton on the pooled rows {want:.4f}")
        released = [h["metrics"]["accuracy"] for h in shown["history"] if h.get("metrics") and h["metrics"].get("accuracy") is not None]
        ok(released and all(h["train_loss"] is None for h in shown["history"]), f"held-out metrics are released every 5 rounds: {len(released)} times")
        ok(all(sorted(h["participants"]) == sorted(box.names) for h in shown["history"] if h["round"] > 0), "every round names who took part")

        better = 0
        for i in range(10):
            shown, score = train(box, box.names[i % 3], job(f"narrow{i}", "narrow", 10, 4))
            after = loss(data, score)
            better += after < math.log(2)
            note(f"epsilon 4, run {i}: exact loss {after:.4f}, before {math.log(2):.4f}, AUC {auc(data, score):.4f}")
            ok(shown["history"][-1]["epsilon"] <= 4 + 1e-9, f"run {i} spent epsilon {shown['history'][-1]['epsilon']:.3f}")
        ok(better >= 9, f"epsilon 4: the exact loss fell in {better} of 10 runs")
        models = {name: len(box.run(name, "model", "list")) for name in box.names}
        ok(set(models.values()) == {11}, f"every node lists the models: {models}")
        record = box.run("gamma", "model", "show", shown["model"])
        ok(len(record["participants"]) == 3 and len(record["licences"]) == 3 and record["spdx"] == "CC-BY-4.0", "a model's record has participants, licences, obligations")

        compare(box)
        resume(box)
        stop(box)
        comings(box)

        code, error = box.refusal("beta", "train", "start", box.write("many.yaml", job("many", "narrow", 3, 1).replace("min_sites: 2", "min_sites: 4")))
        if code == 0:
            code, shown, _ = box.try_run("beta", "train", "run", box.write("many.yaml", job("many", "narrow", 3, 1).replace("min_sites: 2", "min_sites: 4")))
            ok(code == 6 or (shown or {}).get("state") in ("failed", "waiting"), f"four sites wanted, three there: exit {code}")
        else:
            ok(code == 6, f"four sites wanted, three there: exit {code}")
        code, error = box.refusal("beta", "train", "run", box.write("greedy.yaml", job("greedy", "narrow", 3, 5)))
        told = [s["detail"] for s in error["sites"]]
        ok(code in (4, 5) and all("epsilon at most 4 " in d and d.rstrip().endswith("a job") for d in told),
           f"more than epsilon_per_job is refused, with the most that it may be: exit {code}, {told}")
        box.run("gamma", "licence", "withdraw", "narrow", "--reason", "test")
        time.sleep(0.5)
        shown, _ = train(box, "alpha", job("two", "narrow", 2, 1))
        states = {s["node"]: (s["state"], s["reason"]) for s in shown["sites"]}
        ok(states["gamma"] == ("refused", "REVOKED") and shown["state"] == "done", f"a site that withdrew is named: {states['gamma']}")
        failed(box)
    done()


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
