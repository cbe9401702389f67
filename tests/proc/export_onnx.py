#!/usr/bin/env python3
"""The project's ONNX files, judged from outside: Debian's python3-onnx checks each, and its reference evaluator runs it where the release
has one (from 1.13); before that, a few lines of numpy here do, operator by operator as ONNX defines them. ONNXRUNTIME_WEB=FOLDER (where
`npm install onnxruntime-web` was run) runs them there as well. Padded batches must give the engine's packed answers within 1e-4."""
import json
import math
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import onnx
    from onnx import numpy_helper
except ImportError:
    # Another python3 stands first on the path: Debian's own has Debian's modules.
    if sys.executable != "/usr/bin/python3" and os.path.exists("/usr/bin/python3"):
        os.execv("/usr/bin/python3", ["/usr/bin/python3", "-B", *sys.argv])
    print("1..0 # SKIP python3-onnx or python3-numpy is not installed")
    sys.exit(0)

TOP = os.environ.get("top_builddir", ".")
SRC = os.environ.get("top_srcdir", ".")


def erf(x):
    return np.vectorize(math.erf)(x).astype(np.float32)


def softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def dequantise(q, scale, axis):
    shape = [1] * q.ndim
    shape[axis] = -1
    return q.astype(np.float32) * scale.reshape(shape)


def slice_(x, starts, ends, axes=None):
    where = [slice(None)] * x.ndim
    for i, axis in enumerate(axes if axes is not None else range(len(starts))):
        where[axis] = slice(int(starts[i]), int(ends[i]))
    return x[tuple(where)]


def reshape(x, shape):
    return x.reshape([x.shape[i] if n == 0 else int(n) for i, n in enumerate(shape)])


def unsqueeze(x, axes):
    for axis in sorted(int(a) for a in axes):
        x = np.expand_dims(x, axis)
    return x


OPERATORS = {
    "MatMul": lambda a, x, y: x @ y, "Add": lambda a, x, y: x + y, "Sub": lambda a, x, y: x - y, "Mul": lambda a, x, y: x * y,
    "Div": lambda a, x, y: x / y, "Sqrt": lambda a, x: np.sqrt(x), "Erf": lambda a, x: erf(x), "Tanh": lambda a, x: np.tanh(x),
    "ReduceMean": lambda a, x: x.mean(axis=tuple(a["axes"]), keepdims=bool(a.get("keepdims", 1))),
    "Softmax": lambda a, x: softmax(x, a.get("axis", -1)), "Gather": lambda a, x, i: np.take(x, i, axis=a.get("axis", 0)),
    "Shape": lambda a, x: np.array(x.shape, np.int64), "Slice": lambda a, x, s, e, *axes: slice_(x, s, e, *axes),
    "Reshape": lambda a, x, s: reshape(x, s), "Transpose": lambda a, x: x.transpose(a["perm"]),
    "Unsqueeze": lambda a, x, axes: unsqueeze(x, axes), "Cast": lambda a, x: x.astype({1: np.float32, 7: np.int64}[a["to"]]),
    "Clip": lambda a, x, low, high: np.clip(x, low, high), "Abs": lambda a, x: np.abs(x), "Sign": lambda a, x: np.sign(x),
    "Equal": lambda a, x, y: x == y, "Concat": lambda a, *x: np.concatenate(x, axis=a["axis"]), "Exp": lambda a, x: np.exp(x),
    "Sigmoid": lambda a, x: 1 / (1 + np.exp(-x)),
    "DequantizeLinear": lambda a, q, s, z: dequantise(q, s, a.get("axis", 1)),
}


def run_numpy(model, feeds):
    values = dict(feeds)
    for tensor in model.graph.initializer:
        values[tensor.name] = numpy_helper.to_array(tensor)
    for node in model.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        values[node.output[0]] = OPERATORS[node.op_type](attributes, *(values[n] for n in node.input))
    return values[model.graph.output[0].name]


def run_reference(model, feeds):
    from onnx.reference import ReferenceEvaluator
    return ReferenceEvaluator(model).run(None, feeds)[0]


