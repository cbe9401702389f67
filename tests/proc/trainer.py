#!/usr/bin/env python3
"""External trainers: a plain one learns what gradient descent by hand learns; a hostile one harms nothing, whatever it does; with
noise a failure after it has the rows is not seen outside; torch where it is installed."""
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time

from harness import SRC, TOP, Refused, Sandbox, done, flchain, licence, note, ok, skip
from notes import OPEN
from training import FEATURES, manifest, sigmoid, table

FOLDER = os.path.abspath(os.path.join(SRC, "deploy/trainer"))
HERE = os.path.abspath(os.path.join(SRC, "tests/proc"))
sys.path.insert(0, FOLDER)
import concordat_trainer as node  # noqa: E402  pylint: disable=wrong-import-position
HOSTILE = ["crash", "hang", "garbage", "flood", "long", "size", "nan", "shape", "confined", "memory"]  # one a round
ROWS = 600
PROGRAMS = {"all": ",".join(HOSTILE), "mute": "mute", "ungreeted": "ungreeted", "escape": "escape", "escape-raw": "escape-raw",
            "some": "crash,nan,huge", "large": "large", "busy": "busy"}


# Tells what it was given: the numbers that a job begins with are zeros.
PROBE = """import concordat_trainer as node
task = node.begin("probe", ("tabular-regression", "tabular-survival"))
rows = {} if task.start else node.rows()
node.finish([0.0] * 3 if task.start else [sum(rows["y"]), sum(rows.get("time", [])), float(task.rows)])
"""


def job(name, dataset, trainer, rounds=1, seconds=2, rate=1.0, task="tabular-classification", target="death", features=None, extra=""):
    return f"""job: {name}
task: {task}
dataset: {dataset}
purpose: "DUO:0000006"
features: [{", ".join(features or FEATURES)}]
target: {target}
model: {{trainer: {trainer}, time: {seconds}s}}
rounds: {rounds}
local: {{epochs: 5, learning_rate: {rate}}}
participation: {{min_sites: 1, round_timeout: 60s, standby: 0}}
{extra}"""


