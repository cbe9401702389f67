#!/usr/bin/env python3
"""Every use of a model is decided as `licence check` decides it: fetching, exporting, predicting and training on it, for which purpose, by whom."""
import os

from harness import SRC, TOP, Sandbox, console_on, done, free_port, ok, predict
from notes import MANIFEST as OF_NOTES

MANIFEST = """dataset: moles
version: "1"
size: 400
columns:
  - {name: a, type: integer, min: 0, max: 9}
  - {name: b, type: boolean}
licence:
  spdx: CC-BY-4.0
  expires: 2031-12-31
  grants:
    - permission: "DUO:0000007"
      disease: ["MONDO:0004992"]
      actions: [count, finetune]
      min_cohort: 2
      privacy: {epsilon_total: 200, epsilon_per_job: 100, delta: 1e-6}
      finetune: {max_rounds: 20, release: federation}
"""
JOB = """job: moles-model
task: tabular-classification
dataset: moles
purpose: "DUO:0000007"
disease: ["MONDO:0008903"]
features: [a]
target: b
rounds: 1
participation: {min_sites: 2, sites: [alpha, beta], round_timeout: 60s}
privacy: {epsilon: 50, delta: 1e-6, clip: 1.0}
evaluate: {split: 0}
"""
PROJECT = """project: %s
purpose: "DUO:0000007"
disease: ["%s"]
ends: 2031-01-01
"""
NOTES = OF_NOTES.replace("NAME", "notes") + """
licence:
  spdx: CC0-1.0
  expires: 2099-12-31
  grants:
    - permission: "DUO:0000004"
      visible: site
      actions: [finetune]
      min_cohort: 2
      privacy: {mechanism: none}
      finetune: {max_rounds: 50, release: public}
"""
NOTES_JOB = """job: notes-model
task: token-classification
dataset: notes
purpose: "DUO:0000042"
model: {base: %s, tune: lora}
rounds: 1
local: {epochs: 1, batch: 8, learning_rate: 1e-3, warmup: 0.1, max_length: 64, seed: 1}
participation: {min_sites: 2, round_timeout: 60s}
evaluate: {split: 0}
"""
MONTHS = MANIFEST.replace("dataset: moles", "dataset: months").replace("DUO:0000007", "DUO:0000006").replace('      disease: ["MONDO:0004992"]\n', '      modifiers: [{code: TS, params: ["12"]}]\n')
MONTHS_JOB = JOB.replace("moles", "months").replace('DUO:0000007"\ndisease: ["MONDO:0008903"]', 'DUO:0000006"')
FOR = ("--purpose", "DUO:0000006")
BASE = os.path.join(SRC, "deploy/demo-ner-files/bert-tiny-biomed")
BODY = {"columns": ["a", "b"], "rows": [[1, "true"]]}
ROWS = "a,b\n" + "".join(f"{i % 10},{'true' if i % 10 > 4 else 'false'}\n" for i in range(400))
CANCER, LUNG, HEART = "MONDO:0004992", "MONDO:0008903", "MONDO:0004995"
PURPOSES = [("--purpose", "DUO:0000007", "--disease", CANCER), ("--purpose", "DUO:0000007", "--disease", LUNG), ("--purpose", "DUO:0000007", "--disease", HEART),
            ("--purpose", "DUO:0000007"), ("--purpose", "DUO:0000006"), ("--purpose", "DUO:0000042"), ("--purpose", "DUO:0000011"),
            ("--purpose", "DUO:0000007", "--disease", "MONDO:9999999")]


def trained(box):
    for node in ("alpha", "beta"):
        box.run(node, "dataset", "import", box.write(f"{node}.yaml", MANIFEST), "--data", box.write("rows.csv", ROWS))
    box.wait("the licences", lambda: len(box.run("alpha", "licence", "show", "moles")["licences"]) == 2)
    job = box.run("alpha", "train", "run", box.write("job.yaml", JOB))
    ok(job["state"] == "done", f"a model of data for cancer: {job['state']} {job['sites']}")
    box.wait("the model", lambda: all(any(m["model"] == job["model"] for m in box.run(at, "model", "list")) for at in box.names))
    return job["model"]