def run_web(folder, path, feeds):
    request = {name: {"dims": list(v.shape), "data": [str(x) for x in v.flatten()]} for name, v in feeds.items()}
    out = subprocess.run(["node", os.path.join(SRC, "tests/proc/export_onnx_web.cjs"), folder, path], input=json.dumps(request),
                         capture_output=True, text=True, timeout=120, check=True).stdout
    answer = json.loads(out)
    return np.array(answer["data"], np.float32).reshape(answer["dims"])


def padded(case):
    longest, lengths = max(case["lengths"]), case["lengths"]
    feeds = {n: np.zeros((len(lengths), longest), np.int64) for n in ("input_ids", "attention_mask", "token_type_ids")}
    at = 0
    for i, n in enumerate(lengths):
        feeds["input_ids"][i, :n] = case["ids"][at:at + n]
        feeds["token_type_ids"][i, :n] = case["types"][at:at + n]
        feeds["attention_mask"][i, :n] = 1
        at += n
    return feeds


def inputs(case):
    if "columns" in case:
        return {name: np.array(values, np.float32).reshape(-1, 1) for name, values in case["columns"].items()}
    return padded(case)


def worst(case, logits):
    """The largest difference from the packed answers; of a table's in relation to its size."""
    if "columns" in case:
        want = np.array(case["answers"], np.float32).reshape(-1, 1)
        return float((np.abs(logits - want) / (1 + np.abs(want))).max()) if logits.shape == want.shape else float("inf")
    want = np.array(case["logits"], np.float32).reshape(-1, case["labels"])
    if logits.ndim == 3:
        logits = np.concatenate([logits[i, :n] for i, n in enumerate(case["lengths"])])
    return float(np.abs(logits - want).max()) if logits.shape == want.shape else float("inf")


def run_one(path, columns):
    """For other tests: what a checked file answers to columns of numbers, as JSON."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    feeds = {name: np.array(values, np.float32).reshape(-1, 1) for name, values in json.loads(columns).items()}
    print(json.dumps(run_numpy(model, feeds).flatten().tolist()))


def main():
    runners = [("numpy", lambda m, p, f: run_numpy(m, f))]
    try:
        from onnx import reference  # noqa: F401
        runners.append(("reference evaluator", lambda m, p, f: run_reference(m, f)))
    except ImportError:
        pass
    web = os.environ.get("ONNXRUNTIME_WEB")
    if web:
        runners.append(("onnxruntime-web", lambda m, p, f: run_web(web, p, f)))
    number, failed = 0, 0
    with tempfile.TemporaryDirectory(prefix="concordat-onnx.") as folder:
        subprocess.run([os.path.join(TOP, "tests/proc/onnx_case"), folder], timeout=60, check=True)
        with open(os.path.join(folder, "cases.json"), encoding="utf-8") as file:
            cases = json.load(file)
        for case in cases:
            path = os.path.join(folder, case["file"])
            model = onnx.load(path)
            number += 1
            try:
                onnx.checker.check_model(model, full_check=True)
                print(f"ok {number} - {case['file']}: python3-onnx {onnx.__version__} accepts it, opset {model.opset_import[0].version}")
            except Exception as why:  # the checker's own kinds differ by release
                failed += 1
                print(f"not ok {number} - {case['file']}: {str(why)[:200]}")
            if "columns" in case:
                number += 1
                named = [o.name for o in model.graph.output] == [case["output"]] and {i.name for i in model.graph.input} == set(case["columns"])
                failed += not named
                print(f"{'ok' if named else 'not ok'} {number} - {case['file']}: inputs are the columns, the output is {case['output']}")
            for name, run in runners:
                number += 1
                try:
                    off = worst(case, run(model, path, inputs(case)))
                except RuntimeError as why:
                    if "No implementation for operator" not in str(why):
                        raise
                    print(f"ok {number} - {case['file']} by {name} # SKIP {str(why)[:120]}")
                    continue
                failed += off > 1e-4
                print(f"{'ok' if off <= 1e-4 else 'not ok'} {number} - {case['file']}: {name} gives the engine's answers, off by {off:.1e}")
    print(f"1..{number}")
    return failed


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:  # FILE COLUMNS
        run_one(*sys.argv[2:])
        sys.exit(0)
    sys.exit(1 if main() else 0)
