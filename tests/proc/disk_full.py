#!/usr/bin/env python3
"""A disk that really fills: a node's home on a small tmpfs, in a mount namespace of this test. An import that does not fit leaves nothing, a question whose
ledger entry does not fit gets no answer, other nodes go on, and all works again once there is room."""
import os
import shutil
import subprocess
import sys

INSIDE = "CONCORDAT_DISK_FULL_INSIDE"
if os.environ.get("CONCORDAT_PROC") == "no":
    print("1..0 # SKIP without processes (CONCORDAT_PROC=no)")
    sys.exit(0)
if INSIDE not in os.environ:
    enter = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run(enter + ["mount", "-t", "tmpfs", "none", "/mnt"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                      stderr=subprocess.DEVNULL, check=False).returncode:
        print("1..0 # SKIP no mount namespace here")
        sys.exit(0)
    os.environ[INSIDE] = "yes"
    os.execvp(enter[0], enter + [sys.executable, "-B"] + sys.argv)

sys.dont_write_bytecode = True
from harness import Sandbox, done, licence, note, ok

SIZE = 20 << 20
ASKED = ("--purpose", "DUO:0000006")


def fill(path):
    """Takes all room but a few KiB."""
    with open(path, "wb", buffering=0) as file:
        for piece in (1 << 20, 1 << 16, 1 << 12):
            try:
                while True:
                    file.write(b"\0" * piece)
            except OSError:
                pass


def rows_of(box, name):
    listed = box.run(name, "dataset", "list")
    return {d["dataset"]: d["version"] for d in (listed if isinstance(listed, list) else listed["datasets"])}


def left_of(box):
    return next(b["rho_left"] for b in box.run("alpha", "status")["budgets"] if b["dataset"] == "small")


with Sandbox("alpha,beta", start=False) as box:
    home, aside = box.home("alpha"), os.path.join(box.folder, "aside")
    os.rename(home, aside)
    os.mkdir(home, 0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "none", home], check=True)
    for name in os.listdir(aside):
        shutil.move(os.path.join(aside, name), home)
    box.start()
    try:
        columns = "columns:\n  - {name: sex, type: category, values: [F, M]}\n  - {name: x, type: real, min: 0, max: 1000000}\n"
        small = box.write("small.yaml", "dataset: small\nversion: \"1\"\ntitle: Small\nsize: 400\n" + columns + licence(epsilon_total=100, per_query=10))
        large = box.write("large.yaml", "dataset: large\nversion: \"1\"\ntitle: Large\nsize: 400\n" + columns + licence())
        few = box.write("few.csv", "sex,x\n" + "".join(f"{'FM'[i % 2]},{i}\n" for i in range(400)))
        many = os.path.join(box.folder, "many.csv")
        state = 1
        with open(many, "w", encoding="ascii") as file:
            file.write("sex,x\n")
            for _ in range(3000000): # numbers that nothing shortens: eight bytes each
                state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
                file.write(f"{'FM'[state >> 63]},{state * 1e6 / 2**64!r}\n")
        for name in box.names:
            box.run(name, "dataset", "import", small, "--data", few)
        before = sorted(os.listdir(os.path.join(home, "partitions")))

        code, error = box.refusal("alpha", "dataset", "import", large, "--data", many)
        ok(code and error.get("code") == "DISK_FULL", "an import that does not fit says that the disk is full") or note((code, error))
        ok(sorted(os.listdir(os.path.join(home, "partitions"))) == before, "and leaves no file")
        ok(rows_of(box, "alpha") == {"small": "1"}, "and no dataset")
        answer = box.run("alpha", "query", "SELECT COUNT(*) FROM small", "--epsilon", "1", *ASKED)
        ok(all(s["status"] == "answered" for s in answer["sites"]), "what was there answers on")

        left = left_of(box)
        filler = os.path.join(home, "filler")
        fill(filler)
        answer = box.run("beta", "query", "SELECT COUNT(*), AVG(x) FROM small", "--epsilon", "2", *ASKED)
        status = {s["node"]: s["status"] for s in answer["sites"]}
        ok(status.get("beta") == "answered", "the other node answers")
        if status.get("alpha") == "answered":  # LMDB had free pages inside its file
            note("the ledger entry fitted into free pages; asking until it does not")
            for i in range(200):
                code, answer, _ = box.try_run("beta", "query", "SELECT COUNT(*), AVG(x) FROM small", "--epsilon", f"0.{i + 100}", *ASKED)
                status = {s["node"]: s["status"] for s in (answer or {}).get("sites", [])}
                if code == 0 and status.get("alpha") != "answered":
                    break
        site = next(s for s in answer["sites"] if s["node"] == "alpha")
        ok(site["status"] == "unavailable", "the full one gives no answer") or note(answer)
        ok("disk" not in str(site).lower(), "and others are not told why")
        checks = {c["check"]: c["result"] for c in box.run("alpha", "doctor")["checks"]}
        ok(checks.get("disk") in ("warn", "fail"), "its own operator is") or note(checks)
        code, error = box.refusal("alpha", "dataset", "import", large, "--data", few)
        ok(code and error.get("code") == "DISK_FULL", "a small import has no room either") or note((code, error))
        box.kill("alpha")
        os.unlink(filler)
        box.start()
        ok(rows_of(box, "alpha") == {"small": "1"}, "killed while full, it starts again with what it had")

        def both():
            got = box.run("beta", "query", "SELECT COUNT(*), AVG(x) FROM small", "--epsilon", "3", *ASKED)
            return got if all(s["status"] == "answered" for s in got["sites"]) else None

        ok(box.wait("both answering", both, 30) is not None, "with room again, both answer")
        ok(left_of(box) < left, "nothing was refunded")
        ok(box.run("alpha", "audit", "verify")["ok"], "the audit chain is whole")
        box.run("alpha", "dataset", "import", large, "--data", few)
        ok(rows_of(box, "alpha") == {"small": "1", "large": "1"}, "and an import goes through")
    finally:
        box.close()
        subprocess.run(["umount", "-l", home], check=False)
done()
