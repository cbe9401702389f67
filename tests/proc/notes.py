#!/usr/bin/env python3
"""Fine-tuning of an encoder on annotated notes at three sites: the base model comes from the coordinator, rounds with and without
noise, what licences allow, a model that is what its recorded rounds make it."""
import json
import os
import struct

from harness import Refused, Sandbox, SRC, done, note, ok

FILES = os.path.join(SRC, "deploy/demo-ner-files")
BASE = os.path.join(FILES, "bert-tiny-biomed")
OPEN = """
licence:
  spdx: CC0-1.0
  expires: 2099-12-31
  grants:
    - permission: "DUO:0000004"
      actions: [count, finetune, evaluate]
      min_cohort: 5
      visible: site
      privacy: {mechanism: none}
      finetune: {max_rounds: 50, release: public}
"""
NOISY = """
licence:
  spdx: CC0-1.0
  expires: 2099-12-31
  grants:
    - permission: "DUO:0000042"
      actions: [count, finetune, evaluate]
      min_cohort: 5
      privacy: {epsilon_total: 60, epsilon_per_query: 1, epsilon_per_job: 20, delta: 1e-5}
      finetune: {max_rounds: 50, release: federation}
"""
MANIFEST = """dataset: NAME
version: "1"
unit: document
max_rows_per_unit: 12
size: 30
columns:
  - {name: tokens, type: tokens}
  - {name: tags, type: tags, labels: [Disease]}
  - {name: document, type: text, deidentify: pseudonym}
"""
JOB = """job: NAME
task: token-classification
dataset: DATASET
purpose: "DUO:0000042"
model: {base: tiny, tune: TUNE}
rounds: 2
local: {epochs: 1, batch: 8, learning_rate: 1e-3, warmup: 0.1, max_length: 64, seed: 1}
aggregate: {method: METHOD}
participation: {min_sites: 2, round_timeout: 60s, standby: 0}
evaluate: {split: 0.2, every: 1}
PRIVACY
"""


def job(name, dataset, tune="full", method="fedavg", privacy=""):
    return (JOB.replace("NAME", name).replace("DATASET", dataset).replace("TUNE", tune).replace("METHOD", method)
            .replace("PRIVACY", privacy))


def sentences():
    with open(os.path.join(FILES, "ncbi-disease/train.tsv"), encoding="utf-8") as file:
        return [s.strip("\n") for s in file.read().split("\n\n") if s.strip()]


def conll(part, name):
    text = ""
    for start in range(0, len(part), 6):
        text += f"-DOCSTART- {name}-{start // 6}\n\n" + "".join(s + "\n\n" for s in part[start:start + 6])
    return text


def rho(box, node, dataset):
    return {b["dataset"]: b for b in box.run(node, "budget")["budget"]}[dataset]["rho_left"]


def without_noise(box):
    shown = box.run("alpha", "train", "run", box.write("open.yaml", job("open", "open")), timeout=300)
    rows = shown["history"]
    ok(shown["state"] == "done" and [r["round"] for r in rows] == [1, 2], f"a job without noise ends: {shown['state']}")
    ok(all(sorted(r["participants"]) == sorted(box.names) for r in rows), "every site took part in every round")
    ok(rows[1]["eval_loss"] < rows[0]["eval_loss"] < 0.7, f"the held-out loss falls: {rows[0]['eval_loss']:.3f}, {rows[1]['eval_loss']:.3f}")
    ok(rows[1]["epsilon"] is None and shown["privacy"] is None, "and nobody claims a guarantee for it")
    ok("f1" in rows[1]["metrics"] and "Disease" in rows[1]["metrics"]["types"], f"entities are reported: F1 {rows[1]['metrics']['f1']:.3f}")
    report = box.run("alpha", "model", "report", shown["model"])
    ok(report["exact"] and report["report"]["types"]["Disease"]["support"] > 0 and "Disease" in report["text"], "and the classification report")
    checked = box.run("alpha", "train", "verify", shown["job"])
    ok(checked["ok"] and checked["rounds"] == 2 and checked["weights"] == rows[1]["weights"], "the model is what its rounds make it")
    models = {name: os.listdir(os.path.join(box.home(name), "models")) for name in ("beta", "gamma")}
    ok(all(len(files) == 1 for files in models.values()), f"sites keep the base model, no weights and no update: {[len(f) for f in models.values()]}")
    updates = [e for e in box.run("beta", "audit", "egress") if e["kind"] == "update"]
    ok(len(updates) == 3 and max(e["bytes"] for e in updates) > 17_000_000, f"egress names what left, vectors too: {[e['bytes'] for e in updates]}")
    return shown


