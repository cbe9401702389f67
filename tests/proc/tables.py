#!/usr/bin/env python3
"""Regression, Cox and a small network over three sites, at an epsilon that hardly hides anything: as good as least squares and
Newton's steps on the pooled rows, computed here by themselves. What is released of held-out rows is what the pooled rows say."""
import json
import math
import os
import subprocess
import sys

from harness import SRC, Refused, Sandbox, done, flchain, licence, note, ok, skip
from training import manifest, solve

COLUMNS = """
  - {name: age, type: integer, min: 50, max: 110, deidentify: age90}
  - {name: sex, type: category, values: [F, M]}
  - {name: kappa, type: real, min: 0, max: 10}
  - {name: lambda, type: real, min: 0, max: 10}
  - {name: creatinine, type: real, min: 0, max: 5, missing: ["", NA]}
  - {name: mgus, type: boolean}
  - {name: futime, type: integer, min: 0, max: 6000}
  - {name: death, type: boolean}
"""
HORIZON = 5215


def job(name, task, features, target, extra, clip=2.0, rounds=8):
    return f"""job: {name}
task: {task}
dataset: people
purpose: "DUO:0000006"
features: [{", ".join(features)}]
target: {target}
rounds: {rounds}
local: {{epochs: 5}}
participation: {{min_sites: 3, round_timeout: 60s, standby: 0}}
privacy: {{epsilon: 1000, delta: 1e-6, clip: {clip}}}
evaluate: {{split: 0.2, every: {rounds // 2}}}
{extra}"""


def number(text, low, high):
    return 2 * (min(max(float(text), low), high) - low) / (high - low) - 1


ENCODE = {
    "age": lambda r: number(min(int(r["age"]), 90), 50, 90),
    "sex": lambda r: float(r["sex"] == "M"),
    "kappa": lambda r: number(r["kappa"], 0, 10),
    "lambda": lambda r: number(r["lambda"], 0, 10),
    "creatinine": lambda r: number(r["creatinine"], 0, 5),
    "mgus": lambda r: float(r["mgus"]),
}


def people():
    rows = flchain()
    all_ = [dict(zip(rows[0], row)) for row in rows[1:]]
    return [r for r in all_ if r["creatinine"] not in ("", "NA")]


def train(box, node, text):
    shown = box.run(node, "train", "run", box.write("job.yaml", text), timeout=120)
    folder = os.path.join(box.folder, shown["model"])
    box.run(node, "model", "export", shown["model"], "--out", folder)
    with open(os.path.join(folder, "model.json"), encoding="utf-8") as file:
        return shown, json.load(file)


def predictions(box, node, shown, rows, features):
    path = box.write("rows.csv", "\n".join([",".join(features)] + [",".join(r[f] for f in features) for r in rows]) + "\n")
    return box.run(node, "model", "predict", shown["model"], "--data", path)["rows"]


def graph(box, shown, data, features):
    """The exported graph, run operator by operator, says what `model predict` does."""
    folder = os.path.join(box.folder, "graph")
    files = {os.path.basename(f["file"]) for f in box.run("alpha", "model", "export", shown["model"], "--as", "onnx", "--out", folder)["files"]}
    rows = [{**r, "age": str(min(int(r["age"]), 90))} for r in data[:50]]
    columns = {f: [float(r[f] == "M") if f == "sex" else float(r[f]) for r in rows] for f in features}
    ran = subprocess.run([sys.executable, "-B", os.path.join(SRC, "tests/proc/export_onnx.py"), "--run", os.path.join(folder, "model.onnx"), json.dumps(columns)],
                         stdout=subprocess.PIPE, check=True, timeout=60).stdout
    if ran.startswith(b"1..0"):
        return skip("the model as ONNX", ran.decode().strip())
    got, want = json.loads(ran), predictions(box, "alpha", shown, rows, features)
    off = max(abs(a - b) for a, b in zip(got, want))
    return ok({"model.onnx", "model.json", "README.md"} <= files and len(want) == 50 and off < 1e-5, f"the model as ONNX answers as model predict does, off by {off:.1e}")


