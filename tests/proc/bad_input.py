#!/usr/bin/env python3
"""What bad input gets, seen from outside: manifests, tables, partition files, the ledger's file, the keyring, the two ports,
questions and a full disk. Each is refused and named; nothing else is disturbed and nothing is answered from it."""
import glob
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

from harness import TOP, Refused, Sandbox, concordat, done, licence, note, ok, rng, running

PURPOSE = ("--purpose", "DUO:0000006")
SECRET = "Zq7vXw2LpT9kRm4s"  # stands in bad cells and must not stand in any message or log

MANIFEST = """dataset: NAME
version: "1"
size: 100
unit: patient
max_rows_per_unit: 2
columns:
  - {name: patient, type: text, deidentify: pseudonym}
  - {name: age, type: integer, min: 0, max: 110}
  - {name: sex, type: category, values: [F, M]}
  - {name: score, type: real, min: 0, max: 10}
""" + licence(epsilon_total=100, per_query=10)


JOB = """job: good
task: tabular-classification
dataset: good
purpose: "DUO:0000006"
features: [age, score]
target: sex
rounds: 2
local: {epochs: 1, batch: 16, learning_rate: 0.1}
privacy: {epsilon: 2, delta: 1e-6, clip: 1.0}
participation: {min_sites: 2, round_timeout: 60s, standby: 0}
"""


def table(rows=40, extra=""):
    lines = [f"p{i},{rng.randrange(20, 90)},{'FM'[i % 2]},{rng.uniform(0, 10):.3f}" for i in range(rows)]
    return "patient,age,sex,score\n" + "\n".join(lines) + "\n" + extra


def manifest(name="good"):
    return MANIFEST.replace("NAME", name)


def put(path, data):
    with open(path, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
    return path


def get(path):
    with open(path, "rb") as file:
        return file.read()


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0x20]))


class Bench:
    """One sandbox, and what each section needs of it."""

    def __init__(self, box):
        self.box = box
        self.said = []  # every message that a command printed

    def state(self, node):
        names = sorted(row["dataset"] for row in self.box.run(node, "dataset", "list"))
        return names, sorted(os.listdir(os.path.join(self.box.home(node), "partitions")))

    def bring_in(self, node, yaml, csv, *more):
        """Exit code, error and text of an import of these bytes."""
        m = put(os.path.join(self.box.folder, "m.yaml"), yaml)
        d = put(os.path.join(self.box.folder, "d.csv"), csv)
        code, answer, text = self.box.try_run(node, "dataset", "import", m, "--data", d, *more)
        self.said.append(text)
        return code, answer or {}, text

    def ask(self, node, sql, *more):
        code, answer, text = self.box.try_run(node, "query", sql, *PURPOSE, "--epsilon", "0.1", "--timeout", "4s", *more)
        self.said.append(text)
        return code, answer or {}, text

    def sites(self, answer):
        rows = answer.get("sites") or answer.get("error", {}).get("sites") or []
        return {row["node"]: (row["status"], row.get("reason")) for row in rows}

    def stop(self, node):
        pid = self.box.pid(node)
        if pid:
            os.kill(pid, signal.SIGTERM)
            for _ in range(1500):
                if not running(pid):
                    return
                time.sleep(0.01)
            self.box.kill(node)

    def launch(self, node):
        """A daemon without the sandbox's waiting for all to be up; its log goes on in the same file."""
        log = open(os.path.join(self.box.home(node), "log", "concordatd.log"), "ab")
        with log:
            return subprocess.Popen([os.path.join(TOP, "concordatd"), "--home", self.box.home(node)], stdout=log, stderr=log)

    def serving(self, node):
        code, answer, _ = self.box.try_run(node, "status")
        return code == 0 and answer["state"] == "serving"

    def all_serve(self):
        return self.box.wait("serving", lambda: all(self.serving(n) for n in self.box.names), 20) is not None


