#!/usr/bin/env python3
"""The command against a daemon that is played by this script: frames, progress, CANCEL, and answers that are none.
Prints TAP."""
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

CONCORDAT = os.path.join(os.environ.get("top_builddir", "."), "concordat")
count = 0


def ok(good, text, detail=""):
    global count
    count += 1
    print(("ok" if good else "not ok"), count, "-", text, flush=True)
    if not good:
        for line in str(detail).splitlines()[:12]:
            print("#", line)


# --- as much msgpack as the frames need ---------------------------------------------------------------
def pack(value):
    if isinstance(value, int):
        if value < 128:
            return bytes([value])
        if value < 256:
            return b"\xcc" + bytes([value])
        if value < 65536:
            return b"\xcd" + struct.pack(">H", value)
        return b"\xce" + struct.pack(">I", value)
    if isinstance(value, str):
        raw = value.encode()
        if len(raw) < 32:
            return bytes([0xA0 | len(raw)]) + raw
        if len(raw) < 256:
            return b"\xd9" + bytes([len(raw)]) + raw
        if len(raw) < 65536:
            return b"\xda" + struct.pack(">H", len(raw)) + raw
        return b"\xdb" + struct.pack(">I", len(raw)) + raw
    return bytes([0x90 | len(value)]) + b"".join(pack(item) for item in value)


def unpack(raw, at=0):
    tag = raw[at]
    at += 1
    if tag < 0x80:
        return tag, at
    if tag & 0xE0 == 0xA0:
        return raw[at:at + (tag & 31)].decode(), at + (tag & 31)
    if tag == 0xD9:
        return raw[at + 1:at + 1 + raw[at]].decode(), at + 1 + raw[at]
    if tag & 0xF0 == 0x90:
        items = []
        for _ in range(tag & 15):
            item, at = unpack(raw, at)
            items.append(item)
        return items, at
    raise ValueError(hex(tag))


def frame(kind, value):
    body = pack(value)
    return struct.pack(">IB", len(body) + 1, kind) + body


def progress(text, done, total):
    return frame(2, [text, done, total])


def result(value, exit_code=0):
    return frame(3, [exit_code, json.dumps(value)])


def receive(connection):
    head = b""
    while len(head) < 5:
        more = connection.recv(5 - len(head))
        if not more:
            return None, None
        head += more
    length, kind = struct.unpack(">IB", head)
    body = b""
    while len(body) < length - 1:
        more = connection.recv(length - 1 - len(body))
        if not more:
            return None, None
        body += more
    return kind, unpack(body)[0]


class Daemon:
    """Serves connections with the given functions, one after the other."""

    def __init__(self, home, *answers):
        self.asked = []
        self.path = os.path.join(home, "control.sock")
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.socket = socket.socket(socket.AF_UNIX)
        # The path of a home may be longer than a socket's address.
        here = os.open(home, os.O_PATH)
        self.socket.bind(f"/proc/self/fd/{here}/control.sock")
        os.close(here)
        self.socket.listen()
        self.socket.settimeout(20)
        self.thread = threading.Thread(target=self.run, args=answers)
        self.thread.start()

    def run(self, *answers):
        for answer in answers:
            connection, _ = self.socket.accept()
            with connection:
                kind, request = receive(connection)
                self.asked.append((kind, request))
                answer(connection)
        self.socket.close()

    def end(self):
        self.thread.join(30)
        return self.asked


def command(home, *arguments, stdin=None):
    return subprocess.run([CONCORDAT, "--home", home, *arguments], stdin=stdin, capture_output=True, text=True, timeout=60)


def answers(*frames):
    def answer(connection):
        for part in frames:
            connection.sendall(part)
    return answer


def slowly(data):
    def answer(connection):
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(0.002)
    return answer


