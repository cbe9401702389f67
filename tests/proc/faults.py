#!/usr/bin/env python3
"""Every write of every act fails once: disk full, I/O error, short write, and kill -9 in its place. Afterwards the home opens, holds the earlier or the new state
whole, and says clearly what went wrong. FAULT_STEP=n tries every n-th call only (1 in `make chaos`; 1 here, as acts are small)."""
import os
import shutil
import subprocess
import tempfile

from harness import SRC, TOP, done, note, ok

ACT = os.path.join(TOP, "tests/proc/act")
STEP = int(os.environ.get("FAULT_STEP", "1"))
LIMIT = 400  # calls of one act; more would be a fault of this test


def act(home, *args, env=None, fds=()):
    return subprocess.run([ACT, home, *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                          env={**os.environ, **(env or {})}, pass_fds=fds, check=False)


def look(home):
    ran = act(home, "look")
    words = ran.stdout.decode().split()
    state = dict(zip(words[::2], map(int, words[1::2])))
    if ran.returncode:
        state["error"] = ran.stderr.decode()[-200:]
    return state


class Bench:
    def __init__(self, folder):
        self.folder = folder
        self.library = os.path.join(folder, "fault.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self.library, os.path.join(SRC, "tests/proc/fault.c"), "-ldl"], check=True)
        self.fresh = os.path.join(folder, "fresh")
        self.home = os.path.join(folder, "home")
        os.mkdir(self.fresh, 0o700)
        made = act(self.fresh, "make")
        assert made.returncode == 0, made.stderr
        self.before = look(self.fresh)

    def again(self):
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(self.fresh, self.home)
        shutil.rmtree(os.path.join(self.folder, "copy"), ignore_errors=True)

    def env(self, kind, at, below):
        return {"LD_PRELOAD": self.library, "CONCORDAT_FAULT_KIND": kind, "CONCORDAT_FAULT_AT": str(at), "CONCORDAT_FAULT_BELOW": below}

    def calls(self, below, *args):
        """How many calls the act makes when nothing fails, and the state that it leaves."""
        self.again()
        out, into = os.pipe()
        ran = act(self.home, *args, env={**self.env("none", 0, below), "CONCORDAT_FAULT_COUNT": str(into)}, fds=(into,))
        os.close(into)
        count = int(os.read(out, 100) or b"0")
        os.close(out)
        assert ran.returncode == 0, ran.stderr
        return count, look(self.home)

    def one(self, kind, at, below, args, states):
        """What is wrong after the AT-th call failed; None when nothing is."""
        self.again()
        ran = act(self.home, *args, env=self.env(kind, at, below))
        text = ran.stderr.decode(errors="replace").strip()
        state = look(self.home)
        if ran.returncode != (-9 if kind == "kill" else ran.returncode if ran.returncode in (0, 10) else None):
            return f"exit {ran.returncode}: {text[-200:]}"
        if state not in states:
            return f"neither the earlier nor the new state: {state}"
        if ran.returncode == 0 and kind != "short" and args[0] != "backup" and state != states[-1]:
            return f"done was said, but it is not done: {state}"
        if ran.returncode == 10 and kind == "full" and not ("DISK_FULL" in text or "no space" in text.lower()):
            return f"a full disk was not named: {text[-200:]}"
        if kind == "short" and ran.returncode and not ("DISK_FULL" in text or "IO" in text):
            return f"a short write was not named: {text[-200:]}"
        copy = os.path.join(self.folder, "copy")
        if args[0] == "backup" and ran.returncode == 10 and os.path.exists(os.path.join(copy, "BACKUP")):
            return "a backup that failed looks whole"
        # It works again once the disk does, and leftovers are gone.
        names = os.listdir(os.path.join(self.home, "partitions"))
        if any(name.endswith(".new") for name in names) or len(names) > 1:
            return f"leftovers: {names}"
        if state["rows"] and act(self.home, "charge").returncode:
            return "the home does not take the next charge"
        return None

    def sweep(self, name, *args, also=()):
        below = self.folder if args[0] == "backup" else self.home
        count, after = self.calls(below, *args)
        states = [self.before, *[{**self.before, **change} for change in also], after]
        good = 0 < count < LIMIT
        tried = 0
        for kind in ("full", "io", "once", "short", "kill"):
            for at in range(1, count + 1, STEP):
                fault = self.one(kind, at, below, args, states)
                tried += 1
                if fault:
                    note(f"{name}, {kind} at {at} of {count}: {fault}")
                    good = False
        ok(good, f"{name}: {tried} faults over {count} calls, each leaves a whole state")


def main():
    folder = tempfile.mkdtemp(prefix="concordat-faults.")
    try:
        bench = Bench(folder)
        ok(bench.before == {"rows": 300, "ages": 12450, "spent": 10, "keys": 3, "slots": 1, "ok": 1}, "a home with a dataset and a charge")
        bench.sweep("ledger", "charge")
        bench.sweep("keyring", "keyring")
        bench.sweep("import", "import", 500)
        bench.sweep("rotation", "rotate", also=({"keys": 4},))
        bench.sweep("removal", "remove", also=({"rows": 0, "ages": 0, "keys": 2, "ok": 0}, {"rows": 0, "ages": 0, "keys": 2}))
        bench.sweep("backup", "backup", os.path.join(folder, "copy"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    done()


main()