def manifests(bench):
    base = manifest("bad")
    cases = [
        ("an unknown key", base.replace("size: 100", "sise: 100"), 3),
        ("an unknown key of a column", base.replace("max: 110}", "max: 110, colour: red}"), 8),
        ("a wrong type", base.replace("max_rows_per_unit: 2", "max_rows_per_unit: [2]"), 5),
        ("text where a number belongs", base.replace("max: 110}", "max: many}"), 8),
        ("bounds the wrong way round", base.replace("min: 0, max: 110", "min: 110, max: 0"), 8),
        ("a duplicate key", base.replace("size: 100", "size: 100\nsize: 200"), 4),
        ("an unknown DUO code", base.replace("DUO:0000006", "DUO:9999999"), None),
        ("broken YAML", base.replace("columns:", "columns: ]["), 6),
        ("a duplicate column", base.replace("name: age,", "name: sex,"), None),
        ("an empty file", "", None),
        ("binary bytes", bytes(range(256)) * 4, None),
    ]
    before = bench.state("alpha")
    for what, text, line in cases:
        code, answer, said = bench.bring_in("alpha", text, table())
        message = str(answer.get("error", {}).get("detail", "")) + str(answer.get("error", {}).get("message", ""))
        at = re.search(r"m\.yaml:(\d+):(\d+)", message) or re.search(r"line (\d+), column (\d+)", message)
        place = at is not None and (line is None or abs(int(at.group(1)) - line) <= 1)
        if not ok(code == 7 and place, f"manifest with {what}: exit {code}, place {at.group(0) if at else 'not told'}"):
            note(said)
    ok(bench.state("alpha") == before, "after bad manifests the list of datasets and the folder of partitions are as before")


def tables(bench):
    good = table(5)
    cases = [
        ("a ragged row", good + "x,1,F\n", 7, None),
        ("an unparseable number", good + f"x,{SECRET},F,1\n", 7, "age"),
        ("an undeclared category value", good + f"x,1,{SECRET},1\n", 7, "sex"),
        ("an unterminated quote", good + f'x,1,F,"{SECRET}\n', 7, None),
        ("a NUL byte", good.encode() + f"{SECRET}\0,1,F,1\n".encode(), 7, None),
        ("invalid UTF-8", good.encode() + SECRET.encode() + b"\xff\xfe,1,F,1\n", 7, None),
        ("a missing column", good.replace("sex", "gender"), 1, "sex"),
        ("an empty file", "", None, None),
        ("nothing but a header", good.splitlines()[0] + "\n", None, None),
        ("a field of 100 KB", good + f"x{SECRET * 6400},1,F,1\n", None, None),
    ]
    before = bench.state("alpha")
    for what, text, line, column in cases:
        code, answer, said = bench.bring_in("alpha", manifest("bad"), text)
        error = answer.get("error", {})
        message = str(error.get("detail", "")) + str(error.get("message", ""))
        fine = code == 7 and "d.csv" in message and (line is None or f"line {line}" in message) and (column is None or column in message)
        if not ok(fine, f"table with {what}: exit {code}, {message[:90].replace(SECRET, '***')}"):
            note(said.replace(SECRET, "***")[:500])
    ok(bench.state("alpha") == before, "after bad tables the list of datasets and the folder of partitions are as before")

    bad = table(10, "x,many,F,1\ny,1,X,1\n")
    code, answer, _ = bench.bring_in("alpha", manifest("bad"), bad, "--max-rejects", "1")
    ok(code == 7 and bench.state("alpha") == before, "two rejects where one is allowed: exit 7, nothing imported")
    code, answer, _ = bench.bring_in("alpha", manifest("bad"), bad, "--max-rejects", "2", "--dry-run")
    ok(code == 0 and bench.state("alpha") == before, "--dry-run tells and changes nothing")
    code, answer, _ = bench.bring_in("alpha", manifest("bad"), bad, "--max-rejects", "2")
    places = [(r["line"], r["column"]) for r in answer.get("rejects", [])]
    ok(code == 0 and answer["rows"] == 10 and places == [(12, "age"), (13, "sex")], f"--max-rejects 2 imports the other rows and lists {places}")
    bench.box.run("alpha", "dataset", "remove", "bad", "--shred")
    said = "".join(bench.said) + "".join(bench.box.log(n) for n in bench.box.names)
    ok(SECRET not in said, "no cell's content stands in any message or log")