def main():
    global count
    with tempfile.TemporaryDirectory() as top:
        home = os.path.join(top, "h" * 60, "o" * 60)  # longer than sun_path
        os.makedirs(home)

        daemon = Daemon(home, answers(progress("asking", 1, 3), result({"budget": []})))
        ran = command(home, "--json", "budget", "flchain")
        asked = daemon.end()
        ok(ran.returncode == 0 and json.loads(ran.stdout) == {"budget": []} and ran.stderr == "", "a plain answer", ran)
        ok(asked == [(1, [1, "budget", [["DATASET", "flchain"]]])], "the request carries what was typed", asked)

        daemon = Daemon(home, slowly(progress("a", 0, 0) + result([])))
        ran = command(home, "peers")
        daemon.end()
        ok(ran.returncode == 0 and "no members yet" in ran.stdout, "frames that come byte by byte", ran)

        big = [{"seq": i, "time": "t", "kind": "query.answer", "hash": "00", "body": {}} for i in range(30000)]
        daemon = Daemon(home, answers(result(big)))
        ran = command(home, "--json", "audit", "list")
        daemon.end()
        ok(ran.returncode == 0 and len(json.loads(ran.stdout)) == 30000, "an answer of two megabytes", ran.returncode)

        error = {"error": {"code": "BUDGET_EXHAUSTED", "kind": "budget", "exit": 5, "message": "m", "detail": "d"}}
        daemon = Daemon(home, answers(result(error, 5)), answers(result(error, 5)))
        ran = command(home, "query", "SELECT 1", "--plot", "--svg", os.path.join(top, "x.svg"))
        text = command(home, "--json", "query", "SELECT 1", "--explain")
        asked = daemon.end()
        ok(ran.returncode == 5 and ran.stdout == "" and "smaller --epsilon" in ran.stderr, "a refusal and its cure", ran)
        ok(text.returncode == 5 and json.loads(text.stdout) == error, "a refusal with --json", text)
        ok(asked[0][1][2] == [["SQL", "SELECT 1"]] and asked[1][1][2] == [["SQL", "SELECT 1"], ["--explain", ""]],
           "drawing stays with the command, flags travel", asked)
        ok(not os.path.exists(os.path.join(top, "x.svg")), "a refusal draws nothing")

        with open(os.path.join(top, "q.sql"), "w", encoding="utf-8") as file:
            file.write("SELECT COUNT(*)\n  FROM a -- of all\n\n")
        ways = ["query", "@" + os.path.join(top, "q.sql")], ["query", "-", "--explain"]
        daemon = Daemon(home, *[answers(result(error, 5))] * 2)
        for words in ways:
            with open(os.path.join(top, "q.sql"), "rb") as file:
                command(home, *words, stdin=file)
        asked = daemon.end()
        text = "SELECT COUNT(*)\n  FROM a -- of all"
        ok([a[1][2] for a in asked] == [[["SQL", text]], [["SQL", text], ["--explain", ""]]], "a question from a file and from standard input", asked)

        grouped = {"columns": ["sex", "count"], "rows": [["F", 10], ["M", 20]], "margin95": [[None, 1], [None, 1]],
                   "sites": [], "cost": {}, "budget": []}
        daemon = Daemon(home, answers(result(grouped)))
        ran = command(home, "query", "SELECT 1", "--plot", "--svg", os.path.join(top, "x.svg"))
        daemon.end()
        with open(os.path.join(top, "x.svg"), encoding="utf-8") as picture:
            svg = picture.read()
        ok(ran.returncode == 0 and "####" in ran.stdout and svg.startswith("<svg") and svg.count("<rect") == 2,
           "bars in the terminal and in a file", ran)

        manifest = os.path.join(top, "m.yaml")
        with open(manifest, "w", encoding="utf-8") as to:
            to.write("x")
        daemon = Daemon(home, answers(result({"dataset": "a"})))
        ran = subprocess.run([os.path.abspath(CONCORDAT), "--home", home, "dataset", "import", "m.yaml", "--data=m.yaml"],
                             cwd=top, capture_output=True, text=True, timeout=60)
        asked = daemon.end()
        real = os.path.realpath(manifest)
        paths = [os.path.realpath(value) for _, value in asked[0][1][2]]
        ok(paths == [real, real] and all(os.path.isabs(v) for _, v in asked[0][1][2]), "paths travel absolute", asked)

        # What is no daemon of ours, or a dying one.
        for name, reply, want in [("closes at once", answers(), 1), ("sends garbage", answers(b"\xff" * 64), 7),
                                  ("sends half a frame", answers(result([])[:-1]), 1),
                                  ("answers no JSON", answers(frame(3, [0, "{nonsense"])), 7),
                                  ("sends a request", answers(frame(1, [1, "x", []])), 7),
                                  ("sends trailing bytes", answers(struct.pack(">IB", 5, 3) + b"\x92\x00\xa0\x00"), 7)]:
            daemon = Daemon(home, reply)
            ran = command(home, "--json", "peers")
            daemon.end()
            ok(ran.returncode == want and "error" in json.loads(ran.stdout), f"a daemon that {name}: exit {want}", ran)

        # Ctrl-C sends CANCEL and waits for the answer.
        seen = []

        def cancelled(connection):
            seen.append(receive(connection))
            connection.sendall(result({"error": {"code": "CANCELLED", "kind": "busy", "exit": 9, "message": "cancelled",
                                                 "detail": ""}}, 9))
        daemon = Daemon(home, cancelled)
        ran = subprocess.Popen([CONCORDAT, "--home", home, "query", "SELECT 1"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
        while not daemon.asked:
            time.sleep(0.01)
        ran.send_signal(signal.SIGINT)
        _, err = ran.communicate(timeout=30)
        daemon.end()
        ok(seen == [(4, [])] and ran.returncode == 9 and "cancelled" in err, "Ctrl-C cancels and ends orderly",
           (seen, ran.returncode, err))

        # train run is start and watch; lines of progress go to standard error.
        shown = {"job": "ab", "state": "done", "round": 1, "rounds": 1, "sites": [], "history": [], "model": "ff"}
        daemon = Daemon(home, answers(result({"job": "ab", "name": "j", "state": "running"})),
                        answers(progress("round 1 of 1", 1, 1), result(shown)))
        ran = command(home, "train", "run", manifest, "--set", "rounds=1", "--set", "privacy.epsilon=2")
        asked = daemon.end()
        ok(ran.returncode == 0 and "round 1 of 1" in ran.stderr and "model ff" in ran.stdout, "train run", ran)
        ok([request[1] for _, request in asked] == ["train start", "train watch"] and asked[1][1][2] == [["ID", "ab"]]
           and asked[0][1][2][1:] == [["--set", "rounds=1"], ["--set", "privacy.epsilon=2"]], "train run asks for two", asked)

        daemon = Daemon(home, answers(result({"job": "ab", "name": "j", "state": "running"})))
        ran = command(home, "train", "start", manifest)
        daemon.end()
        ok(ran.returncode == 0 and ran.stdout == "ab\n" and "train watch ab" in ran.stderr, "train start prints the id alone", ran)

        # A bar on a terminal only.
        try:
            leader, follower = pty.openpty()
        except OSError as error:
            leader = follower = None
            count += 1
            print(f"ok {count} - a bar on a terminal # SKIP this machine gives no pseudo-terminal: {error}", flush=True)
        if leader is not None:
            daemon = Daemon(home, answers(progress("reading a.csv, bytes", 5, 10), result({"dataset": "a"})))
            ran = subprocess.run([CONCORDAT, "--home", home, "dataset", "import", manifest, "--data", manifest],
                                 stdout=subprocess.PIPE, stderr=follower, timeout=60, check=False)
            daemon.end()
            os.close(follower)
            drawn = os.read(leader, 4096).decode()
            os.close(leader)
            ok("reading a.csv [############............]  50 %" in drawn and drawn.endswith("\x1b[K"), "a bar on a terminal", drawn)
    print(f"1..{count}")


main()
