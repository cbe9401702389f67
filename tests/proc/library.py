#!/usr/bin/env python3
"""Models in the federation: the signed statement of where one comes from, checked with openssl alone; who may fetch it and who not;
what a withdrawn licence does to it; a base model from one node at another."""
import base64
import hashlib
import json
import os
import shutil
import subprocess

from harness import SRC, TOP, Sandbox, console_on, done, free_port, ok, predict
from notes import MANIFEST as OF_NOTES

BASE = os.path.join(SRC, "deploy/demo-ner-files/bert-tiny-biomed")
NAMES = "alpha,beta,gamma,delta"
FOR = ("--purpose", "DUO:0000042")
MANIFEST = """dataset: {dataset}
version: "1"
size: 400
columns:
  - {{name: a, type: integer, min: 0, max: 9}}
  - {{name: b, type: boolean}}
licence:
  spdx: CC-BY-4.0
  expires: 2031-12-31
  obligations: [{{id: attribution, text: "Name the chain study of {node}."}}]
  {terms}
  grants:
    - permission: "DUO:0000042"
      actions: [finetune, evaluate]
      min_cohort: 2
      privacy: {privacy}
      finetune: {{max_rounds: 20, release: federation}}
"""
JOB = """job: {dataset}-model
task: tabular-classification
dataset: {dataset}
purpose: "DUO:0000042"
accept: [attribution]
features: [a]
target: b
rounds: 2
participation: {{min_sites: 3, round_timeout: 60s}}
privacy: {{epsilon: 50, delta: 1e-6, clip: 1.0}}
evaluate: {{split: 0}}
"""
NOTES = OF_NOTES.replace("NAME", "bare") + """
licence:
  spdx: CC0-1.0
  expires: 2099-12-31
  grants:
    - permission: "DUO:0000004"
      visible: site
      actions: [finetune, evaluate]
      min_cohort: 2
      privacy: {mechanism: none}
      finetune: {max_rounds: 50, release: public}
"""
NOTES_JOB = """job: bare-model
task: token-classification
dataset: bare
purpose: "DUO:0000042"
model: {base: tiny, tune: lora}
rounds: 1
local: {epochs: 1, batch: 8, learning_rate: 1e-3, warmup: 0.1, max_length: 64, seed: 1}
participation: {min_sites: 2, round_timeout: 60s}
evaluate: {split: 0}
"""
PRIVATE = "{epsilon_total: 200, epsilon_per_job: 100, delta: 1e-6}"
ROWS = "a,b\n" + "".join(f"{i % 10},{'true' if i % 10 > 4 else 'false'}\n" for i in range(400))
ROWS_BODY = {"columns": ["b", "a"], "rows": [["x", 0], [None, "1"], ["y", None]]}
TERMS = {"wide": "", "kept": "survives_revocation: true", "closed": "recipients: {institutions: [alpha, beta, gamma]}"}


def imports(box, dataset):
    for node in ("alpha", "beta", "gamma"):
        text = MANIFEST.format(dataset=dataset, node=node, terms=TERMS[dataset], privacy=PRIVATE)
        box.run(node, "dataset", "import", box.write(f"{node}.yaml", text), "--data", box.write(f"{node}.csv", ROWS))
    box.wait("the licences", lambda: len(box.run("alpha", "licence", "show", dataset)["licences"]) == 3)


def train(box, dataset):
    job = box.run("alpha", "train", "run", box.write("job.yaml", JOB.format(dataset=dataset)))
    ok(job["state"] == "done" and all(s["state"] == "done" for s in job["sites"]), f"a model of {dataset}: {job['state']}")
    return job["model"]


def train_bare(box):
    """On texts that ask for no privacy, from a base model that came from another node."""
    with open(os.path.join(SRC, "deploy/demo-ner-files/ncbi-disease/train.tsv"), encoding="utf-8") as file:
        sentences = [s.strip("\n") for s in file.read().split("\n\n") if s.strip()]
    for i, node in enumerate(("alpha", "beta")):
        rows = "".join(f"-DOCSTART- {node}-{n}\n\n{s}\n\n" for n, s in enumerate(sentences[40 * i:40 * i + 40]))
        box.run(node, "dataset", "import", box.write(f"{node}.yaml", NOTES), "--data", box.write(f"{node}.tsv", rows), "--format", "conll")
    box.wait("the licences", lambda: len(box.run("alpha", "licence", "show", "bare")["licences"]) == 2)
    job = box.run("alpha", "train", "run", box.write("job.yaml", NOTES_JOB), timeout=300)
    ok(job["state"] == "done", f"a model of texts without noise, from that base: {job['state']}")
    return job["model"]


def refused(box, node, *args):
    code, answer, text = box.try_run(node, *args)
    return code, (answer or {}).get("error", {}).get("detail") or text