def use(box, node, kind, model, *options):
    """Exit code and reason of a use."""
    args = {"predict": ("--data", box.write("rows.csv", ROWS)), "export": ("--out", os.path.join(box.folder, f"{node}-{len(os.listdir(box.folder))}")), "fetch": ()}[kind]
    code, error = box.refusal(node, "model", kind, model, *args, *options)
    return code, error.get("detail", "")


def agree(box, model):
    """The law: a use is permitted exactly when `licence check` says so, and refused for its reason."""
    odd, seen = [], set()
    for node in box.names:
        for options in PURPOSES:
            told = box.run(node, "licence", "check", model, *options, "--action", "evaluate")["sites"][0]
            for kind in ("fetch", "export", "predict"):
                code, why = use(box, node, kind, model, *options)
                right = code == 0 if told["verdict"] == "permit" else code == 4 and f"({told['reason']})" in why
                seen.add(told["reason"])
                odd += [] if right else [(node, kind, options, told["verdict"], told["reason"], code, why)]
    ok(not odd and {"NONE", "PURPOSE", "MISSING_DISEASE", "UNKNOWN_TERM"} <= seen,
       f"{len(box.names) * len(PURPOSES) * 3} uses are decided as licence check says: {odd[:2]} {sorted(seen)}")


def participants(box, model):
    for node in ("alpha", "beta"):
        for kind in ("fetch", "export", "predict"):
            code, why = use(box, node, kind, model)
            ok(code == 0, f"{kind} at {node}, which took part, for what the job was for: exit {code} {why}")
    code, why = use(box, "beta", "predict", model, "--purpose", "DUO:0000007", "--disease", HEART)
    ok(code == 4 and "(PURPOSE)" in why and "licence show" in why, f"not for another disease: exit {code}, {why}")
    entry = [e for e in box.run("beta", "audit", "list") if e["kind"] == "model.refused"][-1]
    ok(entry["body"]["reason"] == "PURPOSE" and entry["body"]["model"] == model, f"which is on record, too: {entry['body']}")
    entry = [e for e in box.run("alpha", "audit", "list") if e["kind"] == "model.predict"][-1]
    ok("DUO:0000007" in str(entry), f"the audit chain has what it was for: {entry}")


def others(box, model):
    code, why = use(box, "gamma", "predict", model)
    ok(code == 4 and "MISSING_PURPOSE" in why and "--purpose" in why, f"who took no part must say what for: exit {code}, {why}")
    box.run("gamma", "project", "create", box.write("p.yaml", PROJECT % ("hearts", HEART)))
    code, why = use(box, "gamma", "predict", model)
    ok(code == 4 and "MISSING_PURPOSE" in why, f"a project about hearts does not fit: exit {code}")
    box.run("gamma", "project", "create", box.write("p.yaml", PROJECT % ("lungs", LUNG)))
    code, why = use(box, "gamma", "predict", model)
    ok(code == 0, f"its one project that fits does: exit {code} {why}")
    entry = [e for e in box.run("gamma", "audit", "list") if e["kind"] == "model.predict"][-1]
    ok("lungs" in str(entry), f"and is on record: {entry}")
    box.run("gamma", "project", "create", box.write("p.yaml", PROJECT % ("cancers", CANCER)))
    code, why = use(box, "gamma", "predict", model)
    ok(code == 4 and "several projects" in why, f"of two that fit one must be named: exit {code}, {why}")
    ok(use(box, "gamma", "predict", model, "--project", "cancers")[0] == 0, "and then it is permitted")


def served(box, ports, model):
    """Over HTTP the purpose is node.yaml's, and nobody who asks can say another one."""
    status, answer = predict(box, "alpha", ports["alpha"], model, BODY)
    ok(status == 403 and "(PURPOSE)" in answer["error"]["detail"], f"a service for hearts does not answer with it: {status} {answer}")
    status, answer = predict(box, "alpha", ports["alpha"], model + "?--disease=" + LUNG, BODY)
    ok(status == 403, f"whatever the address says: {status}")
    status, answer = predict(box, "beta", ports["beta"], model, BODY)
    ok(status == 200 and len(answer["rows"]) == 1, f"one for lungs does: {status} {answer}")