def with_noise(box):
    before = rho(box, "beta", "noisy")
    shown = box.run("alpha", "train", "run", box.write("noisy.yaml", job("noisy", "noisy", "ffa-lora", privacy="privacy: {epsilon: 8, delta: 1e-5, clip: 1.0}")),
                    timeout=300)
    spent = shown["history"][-1]["epsilon"]
    ok(shown["state"] == "done" and 7 < spent <= 8, f"a job with noise ends within its epsilon: {spent:.4f}")
    ok(rho(box, "beta", "noisy") < before, "and the site's ledger was charged")
    ok(all(s["sigma"] > 0.3 for s in shown["sites"]), f"noise multipliers {[round(s['sigma'], 3) for s in shown['sites']]}")
    ok(shown["history"][-1]["metrics"]["count_sigma"] > 1, "counts of entities carry noise")
    ok(box.run("alpha", "train", "verify", shown["job"])["ok"], "its model is what its rounds make it")
    code, error = box.refusal("alpha", "train", "run", box.write("bare.yaml", job("bare", "noisy")))
    ok(code == 4, f"without noise on a dataset that asks for it: exit {code}, {error.get('detail', '')[:100]}")


def aggregations(box):
    files = lambda: len(os.listdir(os.path.join(box.home("beta"), "models")))  # noqa: E731
    left = {}
    for method in ("fedadam", "trimmed-mean", "fedprox"):
        before = files()
        shown = box.run("beta", "train", "run", box.write("m.yaml", job(method, "open", "lora", method)), timeout=300)
        ok(shown["state"] == "done" and box.run("beta", "train", "verify", shown["job"])["ok"], f"{method}: done, and computed again")
        left[method] = files() - before
    ok(len(set(left.values())) == 1, f"moments go with the job's end: files that each leaves: {left}")


def adapters(box, name, tune, rounds):
    """A and B of the query adapters after that many rounds, from the exported files."""
    shown = box.run("alpha", "train", "run", box.write("a.yaml", job(name, "open", tune).replace("rounds: 2", f"rounds: {rounds}")), timeout=300)
    out = os.path.join(box.folder, name)
    box.run("alpha", "model", "export", shown["model"], "--as", "peft", "--out", out)
    with open(os.path.join(out, "adapter_model.safetensors"), "rb") as file:
        data = file.read()
    size = int.from_bytes(data[:8], "little")
    found = {"A": [], "B": []}
    for key, entry in sorted(json.loads(data[8:8 + size]).items()):
        kind = "A" if ".lora_A." in key else "B" if ".lora_B." in key else None
        if kind:
            begin, end = entry["data_offsets"]
            found[kind] += struct.unpack_from(f"<{(end - begin) // 4}f", data, 8 + size + begin)
    return found


def alternating(box):
    """B in odd rounds, A in even ones: the first round is that of frozen A, the second moves A."""
    frozen, one, two = adapters(box, "frozen", "ffa-lora", 1), adapters(box, "one", "alternating-lora", 1), adapters(box, "two", "alternating-lora", 2)
    ok(one["A"] == frozen["A"] and any(one["B"]), "alternating LoRA: the first round keeps A, bit by bit, and moves B")
    ok(two["A"] != frozen["A"], "the second moves A")
    code, _ = box.refusal("alpha", "train", "run", box.write("a.yaml", job("no", "open", "alternating-lora", "fedadam")))
    ok(code == 7, f"with a server's momentum it is refused: exit {code}")