def signed(box, pem, document):
    """As anybody would check DSSE: the encoding before signing, with a node's public key."""
    payload = base64.b64decode(document["payload"])
    kind = document["payloadType"].encode()
    data = box.write("pae", "")
    with open(data, "wb") as file:
        file.write(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload))
    key = box.write("key.pem", pem)
    for entry in document["signatures"]:
        with open(box.write("sig", ""), "wb") as file:
            file.write(base64.b64decode(entry["sig"]))
        if subprocess.run(["openssl", "dgst", "-sha256", "-verify", key, "-signature", os.path.join(box.folder, "sig"), data],
                          capture_output=True, check=False).returncode == 0:
            return True
    return False


def statement(box, model):
    out = os.path.join(box.folder, "out")
    box.run("alpha", "model", "export", model, "--out", out)
    files = set(os.listdir(out))
    ok({"model.json", "record.json", "README.md", "ATTRIBUTION.md", "lineage.json"} <= files, f"an export has its papers: {sorted(files)}")
    with open(os.path.join(out, "lineage.json"), encoding="utf-8") as file:
        document = json.load(file)
    text = json.loads(base64.b64decode(document["payload"]))
    with open(os.path.join(out, "model.json"), "rb") as file:
        weights = hashlib.sha256(file.read()).hexdigest()
    ok(text["_type"] == "https://in-toto.io/Statement/v1" and text["subject"][0]["digest"]["sha256"] == weights, "it is an in-toto statement about the exported weights")
    nodes = {node["node"]: node for node in text["predicate"]["participants"]}
    ok(set(nodes) == {"alpha", "beta", "gamma"} and all(n["rounds"] == 2 and 0 < float(n["epsilon"]) <= 50 for n in nodes.values()),
       f"with each site's rounds and epsilon: {[(n['rounds'], n['epsilon']) for n in nodes.values()]}")
    record = {site["node"]: site["id"] for site in box.run("alpha", "licence", "show", "wide")["licences"]}
    ok(all(nodes[node]["licence"] == record[node] for node in nodes), "and the licence record of each")
    if shutil.which("openssl"):
        keys = box.run("delta", "model", "show", model)["lineage"]["keys"]
        who = {node: signed(box, pem, document) for node, pem in keys.items()}
        ok(who == {"alpha": True, "beta": True, "gamma": True}, f"openssl finds a good signature of each participant: {who}")
        document["payload"] = base64.b64encode(base64.b64decode(document["payload"]).replace(b'"rounds":2', b'"rounds":1')).decode()
        ok(not any(signed(box, pem, document) for pem in keys.values()), "and of none once a figure is changed")
    with open(os.path.join(out, "ATTRIBUTION.md"), encoding="utf-8") as file:
        names = file.read()
    ok(all(f"- {node}, given under CC-BY-4.0" in names for node in nodes) and "Name the chain study of" in names, "the attribution names who gave the data, and how to")


def fetched(box, model):
    shown = box.run("delta", "model", "show", model)
    ok(not shown["here"] and shown["usable"] and not shown["tainted"], "a node that had no part in it knows the model, and may have it")
    ok(sorted(shown["lineage"]["signed_by"]) == ["alpha", "beta", "gamma"] and not shown["lineage"]["invalid"], f"signed by {shown['lineage']['signed_by']}")
    ok(model in {row["model"] for row in box.run("delta", "model", "list")}, "model list has it")
    code, why = refused(box, "delta", "model", "fetch", model)
    ok(code == 4 and "MISSING_PURPOSE" in why and "--purpose" in why, f"but it must say what for: exit {code}, {why}")
    got = box.run("delta", "model", "fetch", model, *FOR)
    ok(got["fetched"] == got["size"] > 0 and not got["was_here"], f"fetched: {got['size']} bytes")
    again = box.run("delta", "model", "fetch", model, *FOR)
    ok(again["was_here"] and again["fetched"] == 0, "it is not fetched twice")
    box.kill("alpha")
    other = box.run("gamma", "model", "fetch", model, "--node", "delta")
    ok(other["fetched"] == other["size"], "and another has it from there while its maker is down")
    out = os.path.join(box.folder, "delta-out")
    ok(box.run("delta", "model", "export", model, "--out", out, *FOR)["format"] == "json" and os.path.exists(os.path.join(out, "lineage.json")), "it can be exported there")
    box.start()


