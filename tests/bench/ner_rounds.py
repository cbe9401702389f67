"""make bench BENCH=ner: is a model from three sites as good as one from all texts in one place? NCBI diseases, all weights, no noise,
F1 over the corpus' test part (exact names, seqeval's definition, strict IOB2), mean of SEEDS runs (3).

Three sites hold a half, three tenths and two tenths of the documents. Federated: 8 rounds of 3 local epochs, so that with a third of the
texts on average a site takes as many optimiser steps as the centralised run of 8 epochs at one site with everything: averaging three
models moves about as far as one of them. EPOCHS=1 shows what 8 rounds of one epoch reach, for a third of the computation.
The rest of the recipe is the same: batches of 16, AdamW at 5e-4, 10 % warm-up, linear decay over the steps of all rounds.
NER_DIR: another folder with train.tsv and test.tsv."""
import json
import os
import re
import statistics
import subprocess

from report import TOP, better, load, say
from harness import Sandbox
from notes import BASE, FILES, MANIFEST, OPEN

JOB = """job: ner
task: token-classification
dataset: abstracts
purpose: "DUO:0000042"
model: {base: tiny, tune: full}
rounds: ROUNDS
local: {epochs: EPOCHS, batch: 16, learning_rate: 5e-4, warmup: 0.1, weight_decay: 0.01, max_length: 128, seed: SEED}
participation: {min_sites: 1, round_timeout: 10m, standby: 0}
evaluate: {split: 0, every: 0}
"""


def read(path):
    with open(path, encoding="utf-8") as file:
        return [s.strip("\n") for s in file.read().split("\n\n") if s.strip()]


def documents(sentences):
    return [sentences[i:i + 9] for i in range(0, len(sentences), 9)]


def conll(docs, name):
    return "".join(f"-DOCSTART- {name}-{i}\n\n" + "".join(s + "\n\n" for s in doc) for i, doc in docs)


def score(box, model, test):
    """F1 of the model's tags against the right ones."""
    words = box.write("test.conll", "".join(s + "\n\n" for s in test))
    rows = box.run("alpha", "model", "predict", model, "--data", words, "--format", "conll", timeout=300)["rows"]
    text = ""
    for sentence, row in zip(test, rows, strict=True):
        for line, tag in zip(sentence.split("\n"), row["tags"], strict=True):
            text += f"{line.split(chr(9))[1]} {tag}\n"
        text += "\n"
    done = subprocess.run([os.path.join(TOP, "concordat"), "--json", "tool", "report", "--mode", "strict"], input=text.encode(), stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)["micro"]["f1"]


def run(names, parts, test, rounds, epochs, seed):
    with Sandbox(names) as box:
        for name, docs in zip(box.names, parts):
            data = box.write(f"{name}.conll", conll(docs, name))
            manifest = MANIFEST.replace("NAME", "abstracts").replace("max_rows_per_unit: 12", "max_rows_per_unit: 16").replace("size: 30", f"size: {len(docs)}")
            box.run(name, "dataset", "import", box.write("m.yaml", manifest + OPEN), "--data", data, "--format", "conll")
        box.run("alpha", "model", "import", BASE, "--name", "tiny", "--licence", "CC-BY-4.0")
        box.wait("the catalogue", lambda: len(box.run("alpha", "catalog")["datasets"]) == len(box.names), 30)
        text = JOB.replace("ROUNDS", str(rounds)).replace("EPOCHS", str(epochs)).replace("SEED", str(seed))
        shown = box.run("alpha", "train", "run", box.write("job.yaml", text), timeout=3000)
        return score(box, shown["model"], test)


def card():
    """What the base model's card says of full fine-tuning on the same test part."""
    with open(os.path.join(BASE, "README.md"), encoding="utf-8") as file:
        return float(re.search(r"type: f1, value: ([0-9.]+)", file.read())[1])


def bench_ner():
    folder = os.environ.get("NER_DIR") or os.path.join(FILES, "ncbi-disease")
    train, test = documents(read(os.path.join(folder, "train.tsv"))), read(os.path.join(folder, "test.tsv"))
    numbered = list(enumerate(train))
    shares = [[d for d in numbered if d[0] % 10 < 5], [d for d in numbered if 5 <= d[0] % 10 < 8], [d for d in numbered if d[0] % 10 >= 8]]
    epochs, count = int(os.environ.get("EPOCHS") or 3), int(os.environ.get("SEEDS") or 3)
    say(f"ner: {len(train)} documents, {len(test)} sentences to test on; 3 sites, 8 rounds of {epochs} epochs; load {load()}")
    federated, central = [], []
    for seed in range(1, count + 1):
        federated.append(run("alpha,beta,gamma", shares, test, 8, epochs, seed))
        central.append(run("alpha", [numbered], test, 1, 8, seed))
        say(f"ner: seed {seed}: federated F1 {federated[-1]:.4f}, centralised {central[-1]:.4f}")
    ours, rival = statistics.mean(federated), statistics.mean(central)
    better("ner-federated-f1", ours, rival, "F1", "centralised", (rival - 0.02) / rival)  # within two points
    better("ner-federated-f1-card", ours, card(), "F1", "card", 1)
    better("ner-centralised-f1-card", rival, card(), "F1", "card", 1)
    return True
