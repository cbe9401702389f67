#!/usr/bin/env python3
"""The inference service of a real daemon: who may ask it, texts in and tags out, the same as the command says, limits, hostile requests.
Tables and models that licences close are in library.py."""
import json
import os
import re
import socket
import stat
import sys
import threading

from harness import TOP, Sandbox, console_on, done, free_port, http_ask, note, ok, predict
from models import TAGS, TINY, small_folder

with open(os.path.join(TOP, "config.h"), encoding="ascii") as config:
    if "HAVE_MICROHTTPD 1" not in config.read():
        print("1..0 # SKIP built without libmicrohttpd")
        sys.exit(0)

TEXTS = ["abc de f", "", "line\nbreaks\r\nare blanks", "ab " * 200, "ü\t\"quoted\""]


def answers(box, port):
    lines = "".join(t.replace("\n", " ").replace("\r", " ") + "\n" for t in TEXTS)
    want = box.run("alpha", "model", "predict", "small", "--data", box.write("t.txt", lines), "--format", "text")
    status, got = predict(box, "alpha", port, "small", {"texts": TEXTS})
    ok(status == 200 and got == want and len(got["rows"]) == len(TEXTS), "texts come back with a tag for each word, as the command says it")
    ok(all(t in TAGS for r in got["rows"] for t in r["tags"]) and got["rows"][2]["words"] == ["line", "breaks", "are", "blanks"], "line breaks in a text are blanks")
    many = [f"abc de {chr(97 + i % 26)}" for i in range(256)]
    status, got = predict(box, "alpha", port, "small", {"texts": many})
    ok(status == 200 and [r["words"] for r in got["rows"]] == [t.split() for t in many], "256 texts at a time, in their order")
    before = len([e for e in box.run("alpha", "audit", "list") if e["kind"] == "model.predict"])
    predict(box, "alpha", port, "small", {"texts": ["a"]})
    entries = [e for e in box.run("alpha", "audit", "list") if e["kind"] == "model.predict"]
    ok(len(entries) == before + 1 and "predict-service" in json.dumps(entries[-1]), f"each use is on record: {len(entries)}")


def doors(box, port):
    path = os.path.join(box.home("alpha"), "predict.token")
    token, other = (open(os.path.join(box.home("alpha"), n), encoding="ascii").read().strip() for n in ("predict.token", "console.token"))
    ok(re.fullmatch("[0-9a-f]{64}", token) and stat.S_IMODE(os.stat(path).st_mode) == 0o600 and token != other, "its token is its own, random and closed to others")
    kind = {"Content-Type": "application/json"}
    good = {"Authorization": f"Bearer {token}", **kind}
    post = lambda headers, body=b'{"texts": ["a"]}', where="/api/v1/model/predict/small": http_ask(port, where, "POST", headers, body)
    ok(post(kind)[0] == 401 and post({"Authorization": f"Bearer {other}", **kind})[0] == 401 and post({"Authorization": "Bearer " + "0" * 64, **kind})[0] == 401,
       "without it, with the operator's or another one: 401")
    ok(http_ask(port, "/api/v1/status", headers=good)[0] == 401, "and it opens nothing else")
    ok(http_ask(port, "/api/v1/model/predict/small", headers={"Authorization": f"Bearer {other}"})[0] == 403, "the operator's token does not predict by GET")
    ok(post({**good, "Content-Type": "text/plain"})[0] == 415, "another type of content: 415")
    for headers in ({**good, "Host": "evil.example"}, {**good, "Origin": "http://evil.example"}):
        ok(post(headers)[0] in (403, 405), "another Host or Origin is refused")
    ok(post(good, where="/api/v1/model/export/small")[0] == 405, "no other operation takes a POST")
    ok(post(good, where="/api/v1/model/predict/small?--data=/etc/passwd")[0] == 200, "arguments in the address are not looked at")
    ok(token not in box.log("alpha"), "the token is in no log")
    return good


def refusals(box, port, good):
    def said(model, body):
        """Waits where the rate is used up: it is not what is asked here."""
        seen = []
        box.wait("an answer", lambda: seen.append(predict(box, "alpha", port, model, body)) or seen[-1][0] != 429)
        return seen[-1]

    cases = [("none", {"texts": ["a"]}, 404), ("tiny", {"texts": ["a"]}, 403), ("small", {"columns": ["a"], "rows": [[1]]}, 400), ("small", {}, 422),
             ("small", [], 422), ("small", {"texts": []}, 422), ("small", {"texts": "a"}, 422), ("small", {"texts": [1]}, 422), ("small", {"texts": ["a"], "x": 1}, 422),
             ("small", {"texts": ["a"] * 257}, 422), ("small", {"texts": ["a" * 70000]}, 422), ("a/b", {"texts": ["a"]}, 404)]
    for model, body, want in cases:
        status, answer = said(model, body)
        ok(status == want and answer["error"]["detail"], f"{str(body)[:40]} to {model}: {want}") or note(f"{status} {answer}")
    for body in (b"", b"{", b"\0" * 100, b'{"texts": ["\xff"]}', b'{"texts": ["\\u0000"]}', b"[" * 100000, b'{"texts": ["a"], "texts": ["b"]}'):
        seen = []
        box.wait("an answer", lambda: seen.append(http_ask(port, "/api/v1/model/predict/small", "POST", good, body)) or seen[-1][0] != 429)
        ok(seen[-1][0] == 422, f"{body[:20]!r} is refused: {seen[-1][0]}") or note(seen[-1][1])
    status, text, _ = http_ask(port, "/api/v1/model/predict/small", "POST", {**good, "Content-Length": str(1 << 30)}, None)
    ok(status == 413, "more than a megabyte is refused by its head")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:  # without a length: while it comes
        head = "".join(f"{k}: {v}\r\n" for k, v in good.items())
        raw.sendall(f"POST /api/v1/model/predict/small HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        try:
            for _ in range(20):
                raw.sendall(chunk)
            raw.sendall(b"0\r\n\r\n")
            answer = raw.recv(200)
        except OSError:
            answer = b""
        ok(b" 413 " in answer, f"or as it comes: {answer[:20]!r}")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:  # a body that never ends
        raw.sendall(f"POST /api/v1/model/predict/small HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{head}Content-Length: 1000\r\n\r\n".encode() + b"{")


def flood(port, good):
    """More than the service takes: some are told to wait, and it stays well."""
    seen = []

    def one():
        seen.append(http_ask(port, "/api/v1/model/predict/small", "POST", good, b'{"texts": ["abc"]}'))

    for _ in range(3):
        threads = [threading.Thread(target=one) for _ in range(16)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    codes = sorted({s for s, _, _ in seen})
    ok(set(codes) <= {200, 429, 503} and codes != [200], f"of a flood a part is put off: {codes}")
    ok(all(h.get("Retry-After") == "1" for s, _, h in seen if s != 200), "and the rest is told when to come again")


def main():
    with Sandbox("alpha", start=False) as box:
        port = free_port()
        console_on(box, "alpha", f"127.0.0.1:{port}", predict=True)
        box.start()
        small_folder(os.path.join(box.folder, "small"))
        box.run("alpha", "model", "import", os.path.join(box.folder, "small"), "--name", "small", "--licence", "CC0-1.0")
        box.run("alpha", "model", "import", TINY, "--name", "tiny", "--licence", "CC-BY-4.0")
        answers(box, port)
        good = doors(box, port)
        refusals(box, port, good)
        flood(port, good)
        ok(box.wait("an answer", lambda: predict(box, "alpha", port, "small", {"texts": ["abc"]})[0] == 200, 20) is not None, "it answers afterwards")
    done()


main()
