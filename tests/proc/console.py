#!/usr/bin/env python3
"""The HTTP console of a real daemon: who may ask, what may be asked, what /metrics carries, and hostile requests."""
import json
import os
import re
import socket
import stat
import subprocess
import sys

sys.dont_write_bytecode = True
from harness import TOP, Sandbox, console_on, done, free_port, http_ask as ask, licence, note, ok

with open(os.path.join(TOP, "config.h"), encoding="ascii") as file:
    if "HAVE_MICROHTTPD 1" not in file.read():
        print("1..0 # SKIP built without libmicrohttpd")
        sys.exit(0)


ROWS = 137  # a number that nothing else has

with Sandbox("alpha,beta", start=False) as box:
    port = free_port()
    console_on(box, "alpha", f"127.0.0.1:{port}")
    box.start()
    status, text, _ = ask(port, "/metrics")
    ok(status == 200 and "concordat_audit_entries_total 0" in text, "/metrics of a node whose audit chain is still empty")
    manifest = box.write("t.yaml", "dataset: chain\nversion: \"1\"\ntitle: Test <b>title</b>\nsize: 400\ncolumns:\n"
                         "  - {name: sex, type: category, values: [F, M]}\n" + licence())
    box.run("alpha", "dataset", "import", manifest, "--data", box.write("t.csv", "sex\n" + "F\n" * ROWS))
    path = os.path.join(box.home("alpha"), "console.token")
    token = open(path, encoding="ascii").read().strip()
    bearer = {"Authorization": f"Bearer {token}"}
    ok(re.fullmatch("[0-9a-f]{64}", token) and stat.S_IMODE(os.stat(path).st_mode) == 0o600, "the token is random and closed to others")

    status, text, headers = ask(port, "/healthz")
    ok(status == 200 and text == "ok\n", "/healthz answers without a token")
    ok("default-src 'none'" in headers.get("Content-Security-Policy", "") and headers.get("Cache-Control") == "no-store",
       "answers forbid scripts from elsewhere and caches")
    ok(box.wait("ready", lambda: ask(port, "/readyz")[0] == 200, 30) is not None, "/readyz follows the node's state")

    status, text, headers = ask(port, "/metrics")
    lines = text.splitlines()
    ok(status == 200 and headers["Content-Type"].startswith("application/openmetrics-text") and lines[-1] == "# EOF", "/metrics is OpenMetrics")
    names = set()
    well = True
    for line in lines[:-1]:
        if line.startswith("# TYPE "):
            names.add(line.split()[2])
        elif not line.startswith("# HELP "):
            found = re.fullmatch(r'([a-z_]+)(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? [0-9.]+', line)
            well = well and found is not None and re.sub("_(total|info)$", "", found.group(1)) in names
    ok(well, "each sample belongs to a declared family")
    ok('concordat_budget_rho_left{dataset="chain"}' in text and 'concordat_peers{state="up"} 1' in text, "budgets and peers are there")
    ok(str(ROWS) not in re.sub(r"concordat_(uptime_seconds|requests\w+|audit\w+|store\w+|records\w+) \d+", "", text),
       "no number of rows in it")

    for path, what in (("/api/v1/status", "the API"), ("/nothing", "any other path")):
        ok(ask(port, path)[0] == 401, f"{what} needs the token")
    ok(ask(port, "/api/v1/status", headers={"Authorization": "Bearer " + "0" * 64})[0] == 401, "another token does not do")
    ok(ask(port, "/api/v1/status", headers={"Authorization": bearer["Authorization"][:-1]})[0] == 401, "nor a part of it")
    status, text, headers = ask(port, "/")
    ok(status == 401 and "login" in text and "WWW-Authenticate" in headers, "/ without it is the page that asks for it")
    status, text, _ = ask(port, "/", headers=bearer)
    ok(status == 200 and 'id="view"' in text, "/ with it is the console")
    ok(ask(port, "/console.js")[0] == 200 and ask(port, "/console.css")[0] == 200, "its script and style come from here")

    status, text, _ = ask(port, "/api/v1/status", headers=bearer)
    ok(status == 200 and json.loads(text)["node"] == "alpha", "status, as the command says it")
    status, text, _ = ask(port, "/api/v1/licence/show/chain", headers=bearer)
    ok(status == 200 and json.loads(text) == box.run("alpha", "licence", "show", "chain"), "a value behind the words")
    status, text, _ = ask(port, "/api/v1/licence/check/chain?purpose=DUO:0000006&action=count", headers=bearer)
    ok(status == 200 and json.loads(text)["sites"][0]["verdict"] == "permit", "arguments by name")
    status, text, _ = ask(port, "/api/v1/audit/list?since=2020-01-01", headers=bearer)
    ok(status == 200 and json.loads(text), "the audit list")
    status, text, _ = ask(port, "/api/v1/audit/verify", headers=bearer)
    verified = json.loads(text)
    ours = box.run("alpha", "audit", "verify")
    ok(status == 200 and verified["ok"] and verified["entries"] > 0 and sorted(verified) == sorted(ours) and
       all(verified[key] == ours[key] for key in ("ok", "first_bad", "node_id", "federation_id", "fingerprint")), f"the audit chain verified, in the words of the command: {text[:200]}")
    ok(ask(port, "/api/v1/audit/verify")[0] == 401 and ask(port, "/api/v1/audit/verify", "POST", bearer)[0] == 405, "with the token, by reading")
    for name in ("/etc/passwd", os.path.join(box.home("alpha"), "node.mdb"), ""):
        status, text, _ = ask(port, f"/api/v1/audit/verify?file={name}", headers=bearer)
        ok(status == 400 and "root:" not in text, f"and no file of a caller's: {status}")
    ok(ask(port, f"/api/v1/audit/export/{box.folder}/x", headers=bearer)[0] in (400, 403) and not os.path.exists(os.path.join(box.folder, "x")), "nor is one written")
    for path in ("project/list", "agreement/list", "visa/list", "federation/council"):
        status, text, _ = ask(port, f"/api/v1/{path}", headers=bearer)
        ok(status == 200 and json.loads(text) == box.run("alpha", *path.split("/")), f"{path}, as the command says it")
    status, text, _ = ask(port, "/api/v1/licence/show/none", headers=bearer)
    ok(status == 404 and json.loads(text)["error"]["exit"] == 3, "not found is 404, with the error document")
    ok(ask(port, "/api/v1/query?SQL=x", headers=bearer)[0] == 403, "what spends budget is not there")
    ok(ask(port, "/api/v1/dataset/remove/chain", headers=bearer)[0] == 403, "nor what changes anything")
    ok(ask(port, "/api/v1/nothing", headers=bearer)[0] == 404, "an operation that does not exist")
    ok(ask(port, "/api/v1/status?x=1", headers=bearer)[0] == 400, "an argument that it does not take")
    ok(ask(port, "/api/v1/licence/show/a/b/c", headers=bearer)[0] == 400, "too many values")
    ok(ask(port, "/api/v1/audit/list?" + "&".join(f"since={i}" for i in range(40)), headers=bearer)[0] == 400, "too many arguments")

    ok(ask(port, "/api/v1/model/predict/x", "POST", {**bearer, "Content-Type": "application/json"}, b'{"texts": ["a"]}')[0] == 403,
       "the inference service is off unless node.yaml turns it on")
    ok(not os.path.exists(os.path.join(box.home("alpha"), "predict.token")), "and has no token then")
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        ok(ask(port, "/api/v1/status", method, bearer, b"x" * 100)[0] == 405, f"{method} is refused")
    ok(ask(port, "/api/v1/status", headers={**bearer, "Host": "evil.example"})[0] == 403, "another Host is refused (rebinding)")
    ok(ask(port, "/metrics", headers={"Host": f"evil.example:{port}"})[0] == 403, "for /metrics too")
    ok(ask(port, "/api/v1/status", headers={**bearer, "Origin": "http://evil.example"})[0] == 403, "another Origin is refused")
    ok(ask(port, "/api/v1/status", headers={**bearer, "Origin": f"http://127.0.0.1:{port}"})[0] == 200, "our own Origin is not")

    for bad in (b"\0" * 4096, b"GET / HTTP/9.9\r\n\r\n", b"A" * 100000 + b"\r\n\r\n", b"GET /" + b"x" * 60000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                b"GET /api/v1/%00%ff%2e%2e/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
            try:
                raw.sendall(bad)
                raw.settimeout(0.3)
                raw.recv(100)
            except OSError:
                pass
    slow = []
    for _ in range(40):  # more than it takes at a time, and none of them says anything
        try:
            slow.append(socket.create_connection(("127.0.0.1", port), timeout=2))
        except OSError:
            break
    for one in slow:
        one.close()
    ok(box.wait("an answer", lambda: ask(port, "/healthz")[0] == 200, 20) is not None, "garbage and silent connections harm nothing")
    ok(token not in box.log("alpha"), "the token is in no log")

    # addresses that others could reach, and a port that is taken
    subprocess.run([os.path.join(TOP, "concordat"), "sandbox", "stop", box.dir], check=False, stdout=subprocess.DEVNULL, timeout=60)
    home = box.home("beta")
    for listen, words in (("0.0.0.0:7480", "reverse proxy"), ("example.org:80", "reverse proxy"), ("127.0.0.1", "ADDRESS:PORT"),
                          ("127.0.0.1:99999", "ADDRESS:PORT")):
        kept = console_on(box, "beta", listen)
        run = subprocess.run([os.path.join(TOP, "concordatd"), "--home", home], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             timeout=30, check=False)
        ok(run.returncode != 0 and words in run.stdout.decode(), f"listen {listen} is refused with the cure") or note(run.stdout.decode()[-400:])
        with open(os.path.join(home, "node.yaml"), "w", encoding="utf-8") as file:
            file.write(kept)
done()