def masked(box):
    """A consortium grows its base: masked LM over notes, and the tuned base under a job for entities."""
    body = (job("grown", "open").replace("token-classification", "masked-lm"))
    shown = box.run("alpha", "train", "run", box.write("mlm.yaml", body), timeout=300)
    rows = shown["history"]
    ok(shown["state"] == "done" and all(sorted(r["participants"]) == sorted(box.names) for r in rows), f"a masked-LM job over all sites ends: {shown['state']}")
    ok(all(2 < r["eval_loss"] < 6 for r in rows), f"its held-out loss is that of a language model, log 30522 is 10.3: {[round(r['eval_loss'], 3) for r in rows]}")
    ok(0.05 < rows[-1]["metrics"]["accuracy"] < 1 and "f1" not in rows[-1]["metrics"], f"hidden pieces found: {rows[-1]['metrics']['accuracy']:.3f}")
    ok(box.run("alpha", "train", "verify", shown["job"])["ok"], "its model is what its rounds make it")
    code, error = box.refusal("alpha", "model", "predict", shown["model"], "--data", box.write("x.txt", "a b\n"))
    ok(code == 4, f"it predicts nothing yet: exit {code}, {error.get('detail', '')[:80]}")
    out = os.path.join(box.folder, "grown")
    box.run("alpha", "model", "export", shown["model"], "--out", out)
    with open(os.path.join(out, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    ok(config["architectures"] == ["BertForMaskedLM"] and os.path.exists(os.path.join(out, "vocab.txt")), "exported as a masked LM of Hugging Face's layout")
    with open(os.path.join(out, "README.md"), encoding="utf-8") as file:
        ok("fill-mask" in file.read(), "with a card")
    box.run("alpha", "model", "import", out, "--name", "grown", "--licence", "CC-BY-4.0")
    after = box.run("alpha", "train", "run", box.write("after.yaml", job("after", "open").replace("base: tiny", "base: grown").replace("rounds: 2", "rounds: 1")), timeout=300)
    ok(after["state"] == "done", "and it is a base for the next job")
    code, error = box.refusal("alpha", "train", "start", box.write("bare.yaml", body.replace("dataset: open", "dataset: noisy")))
    ok(code == 4, f"without noise where a licence asks for it: exit {code}")
    body = job("quiet", "noisy", "lora", privacy="privacy: {epsilon: 8, delta: 1e-5, clip: 1.0}").replace("token-classification", "masked-lm").replace("rounds: 2", "rounds: 1")
    shown = box.run("alpha", "train", "run", box.write("quiet.yaml", body), timeout=300)
    spent = shown["history"][-1]["epsilon"]
    ok(shown["state"] == "done" and 7 < spent <= 8 and box.run("alpha", "train", "verify", shown["job"])["ok"], f"with noise it ends within its epsilon: {spent:.4f}")


TEXTS = """dataset: letters
version: "1"
size: 60
columns:
  - {name: note, type: text}
  - {name: kind, type: category, values: [visit, surgery]}
"""
KINDS = {"visit": ("the patient came for a routine visit and feels well", "seen today in clinic, no complaint, next visit in a year"),
         "surgery": ("the tumour was removed by surgery under anaesthesia", "operation without complication, wound closed, drain placed")}


def classes(box):
    """Whole texts: sequence classification over two sites, its predictions, and a masked LM over the same column."""
    for name in ("beta", "gamma"):
        rows = "".join(f"\"{text}, number {i}\",{kind}\n" for i in range(15) for kind, texts in KINDS.items() for text in texts)
        box.run(name, "dataset", "import", box.write("texts.yaml", TEXTS + OPEN), "--data", box.write("texts.csv", "note,kind\n" + rows))
    box.wait("the dataset", lambda: len([d for d in box.run("alpha", "catalog")["datasets"] if d["dataset"] == "letters"]) == 2)
    body = job("kinds", "letters").replace("token-classification", "sequence-classification") + "features: [note]\ntarget: kind\n"
    shown = box.run("alpha", "train", "run", box.write("kinds.yaml", body), timeout=300)
    ok(shown["state"] == "done" and shown["history"][-1]["metrics"]["accuracy"] > 0.8, f"sequence classification: accuracy {shown['history'][-1]['metrics']['accuracy']}")
    lines = "".join(t[0] + "\n" for t in KINDS.values())
    got = box.run("alpha", "model", "predict", shown["model"], "--data", box.write("new.txt", lines))["rows"]
    ok([r["label"] for r in got] == list(KINDS) and all(abs(sum(r["probabilities"].values()) - 1) < 1e-5 for r in got), f"which it predicts: {[r['label'] for r in got]}")
    body = job("column", "letters").replace("token-classification", "masked-lm").replace("rounds: 2", "rounds: 1") + "features: [note]\n"
    shown = box.run("alpha", "train", "run", box.write("column.yaml", body), timeout=300)
    ok(shown["state"] == "done" and shown["history"][-1]["eval_loss"] < 8, f"a masked LM reads the column that it names: loss {shown['history'][-1]['eval_loss']:.3f}")
    code, error = box.refusal("alpha", "train", "start", box.write("other.yaml", body.replace("[note]", "[kind]")))
    ok(code == 4, f"not one that is no text: exit {code}, {error.get('detail', '')[:100]}")


def contradictions(box):
    """Another model of the same name at a site stops the job before any data is touched."""
    folder = os.path.join(box.folder, "other")
    os.makedirs(folder)
    for name in os.listdir(BASE):
        with open(os.path.join(BASE, name), "rb") as file:
            data = file.read()
        if name == "config.json":
            data = data.replace(b'"hidden_dropout_prob": 0.1', b'"hidden_dropout_prob": 0.2')
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)
    other = box.run("gamma", "model", "import", folder, "--name", "tiny", "--licence", "CC-BY-4.0")
    before = {name: rho(box, name, "noisy") for name in box.names}
    code, error = box.refusal("alpha", "train", "start", box.write("odd.yaml", job("odd", "noisy", "ffa-lora", privacy="privacy: {epsilon: 8, delta: 1e-5}")))
    after = {name: rho(box, name, "noisy") for name in box.names}
    ok(code == 7 and "gamma" in error.get("detail", ""), f"another base model at a site: exit {code}, {error.get('detail', '')[:120]}")
    ok(all(abs(before[n] - after[n]) < 1e-12 for n in box.names), "and no budget was spent")
    ok(len(other["hash"]) == 64, "the other model has another hash")
    code, error = box.refusal("alpha", "train", "start", box.write("none.yaml", job("none", "open").replace("base: tiny", "base: absent")))
    ok(code == 3, f"a base model that nobody imported: exit {code}")
    code, error = box.refusal("alpha", "model", "import", box.folder, "--name", "empty", "--licence", "CC0-1.0")
    ok(code in (3, 7), f"a folder without a model: exit {code}")


def main():
    text = sentences()
    with Sandbox("alpha,beta,gamma") as box:
        for i, name in enumerate(box.names):
            data = box.write(f"{name}.conll", conll(text[i * 150:i * 150 + 150], name))
            for dataset, licence in (("open", OPEN), ("noisy", NOISY)):
                box.run(name, "dataset", "import", box.write("m.yaml", MANIFEST.replace("NAME", dataset) + licence), "--data", data, "--format", "conll")
        imported = box.run("alpha", "model", "import", BASE, "--name", "tiny", "--licence", "CC-BY-4.0")
        box.run("beta", "model", "import", BASE, "--name", "tiny", "--licence", "CC-BY-4.0")
        note(f"base model {imported['hash'][:16]}, {imported['parameters']} parameters")
        without_noise(box)
        with_noise(box)
        aggregations(box)
        alternating(box)
        masked(box)
        classes(box)
        contradictions(box)
    done()


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