def linear(box, data):
    features = ["age", "sex", "kappa", "creatinine", "mgus"]
    shown, model = train(box, "alpha", job("lambda", "tabular-regression", features, "lambda", ""))
    points = [([ENCODE[f](r) for f in features] + [1.0], float(r["lambda"])) for r in data]
    n = len(features) + 1
    points = [(x, min(y, 10)) for x, y in points]
    best = solve([[sum(x[i] * x[j] for x, _ in points) for j in range(n)] for i in range(n)], [sum(x[i] * y for x, y in points) for i in range(n)])
    scale, offset = model["target"]["scale"], model["target"]["offset"]
    ok((model["format"], model["link"], scale, offset) == ("concordat-linear-1", "identity", 5, 5), "a regression's document is linear, in the target's units")
    graph(box, shown, data, features)
    got = [w * scale for w in model["weights"]] + [model["intercept"] * scale + offset]

    def rmse(w):
        return math.sqrt(sum((sum(a * b for a, b in zip(w, x)) - y) ** 2 for x, y in points) / len(points))
    mean = sum(y for _, y in points) / len(points)
    total = sum((y - mean) ** 2 for _, y in points) / len(points)
    exact = rmse(got)
    ok(rmse(best) <= exact <= 1.05 * rmse(best), f"least squares on the pooled rows: RMSE {rmse(best):.4f}; federated: {exact:.4f}")
    note("coefficients " + ", ".join(f"{a:.3f}/{b:.3f}" for a, b in zip(got, best)))
    metrics = shown["history"][-1]["metrics"]
    ok(abs(metrics["rmse"] - exact) < 0.3 * exact + metrics["rmse_margin95"] and abs(metrics["r2"] - (1 - exact ** 2 / total)) < 0.15 + metrics["r2_margin95"],
       f"released of held-out rows: RMSE {metrics['rmse']:.3f} +- {metrics['rmse_margin95']:.3f}, R2 {metrics['r2']:.3f} +- {metrics['r2_margin95']:.3f}; of all rows {exact:.3f}, {1 - exact ** 2 / total:.3f}")
    some = data[:50]
    answers = predictions(box, "beta", shown, some, features)
    want = [sum(w * ENCODE[f](r) for w, f in zip(got, features)) + got[-1] for r in some]
    ok(all(abs(a - b) < 1e-4 for a, b in zip(answers, want)), "model predict answers in mg/dL what the document says")


def cox_fit(points):
    """Newton's steps on Breslow's partial likelihood. POINTS: (x, time, event), the latest first."""
    n = len(points[0][0])
    w = [0.0] * n
    for _ in range(6):
        gradient, hessian = [0.0] * n, [[0.0] * n for _ in range(n)]
        total, first, second = 0.0, [0.0] * n, [[0.0] * n for _ in range(n)]
        at = 0
        while at < len(points):
            end = at
            while end < len(points) and points[end][1] == points[at][1]:
                x = points[end][0]
                risk = math.exp(sum(a * b for a, b in zip(w, x)))
                total += risk
                for i in range(n):
                    first[i] += risk * x[i]
                    for j in range(i + 1):
                        second[i][j] += risk * x[i] * x[j]
                end += 1
            for x, _, event in points[at:end]:
                if event:
                    for i in range(n):
                        gradient[i] += x[i] - first[i] / total
                        for j in range(i + 1):
                            hessian[i][j] += second[i][j] / total - first[i] * first[j] / total ** 2
            at = end
        for i in range(n):
            for j in range(i):
                hessian[j][i] = hessian[i][j]
        w = [a + b for a, b in zip(w, solve(hessian, gradient))]
    return w


def concordance(points, w, step=3):
    """Harrell's, of every STEP-th row."""
    some = [(t, e, sum(a * b for a, b in zip(w, x))) for x, t, e in points[::step]]
    right = pairs = 0.0
    for t, e, s in some:
        if e:
            for t2, _, s2 in some:
                if t2 > t:
                    pairs += 1
                    right += 1 if s > s2 else 0.5 if s == s2 else 0
    return right / pairs


def survival(box, data):
    features = ["age", "sex", "kappa", "lambda"]
    extra = f"time: futime\nhorizon: {HORIZON}\nintervals: 10\n"
    shown, model = train(box, "beta", job("survival", "tabular-survival", features, "death", extra, clip=4.0))
    points = sorted((([ENCODE[f](r) for f in features], float(r["futime"]), r["death"] == "1") for r in data if float(r["futime"]) > 0), key=lambda p: -p[1])
    best = cox_fit(points)
    got = model["weights"]
    ok(model["link"] == "log" and model["baseline"]["time"] == "futime" and len(model["baseline"]["log_hazards"]) == 10, "Cox' document has a baseline hazard")
    ok(max(abs(a - b) for a, b in zip(got, best)) < 0.35, "Newton on the pooled rows, federated: " + ", ".join(f"{f} {b:.3f} {a:.3f}" for f, a, b in zip(features, got, best)))
    exact, want = concordance(points, got), concordance(points, best)
    ok(abs(exact - want) < 0.005, f"Harrell's concordance {exact:.4f}, of Newton's fit {want:.4f}")
    released = shown["history"][-1]["metrics"]["concordance"]
    ok(released is not None and abs(released - exact) < 0.06, f"released of held-out rows: {released}")
    losses = [h["eval_loss"] for h in shown["history"] if h["eval_loss"] is not None]
    ok(len(losses) == 2 and losses[-1] <= losses[0] + 0.05, f"held-out loss {losses}")
    answers = predictions(box, "gamma", shown, data[:20], features)
    scores = [math.exp(sum(w * ENCODE[f](r) for w, f in zip(got, features))) for r in data[:20]]
    ok(all(abs(a - b) < 1e-3 * b for a, b in zip(answers, scores)), "model predict answers with hazard ratios")


