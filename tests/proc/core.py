#!/usr/bin/env python3
"""A core file of a serving daemon, taken by a debugger with root's rights, holds none of its data keys, while plain things that must
be in it are found."""
import os
import shutil
import subprocess
import sys
import tempfile

from harness import TOP, Sandbox, done, licence, note, ok, skip_all

MANIFEST = """dataset: held
version: "1"
size: 1000
columns:
  - {name: age, type: integer, min: 0, max: 110}
""" + licence(epsilon_total=50, per_query=5, per_job=20)


def keys_of(home):
    key = [os.path.join(home, name) for name in os.listdir(home) if name.endswith(".key") or name == "keyfile"][0]
    ran = subprocess.run([os.path.join(TOP, "tests/proc/dump"), home, key], stdout=subprocess.PIPE, check=True)
    return {line.split()[0]: bytes.fromhex(line.split()[1]) for line in ran.stdout.decode().splitlines()}, open(key, "rb").read()


def count(path, needle):
    """Occurrences in a large file, also across the borders of blocks."""
    found = 0
    tail = b""
    with open(path, "rb") as file:
        while block := file.read(1 << 24):
            data = tail + block
            found += data.count(needle)
            tail = data[-(len(needle) - 1):]
    return found


def main():
    if not shutil.which("gdb"):
        skip_all("gdb is not installed")
    if os.geteuid() != 0:
        skip_all("only root can trace a daemon that forbids it")
    if not os.path.exists(os.path.join(TOP, "tests/proc/dump")):
        skip_all("tests/proc/dump is not built")
    with Sandbox("alpha,beta") as box:
        folder = tempfile.mkdtemp(prefix="concordat-core.")
        try:
            data = box.write("rows.csv", "age\n" + "".join(f"{i % 90}\n" for i in range(70000)))
            box.run("alpha", "dataset", "import", box.write("m.yaml", MANIFEST), "--data", data)
            for name in ("alpha", "beta"):
                box.run(name, "query", "SELECT COUNT(*), AVG(age) FROM held", "--purpose", "DUO:0000006", "--epsilon", "1")
            box.run("alpha", "fsck")
            keys, secret = keys_of(box.home("alpha"))
            ok(set(keys) >= {"node", "identity", "dataset/held"}, "the test knows the keys of the node, its identity and the dataset")
            pid = box.pid("alpha")
            core = os.path.join(folder, "core")
            ran = subprocess.run(["gdb", "-q", "-batch", "-nx", "-p", str(pid), "-ex", f"generate-core-file {core}"], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False)
            if not os.path.exists(core):
                note(ran.stdout.decode(errors="replace")[-500:])
                skip_all("the debugger could not write a core file here")
            size = os.path.getsize(core)
            ok(size > 1 << 20 and count(core, b"dataset/held") > 0, f"the core file ({size} bytes) holds the names of the keys")
            ok(count(core, box.home("alpha").encode()) > 0, "and the home's path")
            for name, key in keys.items():
                ok(count(core, key) == 0, f"it does not hold the key {name}")
                ok(count(core, key[:16]) == 0 and count(core, key[16:]) == 0, f"nor a half of {name}")
            ok(count(core, secret[:32]) == 0, "nor what opened the keyring")
            with open(f"/proc/{pid}/status", encoding="ascii") as file:
                locked = [line for line in file if line.startswith("VmLck")]
            note(locked[0].strip() if locked else "VmLck is not shown")
            with open(f"/proc/{pid}/limits", encoding="ascii") as file:
                limit = [line.split() for line in file if line.startswith("Max core file size")][0]
            ok(limit[4] == "0" and limit[5] == "0", "the daemon writes no core file by itself")
            ok(box.run("alpha", "status")["state"] == "serving", "and it serves on")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    done()


main()
