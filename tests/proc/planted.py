#!/usr/bin/env python3
"""100 planted values, in columns that are pseudonymised, dropped or private: none is found in clear, neither in any file of any
home (logs included) nor in anything that crossed between nodes, read on the plain side of TLS."""
import os
import random
import string
import struct
import subprocess
import tempfile

from harness import SRC, Refused, Sandbox, done, licence, note, ok, rng

MANIFEST = """dataset: planted
version: "1"
size: 1000
unit: patient
max_rows_per_unit: 2
columns:
  - {name: patient, type: text, deidentify: pseudonym}
  - {name: name, type: text, deidentify: drop}
  - {name: ward, type: category, values: private}
  - {name: score, type: real, min: 0, max: 1000}
  - {name: age, type: integer, min: 0, max: 110}
  - {name: ill, type: boolean}
""" + licence(epsilon_total=50, per_query=5, per_job=20)

JOB = """job: planted
task: tabular-classification
dataset: planted
purpose: "DUO:0000006"
features: [age, score]
target: ill
rounds: 2
participation: {min_sites: 2, round_timeout: 60s}
privacy: {epsilon: 10, delta: 1e-6, clip: 1.0}
evaluate: {split: 0.2, every: 1}
"""


def word():
    return "".join(rng.choice(string.ascii_letters + string.digits) for _ in range(16))


def rows(planted):
    """CSV text with its share of planted values."""
    lines = ["patient,name,ward,score,age,ill"]
    for _ in range(400):
        secret = [word(), word(), rng.choice(planted["wards"]), rng.uniform(1, 999), rng.randrange(20, 90), rng.randrange(2)]
        planted["texts"] += secret[:2]
        planted["doubles"].append(secret[3])
        lines.append(",".join([secret[0], secret[1], secret[2], repr(secret[3]), str(secret[4]), str(secret[5])]))
    return "\n".join(lines) + "\n"


def files_below(folder):
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            if os.path.isfile(path):
                yield path


def needles(planted):
    texts = random.Random(1).sample(planted["texts"], 60) + planted["wards"]
    doubles = random.Random(2).sample(planted["doubles"], 35)
    for text in texts:
        yield text, [text.encode()]
    for value in doubles:
        yield repr(value), [repr(value).encode(), struct.pack("<d", value), struct.pack(">d", value)]


def search(paths, planted):
    blobs = []
    size = 0
    for path in paths:
        with open(path, "rb") as file:
            blobs.append((path, file.read()))
        size += len(blobs[-1][1])
    found = [(name, path) for name, forms in needles(planted) for path, blob in blobs for form in forms if form in blob]
    for name, path in found[:10]:
        note(f"{name} stands in {path}")
    return found, size


def main():
    tap = tempfile.mkdtemp(prefix="concordat-tap.")
    library = os.path.join(tap, "plaintext.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, os.path.join(SRC, "tests/proc/plaintext.c"), "-ldl"], check=True)
    planted = {"texts": [], "doubles": [], "wards": [word() for _ in range(5)]}
    box = Sandbox("alpha,beta,gamma", start=False)
    with box:
        os.environ.update(LD_PRELOAD=library, CONCORDAT_TEST_TAP=tap)
        try:
            box.start()
        finally:
            del os.environ["LD_PRELOAD"]
        manifest = box.write("m.yaml", MANIFEST)
        for name in box.names:
            data = box.write("rows.csv", rows(planted))
            box.run(name, "dataset", "import", manifest, "--data", data)
            os.remove(data)
        bad = box.write("bad.csv", "patient,name,ward,score,age,ill\n" + ",".join([planted["texts"][0], word(), planted["wards"][0], planted["texts"][1], "x", "2"]) + "\n")
        code, answer, text = box.try_run("alpha", "dataset", "import", manifest, "--data", bad)
        ok(code == 7 and planted["texts"][1] not in text, "a rejected row is told by line and column, without its contents")
        os.remove(bad)
        for i in range(4):
            box.run("beta", "query", f"SELECT COUNT(*), COUNT(DISTINCT patient), AVG(score), SUM(age) FROM planted WHERE age > {20 + i}", "--purpose", "DUO:0000006", "--epsilon", "1")
        box.run("gamma", "train", "run", box.write("job.yaml", JOB))
        box.run("alpha", "audit", "list")
        box.try_run("alpha", "sandbox", "stop", box.dir)
        wire = [path for path in files_below(tap) if path.endswith((".in", ".out"))]
        found, size = search(wire, planted)
        ok(len(wire) >= 6 and size > 20000, f"{size} bytes crossed between nodes in {len(wire)} captures")
        ok(not found, "no planted value crossed")
        homes = [path for path in files_below(box.dir) if not path.endswith((".csv", ".yaml"))]
        found, size = search(homes, planted)
        ok(size > 100000, f"{size} bytes lie in {len(homes)} files of the homes")
        ok(not found, "no planted value lies there in clear")
        control = os.path.join(tap, "control.out")
        with open(control, "wb") as file:
            file.write(b"x" + planted["wards"][0].encode() + b"y")
        ok(search([control], planted)[0], "the search itself finds what is there")
    subprocess.run(["rm", "-rf", tap], check=False)
    done()


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
