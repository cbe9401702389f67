#!/usr/bin/env python3
"""Models in and out at one node: import, export in every format and back, card, predictions, what is refused; and the tools that need no
node. The trained kind goes through tests/proc/notes.py."""
import json
import os
import shutil
import struct
import subprocess
import zlib

from harness import Refused, Sandbox, SRC, TOP, done, ok

SMALL = os.path.join(SRC, "tests/vectors/bert/small")
TINY = os.path.join(SRC, "deploy/demo-ner-files/bert-tiny-biomed")
TAGS = ["O", "B-Drug", "I-Drug", "B-Sign", "I-Sign"]


def small_folder(folder):
    """The small model of the vectors with its classifier, labels and a vocabulary of letters."""
    os.makedirs(folder)
    with open(os.path.join(SMALL, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    config["architectures"] = ["BertForTokenClassification"]
    config["id2label"] = {str(i): tag for i, tag in enumerate(TAGS)}
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    shutil.copy(os.path.join(SMALL, "model.safetensors"), folder)
    letters = [chr(ord("a") + i) for i in range(26)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + letters + ["##" + c for c in letters]
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as file:
        file.write("".join(p + "\n" for p in pieces + [f"[unused{i}]" for i in range(200 - len(pieces))]))


def tool(*args, text, code=0):
    run = subprocess.run([os.path.join(TOP, "concordat"), "tool", *args], input=text, capture_output=True, text=True, timeout=60,
                         check=False)
    return run.stdout if run.returncode == code else f"exit {run.returncode}: {run.stderr}"


def tools():
    ok(tool("tokenize", "--model", TINY, text="Mutations in BRCA1\nb\n\n").splitlines()[1] == "1038", "tool tokenize: ids by line")
    ok(json.loads(tool("tokenize", "--model", TINY, "--json", text="b\n\n")) == [[1038], []], "tool tokenize --json")
    pairs = "w B-X B-X\nv I-X O\n\nu B-Y B-Y\n"
    report = json.loads(tool("report", "--json", text=pairs))
    ok(report["types"]["Y"]["f1"] == 1 and report["micro"]["f1"] == 0.5, "tool report: entities of pairs")
    loose, strict = (json.loads(tool("report", "--mode", m, "--json", text="I-X I-X\n")) for m in ("conlleval", "strict"))
    ok(loose["micro"]["f1"] == 1 and strict["micro"]["f1"] == 0, "tool report: rules of conlleval and strict IOB2")
    ok(tool("report", text="B-X\n", code=7) == "", "tool report: one column is refused")


def zeros_of(folder):
    """Zeros among the numbers of the layers' matrices, read without our code."""
    path, zeros, numbers = os.path.join(folder, "model.safetensors"), 0, 0
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        start = file.tell()
        for name, entry in header.items():
            if ".layer." in name and name.endswith(".weight") and len(entry["shape"]) == 2:
                file.seek(start + entry["data_offsets"][0])
                data = file.read(entry["data_offsets"][1] - entry["data_offsets"][0])
                values = struct.unpack(f"<{len(data) // 4}f", data)
                zeros += sum(v == 0 for v in values)
                numbers += len(values)
    return zeros, numbers


def formats(box, work):
    at = lambda *a: box.run("alpha", "model", *a)
    data = box.write("words.txt", "abc de f\n\nxyz\n" + "ab " * 200 + "\n")
    want = at("predict", "small", "--data", data)["rows"]
    ok([len(r["words"]) for r in want] == [3, 0, 1, 200] and all(t in TAGS for r in want for t in r["tags"]),
       "predict: a tag for each word, empty and long lines too")
    column = box.write("words.conll", "abc\tO\nde\tB-Drug\nf\tO\n\nxyz\tO\n")
    got = at("predict", "small", "--data", column)["rows"]
    ok([r["tags"] for r in got] == [want[0]["tags"], want[2]["tags"]], "predict: one word a line gives the same")
    for kind, files in (("safetensors", {"config.json", "model.safetensors", "vocab.txt", "README.md"}),
                        ("onnx", {"config.json", "model.onnx", "vocab.txt", "README.md"}),
                        ("int8", {"config.json", "model.onnx", "vocab.txt", "README.md"})):
        out = os.path.join(work, kind)
        answer = at("export", "small", "--as", kind, "--out", out)
        ok({os.path.basename(f["file"]) for f in answer["files"]} == files == set(os.listdir(out)), f"export --as {kind}: its files")
    size = [os.path.getsize(os.path.join(work, k, "model.onnx")) for k in ("onnx", "int8")]
    ok(size[1] < 0.6 * size[0], f"int8 is smaller: {size[1]} of {size[0]} bytes")
    at("import", os.path.join(work, "safetensors"), "--name", "again", "--licence", "CC0-1.0")
    ok(at("predict", "again", "--data", data)["rows"] == want, "what was exported comes back and says the same")
    with open(os.path.join(work, "int8/README.md"), encoding="utf-8") as file:
        ok("- This variant: matrices in eight bits" in file.read(), "and its card says what it is")
    whole = at("export", "small", "--out", os.path.join(work, "whole"))
    pruned = at("export", "small", "--prune", "0.9", "--out", os.path.join(work, "pruned"))
    ok("sparsity" not in whole and 0.89 < pruned["sparsity"] <= 0.9 and pruned["bytes"] > 100_000, f"export tells sparsity and size: {pruned['sparsity']:.4f}, {pruned['bytes']}")
    packed = [len(zlib.compress(open(os.path.join(work, f, "model.safetensors"), "rb").read())) for f in ("whole", "pruned")]
    ok(packed[1] < 0.8 * packed[0], f"a pruned model compresses: {packed[0]} to {packed[1]} bytes")
    zeros, numbers = zeros_of(os.path.join(work, "pruned"))
    ok(abs(zeros / numbers - pruned["sparsity"]) < 1e-9, f"and the file has those zeros: {zeros} of {numbers}")
    with open(os.path.join(work, "pruned/README.md"), encoding="utf-8") as file:
        ok(f"({zeros} of {numbers})" in file.read(), "which the card says")
    with open(os.path.join(work, "whole/README.md"), encoding="utf-8") as file:
        ok("This variant" not in file.read(), "a card of the model as it is says nothing of the kind")
    at("import", os.path.join(work, "pruned"), "--name", "pruned", "--licence", "CC0-1.0")
    ok(at("predict", "pruned", "--data", data)["rows"] != want, "--prune 0.9 changes the model")
    card = at("card", "small")["card"]
    ok(card.startswith('---\nlicense: "cc0-1.0"\n') and "B-Sign" in card, "card: front matter and labels")


def read_tensor(path, name):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        start = file.tell()
        entry = header[name]
        file.seek(start + entry["data_offsets"][0])
        data = file.read(entry["data_offsets"][1] - entry["data_offsets"][0])
    return entry["shape"], struct.unpack(f"<{len(data) // 8}d", data)


def write_adapter(folder):
    """PEFT adapters of the small model on its queries, and its own classifier. B is zero, so that nothing changes."""
    os.makedirs(folder)
    tensors = {f"base_model.model.{n}": read_tensor(os.path.join(SMALL, "model.safetensors"), n) for n in ("classifier.weight", "classifier.bias")}
    for layer in range(2):
        stem = f"base_model.model.bert.encoder.layer.{layer}.attention.self.query."
        tensors[stem + "lora_A.weight"] = ([4, 32], [0.1 * (i % 7) for i in range(128)])
        tensors[stem + "lora_B.weight"] = ([32, 4], [0.0] * 128)
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (shape, values) in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(data), len(data) + 4 * len(values)]}
        data += struct.pack(f"<{len(values)}f", *values)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(os.path.join(folder, "adapter_model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head + data)
    with open(os.path.join(folder, "adapter_config.json"), "w", encoding="utf-8") as file:
        json.dump({"peft_type": "LORA", "task_type": "TOKEN_CLS", "r": 4, "lora_alpha": 8, "target_modules": ["query"], "bias": "none",
                   "modules_to_save": ["classifier"], "base_model_name_or_path": "some/where/small"}, file)


def adapters(box, work):
    at = lambda *a: box.run("alpha", "model", *a)
    folder = os.path.join(work, "peft-in")
    write_adapter(folder)
    at("import", folder, "--name", "adapted", "--licence", "CC0-1.0")
    data = box.write("words.txt", "abc de f\nxyz\n")
    number = {tag: f"LABEL_{i}" for i, tag in enumerate(TAGS)}
    want = [[number[t] for t in r["tags"]] for r in at("predict", "small", "--data", data)["rows"]]
    ok([r["tags"] for r in at("predict", "adapted", "--data", data)["rows"]] == want, "PEFT adapters come in over the base that they name")
    out = os.path.join(work, "peft-out")
    files = {os.path.basename(f["file"]) for f in at("export", "adapted", "--as", "peft", "--out", out)["files"]}
    ok({"adapter_config.json", "adapter_model.safetensors", "README.md"} <= files, f"and go out as PEFT: {sorted(files)}")
    at("import", out, "--name", "returned", "--licence", "CC0-1.0", "--base", "small")
    ok([r["tags"] for r in at("predict", "returned", "--data", data)["rows"]] == want, "and back in, with --base")
    at("export", "adapted", "--as", "safetensors", "--out", os.path.join(work, "merged"))
    at("import", os.path.join(work, "merged"), "--name", "merged", "--licence", "CC0-1.0")
    ok([r["tags"] for r in at("predict", "merged", "--data", data)["rows"]] == want, "merged, they say the same")
    with open(os.path.join(folder, "adapter_config.json"), encoding="utf-8") as file:
        config = file.read()
    for change, code, name in (("some/where/small", 3, "an unknown base: 3"), ('"none"', 4, "biases among adapters: 4")):
        with open(os.path.join(folder, "adapter_config.json"), "w", encoding="utf-8") as file:
            file.write(config.replace(change, '"all"' if code == 4 else "nowhere"))
        try:
            at("import", folder, "--name", "x", "--licence", "MIT")
            ok(False, name)
        except Refused as why:
            ok(why.code == code, name)


def refusals(box, work):
    def refused(code, *args):
        try:
            box.run("alpha", "model", *args)
        except Refused as why:
            return why.code == code
        return False

    data = box.write("a.txt", "abc\n")
    ok(refused(2, "export", "small", "--as", "peft", "--out", os.path.join(work, "peft")), "adapters of a whole model: 2")
    ok(not os.path.exists(os.path.join(work, "peft")), "and no folder is left of it")
    ok(refused(2, "export", "small", "--out", os.path.join(work, "onnx")), "a folder that is not empty: 2")
    ok(refused(4, "export", "small", "--as", "gguf", "--out", os.path.join(work, "gguf")), "a format that there is not: 4")
    ok(refused(3, "predict", "none", "--data", data), "an unknown model: 3")
    ok(refused(4, "predict", "tiny", "--data", data), "a base model without a classifier: 4")
    with open(box.write("bad.txt", ""), "wb") as file:
        file.write(b"\xff\xfe\n")
    ok(refused(7, "predict", "small", "--data", file.name), "bytes that are no text: 7")
    broken = os.path.join(work, "broken")
    shutil.copytree(os.path.join(work, "safetensors"), broken)
    path = os.path.join(broken, "model.safetensors")
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) - 7)
    ok(refused(7, "import", broken, "--name", "broken", "--licence", "MIT"), "a truncated file: 7")
    ok(refused(7, "import", os.path.join(work, "small"), "--name", "broken", "--licence", "Own-1.0"), "a licence that is not SPDX's: 7")
    with open(os.path.join(broken, "config.json"), "w", encoding="utf-8") as file:
        file.write('{"model_type": "llama"}')
    ok(refused(4, "import", broken, "--name", "broken", "--licence", "MIT"), "another architecture: 4")


def main():
    tools()
    with Sandbox("alpha") as box:
        work = os.path.join(box.dir, "work")
        os.makedirs(work)
        small_folder(os.path.join(work, "small"))
        box.run("alpha", "model", "import", os.path.join(work, "small"), "--name", "small", "--licence", "CC0-1.0")
        box.run("alpha", "model", "import", TINY, "--name", "tiny", "--licence", "CC-BY-4.0")
        formats(box, work)
        adapters(box, work)
        refusals(box, work)
    done()


if __name__ == "__main__":
    main()