def bases(box):
    """A job's base model under its data licence: beta is commercial."""
    with open(os.path.join(SRC, "deploy/demo-ner-files/ncbi-disease/train.tsv"), encoding="utf-8") as file:
        sentences = [t.strip("\n") for t in file.read().split("\n\n") if t.strip()]
    for i, node in enumerate(("alpha", "beta")):
        rows = "".join(f"-DOCSTART- {node}-{n}\n\n{t}\n\n" for n, t in enumerate(sentences[40 * i:40 * i + 40]))
        box.run(node, "dataset", "import", box.write("n.yaml", NOTES), "--data", box.write("n.tsv", rows), "--format", "conll")
    box.wait("the licences", lambda: all(len(box.run(at, "licence", "show", "notes")["licences"]) == 2 for at in ("alpha", "beta")))
    box.run("beta", "model", "import", BASE, "--name", "nc", "--licence", "CC-BY-NC-4.0")
    code, error = box.refusal("beta", "train", "run", box.write("job.yaml", NOTES_JOB % "nc"))
    ok(code == 4 and "LICENSE_NONCOMMERCIAL" in error["detail"], f"a commercial node does not train on it: exit {code}, {error.get('detail')}")
    code, error = box.refusal("beta", "model", "predict", "nc", "--data", box.write("x.txt", "a b\n"))
    ok(code == 4 and "MODIFIER_NCU" in error["detail"], f"nor predict: exit {code}, {error.get('detail')}")
    box.run("alpha", "model", "import", BASE, "--name", "odd", "--licence", "Zlib")
    box.run("alpha", "model", "publish", "odd")
    box.wait("its record", lambda: any(m["model"] == "odd" for m in box.run("beta", "model", "list")))
    told = box.run("beta", "licence", "check", "odd", "--purpose", "DUO:0000042", "--action", "finetune", "--rounds", "1", "--without-privacy")["sites"][0]
    ok((told["verdict"], told["reason"]) == ("hold", "LICENSE_UNKNOWN"), f"a licence that nobody has read waits for a person: {told['verdict']} {told['reason']}")
    started = box.run("alpha", "train", "start", box.write("job.yaml", NOTES_JOB % "odd"))
    shown = box.run("alpha", "train", "show", started["job"])
    ok(shown["state"] == "waiting" and all(x["reason"] == "LICENSE_UNKNOWN" for x in shown["sites"]), f"at each site: {shown['state']} {shown['sites']}")
    for at in ("alpha", "beta"):
        box.run(at, "approve", box.run(at, "approvals")[0]["approval"])
    box.run("alpha", "train", "resume", shown["job"])
    box.wait("the job", lambda: box.run("alpha", "train", "show", shown["job"])["state"] in ("done", "failed"), 60)
    job = box.run("alpha", "train", "show", shown["job"])
    ok(job["state"] == "done", f"and goes on once they have approved it: {job['state']} {job.get('error')}")


def agreed(box, node, name, provider):
    """An agreement of NODE with PROVIDER about a dataset or model; its id."""
    offer = box.run(node, "agreement", "request", name, "--node", provider, *FOR, "--action", "finetune,evaluate" if name != "months" else "finetune")
    made = box.run(node, "agreement", "accept", offer["agreement"])
    ok(made["state"] == "FINALIZED" and made["in_force"], f"{node} and {provider} agree on {name[:8]}: {made['state']}")
    return offer["agreement"]


