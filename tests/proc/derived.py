#!/usr/bin/env python3
"""The licence of a model comes from those of its training sets: two sites with other data licences, purposes, places and times; what the model
owes, whom it is for, and that every node decides on it as on a dataset."""
from harness import Sandbox, done, ok

MANIFEST = """dataset: marks
version: "1"
size: 400
columns:
  - {{name: a, type: integer, min: 0, max: 9}}
  - {{name: b, type: boolean}}
licence:
  spdx: {spdx}
  expires: {expires}
  geography: [{places}]
  obligations: [{{id: embargo-until, when: publish, text: "{embargo}"}}]
  grants:
    - permission: "{permission}"
      {disease}
      modifiers: [{{code: "{modifier}"}}]
      actions: [count, finetune, evaluate]
      min_cohort: 2
      privacy: {{epsilon_total: 200, epsilon_per_job: 100, delta: 1e-6}}
      finetune: {{max_rounds: 20, release: {release}}}
"""
JOB = """job: marks-model
task: tabular-classification
dataset: marks
purpose: "DUO:0000007"
disease: ["MONDO:0008903"]
features: [a]
target: b
rounds: 2
participation: {min_sites: 2, round_timeout: 60s}
privacy: {epsilon: 50, delta: 1e-6, clip: 1.0}
evaluate: {split: 0}
"""
ROWS = "a,b\n" + "".join(f"{i % 10},{'true' if i % 10 > 4 else 'false'}\n" for i in range(400))


def imports(box):
    for name, terms in {
            "alpha": dict(spdx="CC-BY-SA-4.0", expires="2031-12-31", places="EU", embargo="2027-01-01", permission="DUO:0000007",
                          disease='disease: ["MONDO:0004992"]', modifier="NPU", release="public"),
            "beta": dict(spdx="CC-BY-NC-4.0", expires="2030-06-30", places="DE, US", embargo="2028-01-01", permission="DUO:0000007",
                         disease='disease: ["MONDO:0005087"]', modifier="NCU", release="recipients")}.items():
        box.run(name, "dataset", "import", box.write(f"{name}.yaml", MANIFEST.format(**terms)), "--data", box.write(f"{name}.csv", ROWS))


def derived(box, model):
    shown = box.run("alpha", "licence", "show", model)["licences"][0]
    grant = shown["grants"][0]
    duties = {duty["id"]: duty for duty in shown["obligations"]}
    ok(shown["state"] == "valid" and len(shown["derived_from"]) == 2, "the model has a licence record of its own, with both parents")
    ok({"share-alike", "non-commercial", "attribution"} <= set(duties), f"it carries the duties of CC-BY-SA and of CC-BY-NC: {sorted(duties)}")
    ok(duties["embargo-until"]["text"] == "2028-01-01", "the latest embargo")
    ok(shown["expires"].startswith("2030-07-01T00:00:00"), f"the earliest end: {shown['expires']}")
    ok(shown["geography"] == ["DE"], f"the places that both allow: {shown['geography']}")
    ok(grant["permission"] == "DUO:0000007" and grant["diseases"] == ["MONDO:0008903"], f"cancer and lungs meet in lung cancer: {grant['diseases']}")
    ok({m["name"] for m in grant["modifiers"]} == {"NPU", "NCU"}, f"both modifiers: {grant['modifiers']}")
    ok(grant["finetune"]["release"] == "federation", "the data licences clash, so it stays in the federation")
    ok(box.run("beta", "licence", "show", model)["licences"][0]["id"] == shown["id"], "the other node has heard of it")
    for disease, reason in (("MONDO:0008903", "NONE"), ("MONDO:0004992", "PURPOSE")):
        told = [box.run(at, "licence", "check", model, "--purpose", "DUO:0000007", "--disease", disease, "--action", "evaluate")["sites"][0] for at in box.names]
        clauses = {clause["clause"]: clause["result"] for clause in told[0]["clauses"]}
        ok(all((site["node"], site["reason"]) == ("alpha", reason) for site in told) and clauses["modifier NPU"] == clauses["modifier NCU"] == "pass",
           f"licence check of the model for {disease}: {[(site['verdict'], site['reason']) for site in told]}")
    code, error = box.refusal("beta", "licence", "check", "nothing", "--purpose", "DUO:0000007", "--action", "evaluate")
    ok(code == 3, f"of what is neither data nor model: exit {code}")


def main():
    with Sandbox("alpha,beta") as box:
        imports(box)
        ok(box.wait("the other licence", lambda: len(box.run("alpha", "licence", "show", "marks")["licences"]) == 2) is not None, "both licences are known")
        job = box.run("alpha", "train", "run", box.write("job.yaml", JOB))
        ok(job["state"] == "done", f"the job ran: {job['state']} {job['sites']}")
        model = box.run("alpha", "model", "show", job["model"])
        ok({"share-alike", "non-commercial"} <= {d["id"] if isinstance(d, dict) else d for d in model["obligations"]}, f"its record says so too: {model['obligations']}")
        ok(model["spdx"] in ("CC-BY-SA-4.0 AND CC-BY-NC-4.0", "CC-BY-NC-4.0 AND CC-BY-SA-4.0"), model["spdx"])
        ok(model["release"] == "federation", model["release"])
        ok({d["id"]: d["text"] for d in model["obligations"]}["embargo-until"] == "2028-01-01", "with the texts of the model's own licence")
        derived(box, job["model"])
    done()


main()
