#!/usr/bin/env python3
"""20 nodes mesh within 60 s; a TLS port under testssl: TLS 1.2 only, two suites, client certificates required."""
import re
import shutil
import socket
import subprocess
import time

from harness import Refused, Sandbox, done, note, ok, rng


def probe(port):
    """Junk, half handshakes and silence must not disturb the listener."""
    for i in range(15):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
            if i % 3 == 1:
                s.sendall(rng.randbytes(300))
            elif i % 3 == 2:
                s.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")


def testssl(port):
    if not shutil.which("testssl"):
        note("testssl is not installed: skipped")
        return
    run = subprocess.run(["testssl", "--warnings", "off", "--color", "0", "-p", "-E", "--ip", "one", f"127.0.0.1:{port}"], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=400, check=False)
    text = run.stdout.decode(errors="replace")
    offered = dict(re.findall(r"^ (SSLv2|SSLv3|TLS 1|TLS 1\.1|TLS 1\.2|TLS 1\.3) +(.*)$", text, re.M))
    ok(offered and all(("not offered" in v) == (k not in ("TLS 1.2",)) for k, v in offered.items() if k != "TLS 1.3"), f"only TLS 1.2 is offered: {offered}")
    suites = set(re.findall(r"^ x[0-9a-f]+ +(\S+)", text, re.M))
    ok(0 < len(suites) <= 2, f"suites: {sorted(suites)}")
    ok("certificate-based authentication" in text.lower() or "client authentication" in text.lower() or "certificate based authentication" in text.lower(), "a client certificate is required")
    if not suites:
        note(text[-3000:])


def main():
    names = ",".join(f"n{i:02d}" for i in range(20))
    began = time.monotonic()
    with Sandbox(names) as box:
        took = time.monotonic() - began
        ok(took < 60, f"20 nodes mesh within 60 s: {took:.1f} s")
        states = [p["state"] for p in box.run("n07", "peers")]
        ok(len(states) == 20 and all(s in ("self", "up") for s in states), "each sees all others up")
    with Sandbox("alpha,beta") as box:
        port = int(box.run("alpha", "status")["listen"].rsplit(":", 1)[1])
        probe(port)
        testssl(port)
        probe(port)
        box.kill("beta")
        box.start()
        ok([p["state"] for p in box.run("alpha", "peers")].count("up") == 1, "after probes and scans a peer still connects")
    done()


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