def months(box):
    """A licence whose time runs from an agreement, with its model."""
    for node in ("alpha", "beta"):
        box.run(node, "dataset", "import", box.write("m.yaml", MONTHS), "--data", box.write("rows.csv", ROWS))
    box.wait("the licences", lambda: len(box.run("gamma", "licence", "show", "months")["licences"]) == 2)
    for node in ("alpha", "beta"):
        agreed(box, "gamma", "months", node)
    job = box.run("gamma", "train", "run", box.write("job.yaml", MONTHS_JOB))
    ok(job["state"] == "done", f"a model under licences for twelve months: {job['state']} {job['sites']}")
    model = job["model"]
    box.wait("the model", lambda: any(m["model"] == model for m in box.run("alpha", "model", "list")))
    code, why = use(box, "gamma", "predict", model)
    ok(code == 0, f"who trained it is bound by its agreements about the data: exit {code} {why}")
    code, why = use(box, "alpha", "predict", model)
    told = box.run("alpha", "licence", "check", model, *FOR, "--action", "evaluate")["sites"][0]
    ok(code == 4 and "MISSING_AGREEMENT" in why and "agreement request" in why and told["reason"] == "MISSING_AGREEMENT", f"anybody else needs one about the model: exit {code}, {why}")
    one = agreed(box, "alpha", model, "gamma")
    code, why = use(box, "alpha", "predict", model)
    ok(code == 0, f"and has it then: exit {code} {why}")
    ok(box.run("alpha", "licence", "check", model, *FOR, "--action", "evaluate")["sites"][0]["verdict"] == "permit", "as licence check says")
    ok(use(box, "beta", "predict", model)[0] == 4, "it is nobody else's")
    box.run("gamma", "agreement", "terminate", one, "--reason", "over")
    box.wait("its end", lambda: use(box, "alpha", "predict", model)[0] == 4)
    code, why = use(box, "alpha", "predict", model)
    ok(code == 4 and "MISSING_AGREEMENT" in why, f"once it was ended there is none: exit {code}")
    code, error = box.refusal("alpha", "agreement", "request", model, "--purpose", "DUO:0000011", "--action", "evaluate")
    ok(code == 4 and "PURPOSE" in error["detail"], f"nor is one made for another purpose: exit {code}, {error['detail']}")


def withdrawn(box, ports, model):
    box.run("beta", "licence", "withdraw", "moles", "--reason", "consent withdrawn")
    box.wait("the withdrawal", lambda: all(box.run(at, "model", "show", model)["tainted"] for at in box.names))
    told = {at: box.run(at, "licence", "check", model, *PURPOSES[0], "--action", "evaluate")["sites"][0]["reason"] for at in box.names}
    got = {at: use(box, at, "predict", model, *PURPOSES[0]) for at in box.names}
    ok(set(told.values()) == {"LICENSE_TAINTED"} and all(code == 4 and "LICENSE_TAINTED" in why for code, why in got.values()),
       f"after a withdrawal nobody may use it, and licence check says so: {told} {got}")
    if ports:
        status, answer = predict(box, "beta", ports["beta"], model, BODY)
        ok(status == 403 and "LICENSE_TAINTED" in answer["error"]["detail"], f"nor ask the service that answered before: {status}")


def main():
    with open(os.path.join(TOP, "config.h"), encoding="ascii") as file:
        http = "HAVE_MICROHTTPD 1" in file.read()
    with Sandbox("alpha,beta,gamma", start=False) as box:
        ports = {at: free_port() for at in ("alpha", "beta")} if http else {}
        for at, port in ports.items():
            console_on(box, at, f"127.0.0.1:{port}", predict=True)
            with open(os.path.join(box.home(at), "node.yaml"), "a", encoding="utf-8") as file:
                file.write(f'  purpose: "DUO:0000007"\n  disease: ["{HEART if at == "alpha" else LUNG}"]\n')
        path = os.path.join(box.home("beta"), "node.yaml")
        with open(path, encoding="utf-8") as file:
            text = file.read()
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(x for x in text.split("\n") if not x.startswith("commercial:")) + "commercial: true\n")
        box.start()
        model = trained(box)
        participants(box, model)
        agree(box, model)
        others(box, model)
        if ports:
            served(box, ports, model)
        bases(box)
        months(box)
        withdrawn(box, ports, model)
    done()


main()