def recipients(box, closed, bare):
    code, why = refused(box, "delta", "model", "fetch", closed, *FOR)
    ok(code == 4 and "RECIPIENT" in why, f"who is no recipient does not get it: exit {code}, {why}")
    ok(box.run("beta", "model", "fetch", closed)["fetched"] > 0, "a recipient does")
    code, why = refused(box, "delta", "model", "fetch", bare)
    ok(code == 4 and "LICENSE_NONPRIVATE" in why, f"without noise it stays with those who took part: exit {code}, {why}")
    code, why = refused(box, "alpha", "model", "publish", bare)
    ok(code == 4 and "LICENSE_NONPRIVATE" in why, f"nor can it be published: exit {code}")
    ok(box.run("beta", "model", "fetch", bare)["fetched"] > 0, "one that took part gets it")


def tainted(box, port, wide, kept):
    for dataset in ("wide", "kept"):
        box.run("gamma", "licence", "withdraw", dataset, "--reason", "consent withdrawn")
    box.wait("the withdrawal", lambda: box.run("alpha", "model", "show", wide)["tainted"])
    shown = box.run("alpha", "model", "show", wide)
    ok(shown["tainted"] and shown["tainted_by"] == "gamma" and shown["reason"] == "LICENSE_TAINTED", f"a withdrawn licence taints its model: {shown['reason']}")
    code, why = refused(box, "alpha", "model", "export", wide, "--out", os.path.join(box.folder, "never"))
    ok(code == 4 and "LICENSE_TAINTED" in why and "gamma" in why and not os.path.exists(os.path.join(box.folder, "never")), f"no export: {why}")
    code, why = refused(box, "alpha", "model", "predict", wide, "--data", box.write("rows.csv", ROWS))
    ok(code == 4 and "LICENSE_TAINTED" in why, f"no prediction: exit {code}")
    if port:
        status, answer = predict(box, "alpha", port, wide, ROWS_BODY)
        ok(status == 403 and "LICENSE_TAINTED" in answer["error"]["detail"], f"nor one over HTTP, where it was answered before: {status}")
        status, answer = predict(box, "alpha", port, kept, ROWS_BODY)
        ok(status == 200 and len(answer["rows"]) == 3, f"but of the model that survives: {status}")
    code, why = refused(box, "beta", "model", "fetch", wide)
    ok(code == 4 and "LICENSE_TAINTED" in why, f"no fetching: exit {code}")
    ok("license" in box.run("alpha", "model", "card", wide)["card"], "its card can still be read")
    row = [m for m in box.run("alpha", "model", "list") if m["model"] == wide][0]
    ok(row["tainted"], "model list shows it")
    shown = box.run("alpha", "model", "show", kept)
    ok(shown["tainted"] and shown["usable"], "where all licences say that a model survives, it may be used on")
    ok(box.run("delta", "model", "fetch", kept, *FOR)["fetched"] > 0, "and fetched")


def base_model(box):
    box.run("beta", "model", "import", BASE, "--name", "tiny", "--licence", "CC0-1.0")
    box.run("beta", "model", "publish", "tiny")
    ok(box.wait("the record", lambda: any(m["model"] == "tiny" for m in box.run("alpha", "model", "list"))) is not None, "an imported model is published to all")
    got = box.run("alpha", "model", "fetch", "tiny")
    here = box.run("beta", "model", "show", "tiny")
    ok(got["fetched"] == got["size"] == here["size"] and got["weights"] == here["weights"], f"and fetched: {got['size']} bytes")
    ok(box.run("alpha", "model", "export", "tiny", "--out", os.path.join(box.folder, "tiny"))["format"] == "safetensors", "and exported there")


def served(box, port, model):
    """Rows over HTTP say what the command says."""
    want = box.run("alpha", "model", "predict", model, "--data", box.write("rows.csv", ROWS))["rows"]
    status, answer = predict(box, "alpha", port, model, ROWS_BODY)
    ok(status == 200 and answer["rows"][:2] == want[:2] and answer["rows"][2] is None, f"the inference service answers rows: {answer}")
    status, answer = predict(box, "alpha", port, model, {"texts": ["a"]})
    ok(status == 400 and "columns" in answer["error"]["detail"], "and says that it wants rows when it gets texts")
    status, answer = predict(box, "alpha", port, model, {"columns": ["b"], "rows": [[1]]})
    ok(status == 422, "a column that is missing is named")


def main():
    with open(os.path.join(TOP, "config.h"), encoding="ascii") as file:
        port = free_port() if "HAVE_MICROHTTPD 1" in file.read() else 0
    with Sandbox(NAMES, start=False) as box:
        if port:
            console_on(box, "alpha", f"127.0.0.1:{port}", predict=True)
        box.start()
        for dataset in TERMS:
            imports(box, dataset)
        models = {dataset: train(box, dataset) for dataset in TERMS}
        base_model(box)
        bare = train_bare(box)
        statement(box, models["wide"])
        if port:
            served(box, port, models["wide"])
        fetched(box, models["wide"])
        recipients(box, models["closed"], bare)
        tainted(box, port, models["wide"], models["kept"])
    done()


main()
