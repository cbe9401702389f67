#!/usr/bin/env python3
"""The machine crashes: every write, sync and rename of an act is recorded (record.c), then played back as a disk might hold it afterwards. Sure to be there is only what was
synced; of the rest any subset, writes torn at pages. The home opens with the earlier or the new state whole; after the last call it is the new one.

IMAGES=n disks an act (12 in `make check`, 150 in `make chaos`). SEED is printed and accepted."""
import os
import shutil
import struct
import subprocess
import tempfile
import time

from harness import SEED, SRC, TOP, done, note, ok, rng

ACT = os.path.join(TOP, "tests/proc/act")
IMAGES = int(os.environ.get("IMAGES", "12"))
PAGE = 4096


def run(home, *args, env=None):
    return subprocess.run([ACT, home, *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                          env={**os.environ, **(env or {})}, check=False)


def look(home):
    ran = run(home, "look")
    words = ran.stdout.decode().split()
    state = dict(zip(words[::2], map(int, words[1::2])))
    if ran.returncode:
        state["error"] = ran.stderr.decode()[-300:]
    return state


def records(path):
    with open(path, "rb") as file:
        while head := file.read(21):
            op, fd, number, a, b = struct.unpack("=BiqII", head)
            yield chr(op), fd, number, file.read(a), file.read(b)


class File:
    """Contents on the platter, and what was written since the last sync: (place or None for a truncation, bytes or length, sure)."""

    def __init__(self, content=b""):
        self.content = bytearray(content)
        self.pending = []

    @staticmethod
    def put(content, at, data):
        if at is None:
            del content[data:]
            content.extend(bytes(data - len(content)))
        else:
            content.extend(bytes(max(0, at + len(data) - len(content))))
            content[at:at + len(data)] = data

    def sync(self):
        for at, data, _ in self.pending:
            self.put(self.content, at, data)
        self.pending = []

    def image(self, keep):
        content = bytearray(self.content)
        for at, data, sure in self.pending:
            if at is None or sure:
                if sure or keep():
                    self.put(content, at, data)
                continue
            start = at
            while start < at + len(data):  # page by page
                end = min((start // PAGE + 1) * PAGE, at + len(data))
                if keep():
                    self.put(content, start, data[start - at:end - at])
                start = end
        return bytes(content)


class Disk:
    def __init__(self, root):
        self.names, self.folders, self.changes, self.open = {}, set(), [], {}
        for path, _, files in os.walk(root):
            self.folders.add(path)
            for name in files:
                with open(os.path.join(path, name), "rb") as file:
                    self.names[os.path.join(path, name)] = File(file.read())
        self.sure = dict(self.names)  # names on the platter
        self.sure_folders = set(self.folders)

    def change(self, folder, apply):
        """A change of a folder's names, which lasts once that folder is synced."""
        apply(self.names, self.folders)
        self.changes.append((folder, apply))

    def play(self, op, fd, number, a, b, last):
        path, to = a.decode("latin-1"), b.decode("latin-1")
        folder = os.path.dirname(path)
        if op == "O":
            if path in self.folders:
                self.open[fd] = path, False
                return
            if path not in self.names:
                fresh = File()
                self.change(folder, lambda names, folders: names.__setitem__(path, fresh))
            self.open[fd] = self.names[path], bool(number & (os.O_DSYNC | os.O_SYNC))
            if number & os.O_TRUNC:
                self.names[path].pending.append((None, 0, False))
        elif op == "W":
            self.open[fd][0].pending.append((number, a, self.open[fd][1] and not last))
        elif op == "T":
            self.open[fd][0].pending.append((None, number, False))
        elif op == "S" and not last:
            target = self.open[fd][0]
            if isinstance(target, File):
                target.sync()
            else:
                for where, apply in self.changes:
                    if where == target:
                        apply(self.sure, self.sure_folders)
                self.changes = [c for c in self.changes if c[0] != target]
        elif op == "N":
            moved = self.names[path]

            def move(names, _):
                names[to] = moved
                names.pop(path, None)
            self.change(folder, move)
        elif op == "L":
            linked = self.names[path]
            self.change(os.path.dirname(to), lambda names, folders: names.__setitem__(to, linked))
        elif op == "U":
            self.change(folder, lambda names, folders: (names.pop(path, None), folders.discard(path)))
        elif op == "M":
            self.change(folder, lambda names, folders: folders.add(path))

    def write(self, root, target):
        """One of the disks that may be found after a crash now, as the folder TARGET."""
        share = rng.choice([0, 0, 1, 0.5, 0.5, 0.9])

        def keep():
            return rng.random() < share
        names, folders = dict(self.sure), set(self.sure_folders)
        for _, apply in self.changes:
            if keep():
                apply(names, folders)
        shutil.rmtree(target, ignore_errors=True)
        for folder in sorted(folders):
            os.makedirs(target + folder[len(root):], mode=0o700, exist_ok=True)
        for name, file in names.items():
            if os.path.dirname(name) in folders:
                to = target + name[len(root):]
                with open(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
                    out.write(file.image(keep))


class Bench:
    def __init__(self, folder):
        self.folder = folder
        self.library = os.path.join(folder, "record.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self.library, os.path.join(SRC, "tests/proc/record.c"), "-ldl"], check=True)
        self.fresh = os.path.join(folder, "fresh")
        self.live = os.path.join(folder, "live")    # holds home, and a backup
        self.image = os.path.join(folder, "image")
        os.mkdir(self.fresh, 0o700)
        os.mkdir(os.path.join(self.fresh, "home"), 0o700)
        subprocess.run([ACT, os.path.join(self.fresh, "home"), "make"], check=True)
        self.before = look(os.path.join(self.fresh, "home"))

    def act(self, args):
        """Does it for good, and writes down how."""
        log = os.path.join(self.folder, "log")
        for path in (self.live, log):
            shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else os.path.exists(path) and os.remove(path)
        shutil.copytree(self.fresh, self.live)
        disk = Disk(self.live)
        ran = run(os.path.join(self.live, "home"), *args, env={"LD_PRELOAD": self.library, "CONCORDAT_RECORD": log, "CONCORDAT_RECORD_BELOW": self.live})
        assert ran.returncode == 0, ran.stderr
        return disk, list(records(log)), look(os.path.join(self.live, "home"))

    def fault_of(self, states, backup):
        home = os.path.join(self.image, "home")
        state = look(home)
        if state not in states:
            return f"holds {state}"
        copy = os.path.join(self.image, "copy")
        if backup and os.path.exists(os.path.join(copy, "BACKUP")) and run(home, "verify", copy).returncode:
            return "a backup that looks whole is not"
        if state["rows"] and run(home, "charge").returncode:
            return "the home does not take the next charge"
        return None

    def crash(self, name, *args, between=()):
        backup = args[0] == "backup"
        disk, log, after = self.act([os.path.join(self.live, "copy") if a == "COPY" else a for a in args])
        states = [self.before, after, *[{**self.before, **change} for change in between]]
        faults = []
        points = sorted(rng.choices(range(len(log)), k=IMAGES * 3 // 4)) + [len(log)] * (IMAGES // 4)
        at = 0
        for point in points:
            while at < point:
                disk.play(*log[at], False)
                at += 1
            snapshot = disk
            if point < len(log):  # the call at hand may be half done
                snapshot = self.replay(log, point)
            snapshot.write(self.live, self.image)
            fault = self.fault_of(states if point < len(log) else [after], backup)
            if fault:
                faults.append(f"{name}: after {point} of {len(log)} calls ({log[point - 1][0] if point else '-'}): {fault}")
        for fault in faults[:5]:
            note(fault)
        ok(log and not faults, f"{name}: {len(points)} disks after crashes within {len(log)} calls, each holds a whole state")

    def replay(self, log, point):
        """A disk of its own, on which call POINT was begun and came to nothing certain."""
        disk = Disk(self.fresh)
        root = len(self.fresh)
        disk.names = {self.live + name[root:]: file for name, file in disk.names.items()}
        disk.folders = {self.live + folder[root:] for folder in disk.folders}
        disk.sure, disk.sure_folders = dict(disk.names), set(disk.folders)
        for record in log[:point]:
            disk.play(*record, False)
        disk.play(*log[point], True)
        return disk


def main():
    began = time.monotonic()
    folder = tempfile.mkdtemp(prefix="concordat-crashes.")
    try:
        bench = Bench(folder)
        ok(bench.before == {"rows": 300, "ages": 12450, "spent": 10, "keys": 3, "slots": 1, "ok": 1}, "a home with a dataset and a charge")
        bench.crash("ledger", "charge")
        bench.crash("import", "import", 500)
        bench.crash("append", "append", 200, 1000)
        bench.crash("forgetting", "forget", 50, 0)
        bench.crash("rotation of the data key", "rotate", between=({"keys": 4},))
        bench.crash("rotation of the key-encryption key", "kek")
        bench.crash("a new slot", "keyring")
        bench.crash("removal", "remove", between=({"rows": 0, "ages": 0, "keys": 2, "ok": 0}, {"rows": 0, "ages": 0, "keys": 2}))
        bench.crash("backup", "backup", "COPY")
        note(f"seed {SEED}, {time.monotonic() - began:.0f} s")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    done()


main()