def partition_of(bench, node):
    return max(glob.glob(os.path.join(bench.box.home(node), "partitions", "*")), key=os.path.getsize)


def partitions(bench):
    box = bench.box
    for name in box.names:
        bench.bring_in(name, manifest(), table(60))
    path = partition_of(bench, "gamma")
    first = get(path)
    bench.bring_in("gamma", manifest(), table(70))
    shutil.copy(path, path + "-kept") if os.path.exists(path) else None
    path = partition_of(bench, "gamma")
    whole = get(path)
    middle = bytearray(whole)
    middle[len(whole) // 2] ^= 1
    box.wait("catalogue", lambda: len(box.run("alpha", "catalog")["datasets"]) == len(box.names))
    code, answer, _ = bench.ask("alpha", "SELECT COUNT(*) FROM good")
    ok(code == 0 and bench.sites(answer)["gamma"][0] == "answered", "before any harm gamma answers")
    damages = [("one flipped byte", bytes(middle)), ("cut in half", whole[:len(whole) // 2]), ("cut by one byte", whole[:-1]),
               ("the copy of an older import", first), ("an empty file", b"")]
    for i, (what, data) in enumerate(damages):
        seen = len(box.log("gamma"))
        put(path + ".tmp-test", data)
        os.rename(path + ".tmp-test", path)
        code, answer, text = bench.ask("alpha", f"SELECT COUNT(*) FROM good WHERE age > {i}")
        sites = bench.sites(answer)
        fine = code == 0 and sites["gamma"][0] == "unavailable" and sites["alpha"][0] == "answered"
        if not ok(fine and os.path.basename(path) not in text, f"partition with {what}: gamma is {sites.get('gamma')}, others answer"):
            note(text)
        fresh = box.log("gamma")[seen:]
        ok("query.failed" in fresh and os.path.basename(path) in fresh and "good" in fresh, "  gamma's log names dataset and file")
        _, report, text = box.try_run("gamma", "doctor")
        named = [c for c in (report or {}).get("checks", []) if c["result"] == "fail" and os.path.basename(path) in c["text"]]
        ok(named, "  gamma's doctor names the file")
        code, _, text = box.try_run("gamma", "dataset", "show", "good")
        ok(code == 8 and os.path.basename(path) in text and "good" in text, f"  gamma's dataset show is refused with exit {code}, dataset and file named")
    # A byte that changes under a daemon which has the file open and found it whole: the value is found damaged when it is read.
    put(path + ".tmp-test", whole)
    os.rename(path + ".tmp-test", path)
    code, answer, _ = bench.ask("alpha", "SELECT COUNT(*) FROM good WHERE age > 6")
    ok(code == 0 and bench.sites(answer)["gamma"][0] == "answered", "with the right file gamma answers")
    flip(path, len(whole) // 2)
    _, report, _ = box.try_run("gamma", "doctor")
    met = [c["text"] for c in report["checks"] if c["result"] == "warn" and "met damaged data" in c["text"]]
    ok(met and met[0].startswith(f"{len(damages)} questions or rounds"), f"gamma's doctor counts the questions that met damage: {met}")
    code, _, text = box.try_run("gamma", "fsck")
    ok(code == 8 and os.path.basename(path) in text, f"fsck of a file that changed in its place: exit {code}, the file is named")
    code, _, _ = box.try_run("alpha", "dataset", "show", "good")
    ok(code == 0, "alpha, whose own file is whole, shows the dataset")
    code, answer, text = bench.ask("gamma", "SELECT COUNT(*) FROM good WHERE age > 9", "--sites", "gamma")
    ok(code != 0 and not answer.get("rows"), f"asked alone, the damaged site gives no answer: exit {code}")
    listed = {node: [d["damaged"] for d in box.run(node, "dataset", "list") if d["dataset"] == "good"] for node in ("alpha", "gamma")}
    ok(listed == {"alpha": [False], "gamma": [True]}, f"dataset list says whose file is damaged: {listed}")
    code, shown, text = box.try_run("gamma", "dataset", "show", "good")
    ok(code == 8 or (shown or {}).get("damaged") is True, f"and so does dataset show: exit {code}, {(shown or {}).get('damaged')}")
    bench.stop("gamma")
    box.start()
    _, report, _ = box.try_run("gamma", "doctor")
    named = [c["text"] for c in report["checks"] if c["result"] == "fail" and os.path.basename(path) in c["text"]]
    ok(named and "CORRUPT" in named[0], f"after a restart doctor names the file again: {named}")
    put(path, whole)
    code, answer, _ = bench.ask("alpha", "SELECT COUNT(*) FROM good WHERE age > 10")
    ok(code == 0 and bench.sites(answer)["gamma"][0] == "answered", "with the right file back gamma answers again")
    shown = box.run("gamma", "dataset", "show", "good")
    ok(shown["damaged"] is False and [d["damaged"] for d in box.run("gamma", "dataset", "list") if d["dataset"] == "good"] == [False],
       "and is damaged no more")
    train_damaged(bench, path)


def train_damaged(bench, path):
    """A round that meets damage: the others go on, and the site's operator is told by the same signs as after a question."""
    box = bench.box

    def met():
        texts = [c["text"] for c in box.run("gamma", "doctor")["checks"] if "met damaged data" in c["text"]]
        return int(texts[0].split()[0]) if texts else 0

    before = met()
    flip(path, os.path.getsize(path) // 2)
    done = box.run("alpha", "train", "run", box.write("job.yaml", JOB), timeout=120)
    absent = {a["node"] for row in done["history"] for a in row["absent"]}
    ok(done["state"] == "done" and absent == {"gamma"}, f"a job goes on without the damaged site: {done['state']}, without {absent}")
    listed = {node: [d["damaged"] for d in box.run(node, "dataset", "list") if d["dataset"] == "good"] for node in ("alpha", "gamma")}
    ok(listed == {"alpha": [False], "gamma": [True]}, f"and dataset list says whose file is damaged: {listed}")
    flip(path, os.path.getsize(path) // 2)
    ok(met() >= before + 2, f"gamma's doctor counts the rounds that met damage: {met()}, {before} before")


def port_of(bench, node):
    address = {p["node"]: p["address"] for p in bench.box.run("alpha", "peers")}[node]
    host, port = address.rsplit("/", 1)[-1].rsplit(":", 1)
    return host, int(port)


def throw(connect, data, hold=0.0):
    """Sends DATA, waits a little; what came back."""
    back = b""
    try:
        with connect() as sock:
            sock.settimeout(max(hold, 0.3))
            sock.sendall(data)
            back = sock.recv(65536)
    except OSError:
        pass
    return back


def mesh_port(bench):
    host, port = port_of(bench, "beta")
    junk = [rng.randbytes(n) for n in (1, 7, 64, 5000)] + [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + rng.randbytes(100),
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x01", b"\x00SP\x00\x00\x30\x00\x00", b"\xff" * 70000, bytes(200000)]
    for data in junk:
        throw(lambda: socket.create_connection((host, port), timeout=2), data)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def plain_tls():
        return context.wrap_socket(socket.create_connection((host, port), timeout=2))
    back = throw(plain_tls, b"\x00SP\x00\x00\x30\x00\x00" + rng.randbytes(100), 0.5)
    ok(b"SP" not in back, "TLS without a client certificate hears nothing of the mesh")
    held = [socket.create_connection((host, port), timeout=2) for _ in range(20)]
    code, answer, _ = bench.ask("alpha", "SELECT COUNT(*) FROM good WHERE age > 11")
    ok(code == 0 and all(s[0] == "answered" for s in bench.sites(answer).values()), "junk on the mesh port, 20 silent connections: the next question is answered by all")
    for sock in held:
        sock.close()


def control_socket(bench):
    path = os.path.join(bench.box.home("beta"), "control.sock")

    def connect():
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(2)
        sock.connect(path)
        return sock
    real = struct.pack(">IB", 5, 1) + b"\x93\x01\xa6status\x90"[:4]
    junk = [b"", b"\0", real, struct.pack(">IB", 0xffffffff, 1), struct.pack(">IB", 0, 1), struct.pack(">IB", 2, 77) + b"x",
            struct.pack(">IB", 100, 1) + b"\xdd\xff\xff\xff\xff" + bytes(94), struct.pack(">IB", 2001, 1) + b"\x91" * 2000]
    junk += [rng.randbytes(n) for n in (3, 50, 4096, 100000)]
    began = time.monotonic()
    for data in junk:
        throw(connect, data, 0.2)
    quiet = [connect() for _ in range(8)]
    for sock in quiet:
        sock.sendall(struct.pack(">IB", 1000, 1) + b"half a req")
    code, answer, _ = bench.box.try_run("beta", "status")
    ok(code == 0 and answer["state"] == "serving", "garbage, huge lengths and half requests on control.sock: others go on")
    note(f"control socket: {time.monotonic() - began:.1f} s")
    back = throw(connect, struct.pack(">IB", 2001, 1) + b"\x91" * 2000, 2)
    ok(b'"error"' in back, "a frame that cannot be decoded gets an error")
    bench.quiet = quiet


def quiet_ended(bench):
    """Those that fell silent are let go after the daemon's patience of 10 s."""
    ended = 0
    for sock in bench.quiet:
        sock.settimeout(12)
        try:
            while sock.recv(4096):
                pass
            ended += 1
        except socket.timeout:
            pass
        except OSError:
            ended += 1
        sock.close()
    ok(ended == len(bench.quiet), f"{ended} of {len(bench.quiet)} clients that fell silent were let go")


def questions(bench):
    deep = "SELECT COUNT(*) FROM good WHERE " + "(" * 10000 + "age > 1" + ")" * 10000
    nots = "SELECT COUNT(*) FROM good WHERE " + "NOT " * 5000 + "age > 1"
    cases = [("100 KB", "SELECT COUNT(*) FROM good WHERE age IN (" + ", ".join(str(i % 100) for i in range(26000)) + ")"),
             ("10,000 parentheses", deep), ("5000 NOTs", nots), ("an empty text", ""), ("control characters", "SELECT COUNT(*) \x01\x02\x1b[2J FROM good"),
             ("half a string", "SELECT COUNT(*) FROM good WHERE sex = 'F"), ("another statement behind it", "SELECT COUNT(*) FROM good; DROP TABLE good"),
             ("a number of 400 digits", "SELECT COUNT(*) FROM good WHERE age > " + "9" * 400)]
    for what, sql in cases:
        code, answer, text = bench.ask("alpha", sql)
        error = answer.get("error", {})
        if not ok(code in (2, 7) and error.get("detail", "") and len(error["detail"]) < 600 and "\x1b" not in text, f"question of {what}: exit {code}, {error.get('detail', '')[:80]!r}"):
            note(text[:300])
    raw = subprocess.run([os.path.join(TOP, "concordat").encode(), b"--home", bench.box.home("alpha").encode(), b"--json", b"query", b"SELECT \xff\xfe COUNT(*) FROM good\xc3",
                          b"--purpose", b"DUO:0000006"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=20)
    ok(raw.returncode in (2, 7) and b'"error"' in raw.stdout, f"question of binary bytes: exit {raw.returncode}")
    code, _, _ = bench.ask("alpha", "SELECT COUNT(*) FROM good WHERE age > 12")
    ok(code == 0, "a good question after the bad ones is answered")


def floods(bench):
    """Questions of megabytes, on the control socket itself since no command line holds them."""
    home = bench.box.home("alpha")
    pid = bench.box.pid("alpha")
    grown = peak_kb(pid)
    cases = [("a megabyte of spaces", "SELECT COUNT(*) FROM good" + " " * (1 << 20)),
             ("10^6 constants", "SELECT COUNT(*) FROM good WHERE age IN (0" + ", 1" * 1000000 + ")")]
    for what, sql in cases:
        raw = sql.encode()
        body = b"\x93\x01\xa5query\x91\x92\xa3SQL\xdb" + struct.pack(">I", len(raw)) + raw
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(os.path.join(home, "control.sock"))
            sock.sendall(struct.pack(">IB", len(body) + 1, 1) + body)
            back = sock.recv(65536)
        ok(b'"error"' in back and b"LIMIT" in back, f"{what}: refused by a limit: {back[7:120]!r}")
    grown = peak_kb(pid) - grown
    ok(grown < 16384, f"and the daemon's peak grew by {grown} KB, not more than what it reads at once")


def peak_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int([line.split()[1] for line in file if line.startswith("VmHWM")][0])


def rollback(bench):
    """node.mdb as it was some charges ago, put back while the daemon is down: two other institutions have seen more."""
    box = bench.box
    home = box.home("alpha")
    bench.stop("alpha")
    older = get(os.path.join(home, "node.mdb"))
    box.start()
    bench.all_serve()
    for i in range(3):
        bench.ask("beta", f"SELECT SUM(score) FROM good WHERE age > {20 + i}")
    left = box.run("alpha", "budget", "good")["budget"][0]["rho_left"]
    bench.stop("alpha")
    newer = get(os.path.join(home, "node.mdb"))
    seen = len(box.log("alpha"))
    put(os.path.join(home, "node.mdb"), older)
    child = bench.launch("alpha")
    named = box.wait("rollback in the log", lambda: "ROLLBACK" in box.log("alpha")[seen:].upper() or child.poll() is not None, 15)
    ok(named is not None and "ROLLBACK" in box.log("alpha")[seen:], "an older node.mdb: E_ROLLBACK is named in the log")
    ok(not bench.serving("alpha"), "  the daemon does not serve")
    code, answer, _ = bench.ask("beta", "SELECT SUM(score) FROM good WHERE age > 30")
    ok(code == 0 and bench.sites(answer)["alpha"][0] != "answered", f"  and answers nothing: {bench.sites(answer).get('alpha')}")
    bench.stop("beta")
    bench.stop("gamma")
    time.sleep(3)
    ok(not bench.serving("alpha"), "  nor does it once its witnesses are gone")
    bench.stop("alpha")
    child.wait()
    put(os.path.join(home, "node.mdb"), newer)
    box.start()
    ok(bench.all_serve() and box.run("alpha", "budget", "good")["budget"][0]["rho_left"] <= left, "with the newest file back it serves, and nothing was refunded")


def daemon_code(bench, node, seconds=8):
    """Exit code of a daemon that should not stay; None: it did."""
    child = bench.launch(node)
    try:
        code = child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        code = None
    return code


def tamper(mdb, *what):
    """Changes a live row as somebody could who has LMDB and the file; a search for bytes would also meet dead pages."""
    tool = os.path.join(TOP, "tests", "proc", "tamper")
    return subprocess.run([tool, mdb, *map(str, what)], stdout=subprocess.PIPE, check=True, timeout=20).stdout.decode()


# What is done, whether `audit verify` sees it without any key, and what must stand in the refusal.
TAMPERED = [
    ("one bit of an entry's sealed body", ("flip", "audit", 3, -5), True, "audit|entry [0-9]+ was|the chain ends"),
    ("one bit of an entry's beginning", ("flip", "audit", 2, 9), True, "audit|entry [0-9]+ was|the chain ends"),
    ("one bit of the last entry", ("flip", "audit", -1, -5), True, "audit|entry [0-9]+ was|the chain ends"),
    ("the last two entries cut off", ("drop", "audit", -2, 2), True, "audit|entry [0-9]+ was|the chain ends"),
    ("an entry cut out of the middle", ("drop", "audit", 2, 1), True, "audit|entry [0-9]+ was|the chain ends"),
    ("two entries in each other's place", ("swap", "audit", 2, 3), True, "audit|entry [0-9]+ was|the chain ends"),
    ("one bit of a charge", ("flip", "charges", -1, -5), True, "charges|ledger"),
    ("a charge removed", ("drop", "charges", -1, 1), True, "charges|ledger"),
    ("a charge put in another's place", ("copy", "charges", 0, 1), True, "charges|ledger"),
    ("one bit of an account", ("flip", "accounts", 0, -5), True, "accounts|ledger"),
    ("an account removed", ("drop", "accounts", 0, 1), True, "accounts|ledger"),
    ("one bit of the catalogue", ("flip", "catalogue", 0, -5), False, "catalogue"),
]


def tampered(bench, home):
    """Each change in a copy of the home: refused by the command that has no keys and by a daemon, and named."""
    copy = os.path.join(bench.box.folder, "copy")
    shutil.copytree(home, copy, ignore=lambda d, names: [n for n in names if n.endswith(".sock")])
    mdb = os.path.join(copy, "node.mdb")
    whole = get(mdb)
    code, _, text = concordat("audit", "verify", "--home", copy)
    rows = int(tamper(mdb, "count", "audit", 0, 0)), int(tamper(mdb, "count", "charges", 0, 0))
    ok(code == 0 and rows[0] >= 5 and rows[1] >= 2, f"audit verify of an untouched copy: exit {code}, (entries, charges) {rows}")
    for what, change, by_verify, named in TAMPERED:
        put(mdb, whole)
        tamper(mdb, *change)
        for lock in glob.glob(mdb + "-lock"):
            os.unlink(lock)
        code, _, text = concordat("audit", "verify", "--home", copy)
        if by_verify and not ok(code == 8 and re.search(named, text), f"{what}: audit verify refuses with exit {code}"):
            note(text[:300])
        child = subprocess.Popen([os.path.join(TOP, "concordatd"), "--home", copy], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            said = child.communicate(timeout=5)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            child.kill()
            said = child.communicate()[0].decode(errors="replace")
        if not ok(child.returncode == 8 and re.search(named, said), f"{what}: a daemon leaves with {child.returncode}"):
            note(said[-400:])
    shutil.rmtree(copy)


def ledger_file(bench):
    """Flipped bytes of node.mdb, the sealed rows of the ledger and the audit chain among them."""
    box = bench.box
    home = box.home("gamma")
    path = os.path.join(home, "node.mdb")
    bench.stop("gamma")
    whole = get(path)
    tampered(bench, home)
    codes = []
    for _ in range(4):
        flip(path, rng.randrange(8192, len(whole)))
        code = daemon_code(bench, "gamma", 0.7)
        codes.append(code)
        put(path, whole)
    ok(all(code in (None, 8) for code in codes), f"4 flipped bytes anywhere: each refused with 8 or harmless (None), never a crash: {codes}")
    put(path, whole[:len(whole) // 2])
    code = daemon_code(bench, "gamma")
    ok(code == 8, f"node.mdb cut in half: exit {code}")
    put(path, b"not a database" * 1000)
    code = daemon_code(bench, "gamma")
    ok(code == 8, f"node.mdb overwritten: exit {code}")
    os.unlink(path)
    code = daemon_code(bench, "gamma")
    ok(code == 8, f"node.mdb gone: exit {code}")
    put(path, whole)

    ring = os.path.join(home, "keyring")
    keep = get(ring)
    codes = []
    for data in (keep[:-1], keep[:20], b"", bytes([keep[0] ^ 1]) + keep[1:], keep[:-3] + bytes([keep[-3] ^ 1]) + keep[-2:],
                 keep[:len(keep) // 2] + bytes([keep[len(keep) // 2] ^ 1]) + keep[len(keep) // 2 + 1:]):
        seen = len(box.log("gamma"))
        put(ring, data)
        codes.append(daemon_code(bench, "gamma"))
    ok(set(codes) == {8} and "keyring" in box.log("gamma")[seen:], f"a tampered keyring: the daemon leaves with {codes}")
    put(ring, keep)
    box.start()
    ok(bench.all_serve(), "with both files back all serve")


def limit(pid, most):
    soft = most if most is not None else resource.RLIM_INFINITY
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))


def full_disk(bench):
    """A limit on the size of files stands for the disk that is full: write() fails in the daemon, as it would with ENOSPC."""
    box = bench.box
    pid = box.pid("beta")
    before = bench.state("beta")
    ledger = box.run("beta", "budget", "good")["budget"][0]["rho_left"]
    limit(pid, 20000)
    code, answer, text = bench.bring_in("beta", manifest("big"), table(20000))
    ok(code == 1 and answer.get("error", {}).get("code") == "DISK_FULL", f"import on a full disk: exit {code}, {answer.get('error', {}).get('detail', '')[:90]}")
    ok(bench.state("beta") == before, "  nothing of it stays")
    code, answer, text = bench.ask("alpha", "SELECT COUNT(*) FROM good WHERE age > 40")
    state = bench.sites(answer).get("beta")
    ok(code == 0 and state[0] in ("unavailable", "answered"), f"the ledger's write on a full disk: beta is {state}")
    if state[0] == "answered":  # pages that the file has already may be written: then a budget was charged
        ok(box.run("beta", "budget", "good")["budget"][0]["rho_left"] < ledger, "  what was answered was charged")
    limit(pid, 4096)
    seen = len(box.log("beta"))
    code, answer, text = bench.ask("alpha", "SELECT COUNT(*) FROM good WHERE age > 41")
    state = bench.sites(answer).get("beta")
    ok(code == 0 and state[0] == "unavailable", f"no page can be written: beta is {state}, the others answer")
    ok("no space left" in box.log("beta")[seen:] or "disk" in box.log("beta")[seen:], "  its log says why")
    limit(pid, None)
    after = box.run("beta", "budget", "good")["budget"][0]["rho_left"]
    code, answer, text = bench.ask("alpha", "SELECT COUNT(*) FROM good WHERE age > 42")
    ok(code == 0 and bench.sites(answer)["beta"][0] == "answered" and after <= ledger, "with space again beta answers, without a restart")
    code, answer, _ = bench.bring_in("beta", manifest("big"), table(2000))
    ok(code == 0 and answer["rows"] == 2000, "  and imports")
    ok(box.run("beta", "audit", "verify")["ok"], "  and its audit chain verifies")


def killed_import(bench):
    box = bench.box
    before = bench.state("beta")[0]
    rows = table(200000)
    thread = threading.Thread(target=bench.bring_in, args=("beta", manifest("later"), rows))
    thread.start()
    folder = os.path.join(box.home("beta"), "partitions")
    made = box.wait("a half written file", lambda: glob.glob(os.path.join(folder, "*.new")), 10)
    box.kill("beta")
    thread.join()
    left = glob.glob(os.path.join(folder, "*.new*"))
    box.start()
    ok(made is not None and left, f"kill -9 during an import left {len(left)} file(s)")
    ok(bench.state("beta")[0] == before and not glob.glob(os.path.join(folder, "*.new*")), "after the restart nothing of it is there")


def main():
    began = time.monotonic()
    only = os.environ.get("ONLY", "")
    with Sandbox("alpha,beta,gamma") as box:
        bench = Bench(box)
        bench.quiet = []
        sections = [manifests, tables, partitions, mesh_port, control_socket, questions, floods, rollback, ledger_file, full_disk, killed_import]
        for section in sections:
            since = time.monotonic()
            if not only or section.__name__ in only.split(",") or section is partitions:
                section(bench)
            note(f"{section.__name__}: {time.monotonic() - since:.1f} s")
        if bench.quiet:
            quiet_ended(bench)
        said = "".join(bench.said) + "".join(box.log(n) for n in box.names)
        ok(SECRET not in said, "at the end no bad cell stands in any message or log")
        note(f"{time.monotonic() - began:.0f} s")
    done()


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
