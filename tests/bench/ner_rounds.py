#!/usr/bin/env python3
"""Is a model from three sites as good as one from all texts in one place? NCBI diseases, all weights, no noise, 8 rounds of one epoch
against 8 epochs at a single site with everything, F1 over texts that neither saw (exact names, seqeval's definition).
NER_DIR: a folder with train.tsv and test.tsv (default: the demonstration's, whose last fifth is held back); SEEDS: how many."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ.get("top_srcdir", "."), "tests", "proc"))
from harness import SRC, TOP, Sandbox  # noqa: E402
from notes import BASE, FILES, MANIFEST, OPEN  # noqa: E402

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
    import json
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


def main():
    folder = os.environ.get("NER_DIR") or os.path.join(FILES, "ncbi-disease")
    train = documents(read(os.path.join(folder, "train.tsv")))
    path = os.path.join(folder, "test.tsv")
    test = read(path) if os.path.exists(path) else [s for doc in train[-len(train) // 5:] for s in doc]
    train = train if os.path.exists(path) else train[:-len(train) // 5]
    numbered = list(enumerate(train))
    shares = [[d for d in numbered if d[0] % 10 < 5], [d for d in numbered if 5 <= d[0] % 10 < 8], [d for d in numbered if d[0] % 10 >= 8]]
    sums = [0.0, 0.0]
    count = int(os.environ.get("SEEDS") or 1)
    for seed in range(1, count + 1):
        federated = run("alpha,beta,gamma", shares, test, 8, 1, seed)
        central = run("alpha", [numbered], test, 1, 8, seed)
        print(f"# seed {seed}: federated F1 {federated:.4f}, centralised {central:.4f}", flush=True)
        sums[0] += federated
        sums[1] += central
    ours, rival = sums[0] / count, sums[1] / count
    print(f"bench ner-federated-f1 ours={ours:.4f} rival={rival:.4f} ratio={ours / rival:.3f} unit=F1 rival_name=centralised")
    return 0 if SRC else 1


if __name__ == "__main__":
    sys.exit(main())
