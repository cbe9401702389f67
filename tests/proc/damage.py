#!/usr/bin/env python3
"""A partition file with one bit flipped anywhere, chunks swapped, moved or cut off: the dataset is refused with exit 8 and its file named, other datasets of the node are
answered, and `concordat fsck` says the same with and without a daemon, without changing a byte of the home."""
import hashlib
import os
import signal
import struct
import time

from harness import SEED, Sandbox, concordat, done, licence, note, ok, rng, running

PAGE = 4096
MANIFEST = """dataset: NAME
version: "1"
size: 1000
columns:
  - {name: age, type: integer, min: 0, max: 110}
  - {name: cost, type: real, min: 0, max: 100000}
  - {name: note, type: text}
""" + licence(epsilon_total=50, per_query=5, per_job=20)


def import_rows(box, name, rows):
    manifest = box.write(f"{name}.yaml", MANIFEST.replace("NAME", name))
    words = [f"{rng.getrandbits(40):x}" for _ in range(50)]
    text = "".join(f"{rng.randrange(100)},{rng.randrange(10 ** 7) / 100},{' '.join(rng.choices(words, k=12))}\n" for _ in range(rows))
    box.run("alpha", "dataset", "import", manifest, "--data", box.write(f"{name}.csv", "age,cost,note\n" + text))


def large_values(data):
    """(first byte, length) of each value that has pages of its own, and how many pages."""
    found, page = [], 0
    while page < (len(data) - 72) // PAGE:
        flags, pages = struct.unpack_from("=HI", data, page * PAGE + 10)
        if flags == 4:
            found.append((page * PAGE + 16, pages * PAGE - 16))
            page += pages
        else:
            page += 1
    return found


def damages(data):
    """(what, bytes): one bit in each kind of place, and values where they do not belong."""
    yield "cut by a page", data[:-PAGE - 72] + data[-72:]
    yield "cut in the middle", data[:len(data) // 2]
    yield "without its end", data[:-1]
    values = large_values(data)
    same = [(a, b) for a in values for b in values if a[0] < b[0] and a[1] == b[1]]
    assert same, "two chunks of one size"
    (a, size), (b, _) = rng.choice(same)
    swapped = bytearray(data)
    swapped[a:a + size], swapped[b:b + size] = data[b:b + size], data[a:a + size]
    yield "two chunks swapped", bytes(swapped)
    moved = bytearray(data)
    moved[b:b + size] = data[a:a + size]
    yield "a chunk in place of another", bytes(moved)
    places = [rng.randrange(len(data)) for _ in range(8)] + [rng.randrange(2 * PAGE) for _ in range(3)] + [len(data) - 1 - rng.randrange(72)]
    places += [values[0][0] + 40, values[-1][0] + values[-1][1] - 1, values[0][0] - 2]
    for at in places:
        flipped = bytearray(data)
        flipped[at] ^= 1 << rng.randrange(8)
        yield f"a bit of byte {at}", bytes(flipped)


def put(path, data):
    with open(path, "r+b") as file:
        file.write(data)
        file.truncate(len(data))


def state_of(home):
    """Every file of the home but those that sockets and logs are."""
    found = {}
    for folder, _, names in os.walk(home):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    found[path] = hashlib.sha256(file.read()).hexdigest(), os.stat(path).st_mtime_ns
    return found


def stop(box):
    pid = box.pid("alpha")
    os.kill(pid, signal.SIGTERM)
    for _ in range(300):
        if not running(pid):
            return
        time.sleep(0.05)
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass
    raise RuntimeError("the daemon does not end")


def main():
    with Sandbox("alpha") as box:
        home = box.home("alpha")
        folder = os.path.join(home, "partitions")
        import_rows(box, "whole", 3000)
        others = set(os.listdir(folder))
        import_rows(box, "hurt", 70000)
        name = (set(os.listdir(folder)) - others).pop()
        path = os.path.join(folder, name)
        with open(path, "rb") as file:
            good = file.read()
        time.sleep(0.2)
        question = ("SELECT COUNT(*), AVG(cost) FROM {} WHERE age > {}", "--purpose", "DUO:0000006", "--epsilon", "0.05")
        ok(box.run("alpha", "query", question[0].format("hurt", 1), *question[1:])["rows"], "the file is open in the daemon, and good")
        bad = []
        count = 0
        for what, data in damages(good):
            put(path, data)
            code, answer, text = box.try_run("alpha", "fsck")
            if code != 8 or "dataset hurt" not in text or name not in text:
                bad.append(f"{what}: fsck says {code} {text[-200:]}")
            code, answer, text = box.try_run("alpha", "query", question[0].format("hurt", 10 + count), *question[1:])
            if code == 0 and what.startswith(("a bit", "two", "a chunk")) is False:
                bad.append(f"{what}: the question was answered: {answer}")
            code, answer, text = box.try_run("alpha", "query", question[0].format("whole", 10 + count), *question[1:])
            if code:
                bad.append(f"{what}: the other dataset: {code} {text[-200:]}")
            put(path, good)
            count += 1
        for fault in bad[:8]:
            note(fault)
        ok(count > 15 and not bad, f"{count} damages: fsck names dataset and file, exit 8, and the other dataset is answered")
        ok(box.run("alpha", "fsck")["ok"], "put right again, everything opens")
        stop(box)

        before = state_of(home)
        code, answer, text = concordat("--home", home, "fsck")
        ok(code == 0 and answer["ok"] and len(answer["checked"]) >= 5, f"without a daemon: {len(answer['checked']) if answer else text} things are good")
        ok(state_of(home) == before, "and no file was changed or made")
        bad = []
        for what, data in damages(good):
            put(path, data)
            code, answer, text = concordat("--home", home, "fsck")
            if code != 8 or "dataset hurt" not in text or name not in text:
                bad.append(f"{what}: fsck says {code} {text[-200:]}")
            put(path, good)
        for fault in bad[:8]:
            note(fault)
        ok(not bad, "without a daemon it names the same")
        form = os.path.join(home, "format")
        with open(form, "rb") as file:
            ours = file.read()
        put(form, b"99\n")
        code, answer, text = concordat("--home", home, "fsck")
        ok(code == 8 and "newer program" in text, f"a home of a newer program: exit {code}")
        for where in (("--home", home), ("--file", os.path.join(home, "node.mdb"))):
            code, answer, text = concordat("audit", "verify", *where)
            ok(code == 8 and "newer program" in text and "not verified" in text and "entries" not in (answer or {}),
               f"nor is its audit chain judged: exit {code}, {text.strip()[:200]}")
        put(form, ours)
        ok(concordat("audit", "verify", "--home", home)[1]["ok"], "put right again, it is")
        node = os.path.join(home, "node.mdb")
        with open(node, "rb") as file:
            whole = file.read()
        codes = []
        for _ in range(12):
            hurt = bytearray(whole)
            hurt[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
            put(node, bytes(hurt))
            codes.append(concordat("--home", home, "fsck")[0])
        put(node, whole)
        ok(set(codes) <= {0, 8}, f"a bit of node.mdb: found, or in a place that nothing uses: {codes}")
        key = [n for n in os.listdir(home) if n.endswith(".key")][0]
        os.rename(os.path.join(home, key), os.path.join(box.folder, "key"))
        code, _, text = concordat("--home", home, "fsck")
        ok(code != 0, f"without its key nothing is opened: exit {code}")
        code, answer, text = concordat("--home", home, "fsck", "--unlock", f"keyfile:{box.folder}/key")
        ok(code == 0 and answer["ok"], "with the key in another place it is")
        note(f"seed {SEED}")
    done()


main()
