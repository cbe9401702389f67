#!/usr/bin/env python3
"""kill -9 at random points of everything that changes a home: import, append, forget, removal, rotation of data key and of key-encryption key, a new slot, a charge,
a backup. After each the home opens by itself and holds the earlier or the new state whole, nothing temporary is left, and no identifier stands in the clear.

POINTS=n (50 in `make check`, 1,000 in `make chaos`). SEED is printed and accepted. Half of the points are moments, half are calls that write."""
import os
import shutil
import subprocess
import tempfile
import time

from harness import SEED, SRC, TOP, done, note, ok, rng

ACT = os.path.join(TOP, "tests/proc/act")
POINTS = int(os.environ.get("POINTS", "50"))
KNOWN = {"format", "identity.key", "keyring", "models", "node.mdb", "node.mdb-lock", "node.mdb-owner", "partitions", "unlock.key"}


class Home:
    """A home and what it must hold."""

    def __init__(self, folder, library, fresh):
        self.folder, self.library = folder, library
        self.home = os.path.join(folder, "home")
        self.copy = os.path.join(folder, "copy")
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(fresh, self.home)
        self.patients = set(range(300))
        self.spent, self.slots, self.keys = 10, 1, 3
        self.next = 100000 # of patients that are appended

    def act(self, *args, env=None, after=None):
        process = subprocess.Popen([ACT, self.home, *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env={**os.environ, **(env or {})})
        if after is not None:
            try:
                process.wait(after)
            except subprocess.TimeoutExpired:
                process.kill()
        out, err = process.communicate(timeout=60)
        return process.returncode, out.decode(), err.decode(errors="replace")

    def look(self):
        code, out, err = self.act("look")
        words = out.split()
        state = dict(zip(words[::2], map(int, words[1::2])))
        if code:
            state["error"] = err[-300:]
        return state

    def state(self, patients=None, **change):
        held = self.patients if patients is None else patients
        return {"rows": len(held), "ages": sum(p % 90 for p in held), "spent": self.spent, "keys": self.keys, "slots": self.slots, "ok": 1, **change}

    def choose(self):
        """An act, what the home may hold after it was cut off, and what becomes of the books when it was done."""
        name = rng.choice(["import", "append", "append", "forget", "rotate", "rotate", "kek", "keyring", "remove", "charge", "backup"])
        if not self.patients or name == "import":
            fresh = set(range(rng.choice([400, 20000])))
            keys = max(self.keys, 3)
            return ["import", len(fresh)], [self.state(keys=keys)], {"patients": fresh, "keys": keys}
        if name == "append":
            more = set(range(self.next, self.next + rng.choice([50, 5000])))
            self.next += len(more)
            grown = self.patients | more
            return ["append", len(more), min(more)], [self.state(grown)], {"patients": grown}
        if name == "forget":
            first = rng.choice(sorted(self.patients))
            left = self.patients - set(range(first, first + 40))
            if not left:
                return ["charge"], [self.state(spent=self.spent + 10)], {"spent": self.spent + 10}
            return ["forget", 40, first], [self.state(left)], {"patients": left}
        if name == "rotate":
            return ["rotate"], [self.state(keys=4)], {"keys": 3}
        if name == "kek":
            return ["kek"], [self.state(slots=1)], {"slots": 1}
        if name == "keyring" and self.slots < 8:
            return ["keyring"], [self.state(slots=self.slots + 1)], {"slots": self.slots + 1}
        if name == "remove":
            return (["remove"], [self.state((), keys=2), self.state((), keys=2, ok=0), self.state((), keys=3, ok=0), self.state((), keys=3)],
                    {"patients": set(), "keys": 2})
        if name == "backup":
            return ["backup", self.copy], [], {}
        return ["charge"], [self.state(spent=self.spent + 10)], {"spent": self.spent + 10}

    def kill_point(self, args):
        """Runs the act and kills it; returns its exit code."""
        if rng.random() < 0.5:
            return self.act(*args, after=rng.uniform(0.005, 0.12))
        env = {"LD_PRELOAD": self.library, "CONCORDAT_FAULT_KIND": "kill", "CONCORDAT_FAULT_AT": str(rng.randrange(1, 60)), "CONCORDAT_FAULT_BELOW": self.folder}
        return self.act(*args, env=env)

    def leftovers(self):
        extra = set(os.listdir(self.home)) - KNOWN
        names = os.listdir(os.path.join(self.home, "partitions"))
        if extra or any(n.endswith(".new") for n in names) or len(names) > 1:
            return f"leftovers: {sorted(extra)} {names}"
        for path, _, files in os.walk(self.home):
            for name in files:
                with open(os.path.join(path, name), "rb") as file:
                    if b"PLANTED-" in file.read():
                        return f"an identifier stands in {name}"
        return None

    def point(self):
        """One act and its kill; (killed, what is wrong)."""
        shutil.rmtree(self.copy, ignore_errors=True)
        args, between, books = self.choose()
        before = self.state()
        code, _, text = self.kill_point(args)
        state = self.look()
        done_state = self.state(**books)
        if code not in (0, -9):
            return False, f"{args}: exit {code}: {text[-200:]}"
        if state not in ([done_state] if code == 0 else [before, done_state, *between]):
            return code == -9, f"{args}, exit {code}: {state}; before {before}, done {done_state}"
        fault = self.leftovers()
        if not fault and args[0] == "backup" and os.path.exists(os.path.join(self.copy, "BACKUP")):
            verified, _, text = self.act("verify", self.copy)
            fault = f"a backup that looks whole is not: {text}" if verified else None
        if state.get("ok") == 0:  # a removal that was cut off behind the key: it goes on
            again, _, text = self.act("remove")
            state = self.look()
            if again or state != done_state:
                fault = f"a removal does not go on: {text} {state}"
        if state == done_state:
            for key, value in books.items():
                setattr(self, key, value)
        self.keys, self.slots = state["keys"], state["slots"]
        if state["rows"] == 0:
            self.patients = set()
        return code == -9, f"{args}: {fault}" if fault else None


def main():
    began = time.monotonic()
    folder = tempfile.mkdtemp(prefix="concordat-kills.")
    kills, acts, faults = 0, 0, []
    try:
        library = os.path.join(folder, "fault.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, os.path.join(SRC, "tests/proc/fault.c"), "-ldl"], check=True)
        fresh = os.path.join(folder, "fresh")
        os.mkdir(fresh, 0o700)
        subprocess.run([ACT, fresh, "make"], check=True)
        home = Home(folder, library, fresh)
        while kills < POINTS and acts < POINTS * 10 and len(faults) < 5:
            if acts % 25 == 24:
                home = Home(folder, library, fresh)
            killed, fault = home.point()
            kills += killed
            acts += 1
            if fault:
                faults.append(fault)
                home = Home(folder, library, fresh)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for fault in faults:
        note(fault)
    note(f"seed {SEED}: {kills} kills in {acts} acts, {time.monotonic() - began:.0f} s")
    ok(kills >= POINTS, f"{kills} acts were killed")
    ok(not faults, "each left the earlier or the new state whole, nothing temporary and no identifier in the clear")
    done()


main()