def network(box, data):
    features = ["age", "sex", "kappa", "lambda", "creatinine", "mgus"]
    shown, model = train(box, "gamma", job("network", "tabular-classification", features, "death", "model: {hidden: 6}\n"))
    ok(model["format"] == "concordat-network-1" and len(model["hidden"]) == 6 and len(model["weights"]) == 6, "a network's document has its hidden units")

    def score(r):
        x = [ENCODE[f](r) for f in features]
        units = [math.tanh(sum(w * v for w, v in zip(h["weights"], x)) + h["intercept"]) for h in model["hidden"]]
        return 1 / (1 + math.exp(-model["intercept"] - sum(w * u for w, u in zip(model["weights"], units))))
    loss = -sum(math.log(score(r) if r["death"] == "1" else 1 - score(r)) for r in data) / len(data)
    metrics = shown["history"][-1]["metrics"]
    ok(loss < 0.5 and abs(shown["history"][-1]["eval_loss"] - loss) < 0.06, f"its loss is {loss:.4f} (of guessing 0.5: 0.693); released of held-out rows {shown['history'][-1]['eval_loss']:.4f}, AUC {metrics['auc']}")
    answers = predictions(box, "alpha", shown, data[:20], features)
    ok(all(abs(a - score(r)) < 1e-5 for a, r in zip(answers, data)), "model predict answers with its probabilities")


def main():
    data = people()
    with Sandbox("alpha,beta,gamma") as box:
        source = os.path.join(os.environ["top_srcdir"], "deploy/demo-files/data/flchain.csv")
        box.run("alpha", "sandbox", "split", source, "--into", box.dir)
        text = manifest("people", licence(epsilon_total=20000, per_query=1, per_job=1000), COLUMNS)
        for name in box.names:
            box.run(name, "dataset", "import", box.write("people.yaml", text), "--data", f"{box.dir}/{name}.csv")
        box.agreed(box.write("first.yaml", job("first", "tabular-regression", ["age"], "lambda", "")))
        linear(box, data)
        survival(box, data)
        network(box, data)
        # A licence that names columns holds for the time as well.
        for columns, fits in (("age, death, futime", True), ("age, death", False)):
            name = "some" if fits else "fewer"
            terms = licence(epsilon_total=20000, per_query=1, per_job=1000).replace("      min_cohort", f"      columns: [{columns}]\n      min_cohort")
            box.run("alpha", "dataset", "import", box.write("some.yaml", manifest(name, terms, COLUMNS)), "--data", f"{box.dir}/alpha.csv")
            asked = job("some", "tabular-survival", ["age"], "death", "time: futime\n").replace("dataset: people", f"dataset: {name}").replace("min_sites: 3", "min_sites: 1")
            code, answer, _ = box.try_run("alpha", "train", "start", box.write("some-job.yaml", asked), "--explain")
            said = answer["sites"][0]
            ok(said["verdict"] == ("permit" if fits else "deny") and (fits or "COLUMNS" in json.dumps(said)), f"a licence of {columns}: {said['verdict']} {said.get('reason')}, exit {code}")
        for text, what in (("time: futime\n", "time"), ("model: {hidden: 4, base: x}\n", "model")):
            code, error = box.refusal("alpha", "train", "start", box.write("bad.yaml", job("bad", "tabular-regression", ["age"], "lambda", text)))
            ok(code != 0 and what in error.get("detail", "") + error.get("message", ""), f"{text.strip()}: exit {code}")
        code, error = box.refusal("alpha", "train", "start", box.write("bad.yaml", job("bad", "tabular-regression", ["age"], "sex", "")))
        ok(code != 0, f"a category is no target of a regression: exit {code}, {error.get('message')}")
    done()


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