def configure(box, name, hostile):
    """Every name is the plain trainer at a node that means well."""
    home = box.home(name)
    lines = ["trainers:"]
    for mode in ["plain", *PROGRAMS]:
        script = f"{FOLDER}/plain.py"
        arguments = []
        if hostile and mode != "plain":
            script = f"{box.folder}/trainer/hostile_trainer.py"
            arguments = [f'"{PROGRAMS[mode]}"', f"{home}/keyfile", f"{home}/node.yaml", f"{home}/", os.path.dirname(home) + "/alpha/keyfile", "/tmp/escape-mark"]
        lines.append(f"  - name: {mode}")
        lines.append(f"    program: [/usr/bin/python3, {', '.join([script] + arguments)}]")
        lines.append(f"    read: [{FOLDER}, {box.folder}/trainer]")
        lines.append(f"    jit: {'true' if mode == 'escape-raw' else 'false'}")
    lines.append(f"  - {{name: probe, program: [/usr/bin/python3, {box.folder}/trainer/probe.py], read: [{box.folder}/trainer]}}")
    lines.append("  - {name: torch, program: [/usr/bin/python3, " + FOLDER + "/torch_mlp.py], read: [" + FOLDER + "], memory_mb: 8192, jit: true}")
    with open(os.path.join(home, "node.yaml"), "a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def run(box, name, *rest, **options):
    began = time.monotonic()
    path = box.write(f"{name}.yaml", job(name, *rest, **options))
    started = box.run("alpha", "train", "run", path, timeout=90)
    return box.run("alpha", "train", "show", started["job"]), time.monotonic() - began


def weights(box, shown):
    out = os.path.join(box.folder, "out-" + shown["job"])
    box.run("alpha", "model", "export", shown["model"], "--as", "json", "--out", out)
    for name in os.listdir(out):
        if name.endswith(".json"):
            with open(os.path.join(out, name), encoding="utf-8") as file:
                document = json.load(file)
            if document.get("format") == "concordat-trainer-1":
                return document["weights"]
    return None


def encoded():
    """The rows as a trainer gets them; both sites have the same, so the mean of their changes is what one of them computes."""
    low = {"age": (50, 90), "creatinine": (0, 5), "kappa": (0, 10), "lambda": (0, 10)}
    points = []
    for value, y in table(ROWS):
        x = []
        for name in FEATURES:
            if name in low:
                a, b = low[name]
                x.append(2 * (min(max(float(value[name]), a), b) - a) / (b - a) - 1)
            else:
                x.append(float(value[name] == "M" if name == "sex" else value[name]))
        points.append((x + [1.0], y))
    return points


def descend(points, steps):
    w = [0.0] * len(points[0][0])
    for _ in range(steps):
        gradient = [0.0] * len(w)
        for x, y in points:
            error = sigmoid(sum(a * b for a, b in zip(w, x))) - y
            gradient = [g + error * a for g, a in zip(gradient, x)]
        w = [a - g / len(points) for a, g in zip(w, gradient)]
    return w


def plain(box):
    shown, _ = run(box, "plain", "open", "plain", rounds=2)
    rows = shown["history"]
    ok(shown["state"] == "done" and all(sorted(r["participants"]) == ["alpha", "beta"] for r in rows), f"plain: {shown['state']}, {len(rows)} rounds by two sites")
    got = weights(box, shown)
    points = encoded()
    want = descend(points, 2 * 5)
    ok(got is not None and len(got) == len(want) and max(abs(a - b) for a, b in zip(got, want)) < 1e-4,
       f"its model is what ten steps of gradient descent give: {['%.4f' % w for w in got or []]}")
    ok(box.run("alpha", "train", "verify", shown["job"])["ok"], "the model is what its rounds make it")


def outcomes(box):
    """A number and an event with its time, as the built-in engines have them too."""
    rows = [row for row, _ in table(ROWS)]
    want = [min(max(float(row["kappa"]), 0), 10) / 5 - 1 for row in rows]
    xs = [[2 * (min(max(float(row["age"]), 50), 90) - 50) / 40 - 1, 2 * min(max(float(row["creatinine"]), 0), 5) / 5 - 1, 1] for row in rows]
    shown, _ = run(box, "o-number", "open", "probe", task="tabular-regression", target="kappa", features=["age", "creatinine"])
    got = weights(box, shown)
    ok(shown["state"] == "done" and abs(got[0] - sum(want)) < 1e-2 and got[1] == 0 and got[2] == len(rows),
       f"of a regression it gets the standardised target: {got}, sum {sum(want):.3f}")
    shown, _ = run(box, "o-plain", "open", "plain", task="tabular-regression", target="kappa", features=["age", "creatinine"])
    w = [0.0] * 3
    for _ in range(5):
        errors = [sum(a * b for a, b in zip(w, x)) - y for x, y in zip(xs, want)]
        w = [a - sum(e * x[i] for e, x in zip(errors, xs)) / len(rows) for i, a in enumerate(w)]
    got = weights(box, shown)
    ok(max(abs(a - b) for a, b in zip(got, w)) < 1e-4, f"and a linear model is what gradient descent gives: {got}, {w}")
    path = os.path.join(box.folder, "out-" + shown["job"])
    with open(os.path.join(path, next(n for n in os.listdir(path) if n.endswith(".json") and "weights" in open(os.path.join(path, n), encoding="utf-8").read())), encoding="utf-8") as file:
        document = json.load(file)
    ok(document["scale"] == 5 and document["offset"] == 5, f"the document says how to read its target: {document['scale']}, {document['offset']}")
    survival = "time: lambda\nhorizon: 10"
    shown, _ = run(box, "o-event", "open", "probe", task="tabular-survival", features=["age", "creatinine"], extra=survival)
    got = weights(box, shown)
    ok(shown["state"] == "done" and got[0] > 0 and got[1] > 0 and got[2] <= len(rows), f"of survival it gets events and times: {got}")
    path = box.write("o-not.yaml", job("o-not", "open", "plain", task="tabular-survival", features=["age"], extra=survival))
    code, error = box.refusal("alpha", "train", "run", path)
    ok(code == 7 and "failed" in error.get("detail", ""), f"a trainer that cannot do a task gives up, and no job begins: exit {code}, {error.get('detail', '')[:60]}")


def children_seconds(pid):
    """Of the processes that PID waited for."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        field = file.read().rpartition(")")[2].split()
    return (int(field[13]) + int(field[14])) / os.sysconf("SC_CLK_TCK")


def hostile(box):
    shown, took = run(box, "h-all", "open", "all", rounds=len(HOSTILE))
    for mode, row in zip(HOSTILE, shown["history"]):
        good = [a["node"] for a in row["absent"]] == ["beta"] and row["participants"] == ["alpha"]
        ok(good, f"{mode}: the round is alpha's alone, beta is named: {row['absent'][0]['reason'] if row['absent'] else '-'}; {row['seconds']:.1f} s")
    ok(shown["state"] == "done" and len(shown["history"]) == len(HOSTILE), f"and the job is {shown['state']} after {took:.1f} s")
    for mode in ("mute", "ungreeted"):
        shown, took = run(box, f"h-{mode}", "open", mode)
        ok(shown["state"] == "done" and [a["node"] for a in shown["history"][0]["absent"]] == ["beta"], f"{mode}: beta is named; {took:.1f} s")
    for mode in ("escape", "escape-raw"):
        shown, _ = run(box, f"h-{mode}", "open", mode, rate=1e-9)
        got = weights(box, shown)
        ok(sorted(shown["history"][0]["participants"]) == ["alpha", "beta"] and abs(got[0]) < 1e-3,
           f"{mode}: nothing that is forbidden could be done ({got[0]:.3g})")
    ok(box.pid("beta") is not None and box.run("beta", "audit", "verify")["ok"], "beta is alive, and its audit chain whole")
    before = children_seconds(box.pid("beta"))
    run(box, "h-busy", "open", "busy")
    ok(box.wait("its time", lambda: children_seconds(box.pid("beta")) - before >= 0.9, 5),
       f"the processor time of a trainer is its node's: {children_seconds(box.pid('beta')) - before:.1f} s of a second at work")
    left = subprocess.run(["pgrep", "-f", "hostile_trainer.py"], stdout=subprocess.PIPE, check=False).stdout.split()
    ok(not [p for p in left if int(p) != os.getpid()], "no process of a trainer is left")


def bounded(box):
    """What the coordinator itself would not average."""
    shown, _ = run(box, "b-huge", "open", "large", extra="aggregate: {norm_bound: 1000}")
    absent = shown["history"][0]["absent"]
    ok(shown["state"] == "done" and [(a["node"], a["reason"]) for a in absent] == [("beta", "NORM")], f"above aggregate.norm_bound: left out and named {absent}")


def private(box):
    secret = "privacy: {epsilon: 4, delta: 1e-6, clip: 1}"
    before = box.run("beta", "budget", "closed")
    shown, took = run(box, "p-plain", "closed", "plain", extra=secret)
    site = next(s for s in shown["sites"] if s["node"] == "beta")
    ok(shown["state"] == "done" and site["sigma"] > 0 and abs(shown["history"][-1]["epsilon"] - 4) < 0.05,
       f"with noise: sigma {site['sigma']:.2f}, epsilon {shown['history'][-1]['epsilon']:.3f}")
    ok(took >= 2, f"its answer leaves when its time is over: {took:.1f} s")
    after = box.run("beta", "budget", "closed")
    ok(before != after, "and it was charged")
    shown, took = run(box, "p-some", "closed", "some", rounds=3, extra=secret)
    both = all(sorted(r["participants"]) == ["alpha", "beta"] for r in shown["history"])
    ok(both and len(shown["history"]) == 3 and took >= 6, f"a trainer that fails with noise: nobody sees it outside; {took:.1f} s")
    ok("train.trainer.failed" in box.log("beta"), "beta's operator does")
    sigma = next(s["sigma"] for s in shown["sites"] if s["node"] == "beta")
    norm = sum(w * w for w in weights(box, shown)) ** 0.5
    ok(norm < 100 * sigma, f"an update of 3e38 is clipped: the model's norm is {norm:.2f}, sigma {sigma:.2f}")


def refused(box):
    path = box.write("x.yaml", job("x", "open", "unknown"))
    code, error = box.refusal("alpha", "train", "run", path)
    ok(code == 4 and "trainers:" in error.get("message", "") + error.get("detail", ""), f"a trainer that nobody has: exit {code}")
    for text, what in (("evaluate: {every: 1}", "figures"), ("aggregate: {method: fedprox}", "fedprox"), ("aggregate: {method: scaffold}", "scaffold")):
        code, error = box.refusal("alpha", "train", "run", box.write("x.yaml", job("x", "open", "plain", extra=text)))
        ok(code == 4, f"{what} of a trainer: exit {code}, {error.get('message', '')[-120:]}")
    code, error = box.refusal("alpha", "train", "run", box.write("x.yaml", job("x", "open", "plain", seconds=50)))
    ok(code in (2, 7), f"more than half of the round's time: exit {code}")


def without_namespaces(box):
    """Where the system forbids namespaces the rest must hold alone: the launcher, with this test in the place of the daemon."""
    forbid = "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$@\""
    ours, theirs = socket.socketpair()
    memory = [os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING) for _ in range(3)]
    os.truncate(memory[2], 1 << 20)
    fcntl.fcntl(memory[2], 1033, 6)  # F_ADD_SEALS, SHRINK and GROW

    def place():
        for at, number in enumerate([fcntl.fcntl(fd, fcntl.F_DUPFD, 40) for fd in [theirs.fileno(), *memory]]):
            os.dup2(number, 3 + at)

    with subprocess.Popen(["unshare", "-Ur", "sh", "-c", forbid, "sh", os.path.join(TOP, "concordatd"), "--confine", str(4 << 30), "20", str(1 << 20),
                           "1", "1", f"{box.folder}/trainer", "--", "/usr/bin/python3", f"{box.folder}/trainer/hostile_trainer.py",
                           "escape-raw", f"{box.home('beta')}/keyfile"], preexec_fn=place, close_fds=False) as process:
        theirs.close()
        ours.settimeout(20)
        said = b""
        try:
            while len(said) < 14:  # what is in force, and the greeting's beginning
                more = ours.recv(4096)
                if not more:
                    raise OSError("it has ended")
                said += more
            task = (b"\x03\x9f" + node.pack(1) + node.pack("tabular-classification") + b"\xc2" + b"".join(map(node.pack, (1, 1, 3, 1, 2, 1, 16))) +
                    b"\xcb" + struct.pack(">d", 0.5) + b"".join(map(node.pack, (0, 1, 5000))) + b"\x90")
            ours.sendall(struct.pack("<I", len(task)) + task)
            while said.count(b"\x05\x91") == 0:
                more = ours.recv(4096)
                if not more:
                    break
                said += more
        except OSError as error:
            note(f"it said {said!r}: {error}")
        process.kill()
    if said[5:6] != b"\x94" or said[6:7] != b"\xc2":
        skip("without namespaces, by seccomp and Landlock alone", f"namespaces could not be forbidden here ({said[:10]!r})")
        return
    answer = os.pread(memory[2], 4096, 0)
    head = struct.unpack_from("<Q", answer)[0] if len(answer) >= 8 else 0
    count = struct.unpack_from("<f", answer, 8 + head)[0] if head else None
    ok(said[8:9] == b"\xc3" and count == 0, f"without namespaces, by seccomp and Landlock {said[7]} alone: {count} of what is forbidden could be done")


def torch(box):
    try:
        found = subprocess.run(["/usr/bin/python3", "-c", "import torch"], stderr=subprocess.DEVNULL, check=False).returncode == 0
    except OSError:
        found = False
    if not found:
        note("torch is not installed: skipped")
        return
    shown, took = run(box, "torch", "open", "torch", seconds=25, rate=0.01, rounds=2)
    ok(shown["state"] == "done" and sorted(shown["history"][-1]["participants"]) == ["alpha", "beta"], f"torch: {shown['state']} in {took:.1f} s")


def main():
    with Sandbox("alpha,beta", start=False) as box:
        os.mkdir(f"{box.folder}/trainer")
        for path in (f"{HERE}/hostile_trainer.py", f"{FOLDER}/concordat_trainer.py"):
            shutil.copy(path, f"{box.folder}/trainer")
        box.write("trainer/probe.py", PROBE)
        configure(box, "alpha", False)
        configure(box, "beta", True)
        box.start()
        source = box.write("rows.csv", "".join(",".join(row) + "\n" for row in flchain()[:ROWS + 1]))
        for name in box.names:
            cells = [line for line in box.log(name).splitlines() if "trainer.cell" in line]
            ok(cells and "seccomp" in cells[0], cells[0][-160:] if cells else f"{name} says nothing of its cell")
            for dataset, terms in (("open", OPEN), ("closed", licence(epsilon_total=100, per_query=1, per_job=10))):
                box.run(name, "dataset", "import", box.write(f"{dataset}.yaml", manifest(dataset, terms)), "--data", source)
        box.wait("the catalogue", lambda: all(len(box.run(n, "catalog")["datasets"]) >= 4 for n in box.names), 30)
        plain(box)
        outcomes(box)
        refused(box)
        hostile(box)
        bounded(box)
        private(box)
        without_namespaces(box)
        torch(box)
    done()


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
