#!/usr/bin/env python3
"""Homes made one by one, as institutions make them: found, invite, join, admit, dial out only, renew a start, expel; and what a token
that is used twice, altered, too old, for another key or for another name gets."""
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

from harness import TOP, concordat, done, note, ok, rng, skip, terminal


FINGERPRINT = re.compile(r"\b[0-9a-f]{64}\b")


class Nodes:
    """Homes in one folder; every daemon is ended by its own pid."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="concordat-enrol.")
        self.daemons = {}

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for name in list(self.daemons):
            if kind:
                with open(self.path(name + ".log"), encoding="utf-8", errors="replace") as file:
                    note(f"log of {name}:\n" + "".join(file.readlines()[-10:]))
            self.end(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def run(self, name, *args, timeout=60):
        return concordat("--home", self.path(name), *args, timeout=timeout)

    def start(self, name):
        with open(self.path(name + ".log"), "ab") as log:
            self.daemons[name] = subprocess.Popen([os.path.join(TOP, "concordatd"), "--home", self.path(name), "--foreground"],
                                                  stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return wait(lambda: self.run(name, "status")[0] == 0)

    def end(self, name):
        daemon = self.daemons.pop(name)
        daemon.send_signal(signal.SIGTERM)
        try:
            return daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            return daemon.wait(5)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def states(self, name):
        code, answer, _ = self.run(name, "peers")
        return {row["node"]: row["state"] for row in rows(answer)} if code == 0 else {}


def rows(answer):
    return answer if isinstance(answer, list) else (answer or {}).get("peers", [])


def wait(condition, seconds=20):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.1)
    return False


def free_port():
    """A port with a free one behind it, for enrolment; below those that the system gives out."""
    for _ in range(200):
        port = 20000 + 2 * rng.randrange(6000)
        try:
            with socket.socket() as one, socket.socket() as two:
                one.bind(("127.0.0.1", port))
                two.bind(("127.0.0.1", port + 1))
                return port
        except OSError:
            continue
    raise RuntimeError("no two free ports")


def code_of(answer):
    return (answer or {}).get("error", {}).get("code", "")


def init(nodes, home, *args, timeout=60):
    return nodes.run(home, "init", *args, timeout=timeout)


def invite(nodes, name, *more):
    code, answer, text = nodes.run("alpha", "federation", "invite", "--node", name, "--org", "clinic-" + name, *more)
    if code:
        note(text)
    return answer["token"] if code == 0 else ""


def join(nodes, home, token, listen, *more, timeout=60):
    return init(nodes, home, "--token-file", nodes.write(home + ".token", token), "--listen", listen, *more, timeout=timeout)


def found(nodes):
    port = nodes.port = free_port()
    common = ["--name", "alpha", "--org", "clinic-alpha", "--org-type", "nonprofit", "--country", "DE"]
    code, answer, text = init(nodes, "alpha", *common, "--found", "alpine", "--listen", f"tls+tcp://127.0.0.1:{port}")
    ok(code == 0 and answer["state"] == "founded", f"a federation is founded: exit {code} {'' if code == 0 else text[-200:]}")
    code, answer, _ = init(nodes, "alpha", *common, "--found", "alpine", "--listen", f"tls+tcp://127.0.0.1:{port}")
    ok(code != 0 and code_of(answer) == "EXISTS", f"a second init over a home is refused: {code_of(answer)}")
    ok(nodes.start("alpha"), "its daemon answers")


def bound_to_a_key(nodes):
    """prepare here, invite there with the fingerprint, join: no person in between."""
    code, answer, text = init(nodes, "beta", "--name", "beta", "--org", "clinic-beta", "--prepare")
    ok(code == 0 and answer["state"] == "prepared", f"keys are prepared: exit {code} {'' if code == 0 else text[-200:]}")
    token = invite(nodes, "beta", "--key", answer["fingerprint"])
    ok(len(token) > 60, "an invitation that names the key")
    code, answer, _ = join(nodes, "thief", token, "none", "--name", "beta")
    ok(code == 4 and code_of(answer) == "REFUSED", f"another key with that token: exit {code} {code_of(answer)}")
    code, answer, text = join(nodes, "beta", token, f"tls+tcp://127.0.0.1:{free_port()}", "--name", "beta")
    ok(code == 0 and answer["state"] == "member", f"the invited key joins at once: exit {code} {'' if code == 0 else text[-200:]}")
    ok(nodes.start("beta") and wait(lambda: nodes.states("beta").get("alpha") == "up" and nodes.states("alpha").get("beta") == "up"),
       "both see each other up")


def admitted_by_a_person(nodes):
    """The join waits; admitting another fingerprint changes nothing; the right one ends the wait. This site only dials out."""
    token = invite(nodes, "gamma")
    with open(nodes.path("join.out"), "wb") as out, open(nodes.path("join.err"), "wb") as err:
        joining = subprocess.Popen([os.path.join(TOP, "concordat"), "--json", "--home", nodes.path("gamma"), "init", "--name", "gamma", "--token-file",
                                    nodes.write("gamma.token", token), "--listen", "none"], stdin=subprocess.DEVNULL, stdout=out, stderr=err)
    try:
        ok(wait(lambda: FINGERPRINT.search(read(nodes.path("join.err")))), "the new node shows its fingerprint and waits")
        fingerprint = FINGERPRINT.search(read(nodes.path("join.err")) + " " + "0" * 64).group()
        ok("up to 24 hours" in read(nodes.path("join.err")) and f"federation admit gamma --key {fingerprint}" in read(nodes.path("join.err")),
           "and says how long, and the very command that ends the wait")
        ok(wait(lambda: fingerprint in audit(nodes)), "the inviter's audit log has the same one")
        code, answer, _ = nodes.run("alpha", "federation", "admit", "gamma", "--key", "0" * 64)
        time.sleep(1)
        ok(joining.poll() is None and code == 8 and code_of(answer) == "AUTH", f"another fingerprint admits nobody: exit {code} {code_of(answer)}")
        code, _, text = nodes.run("alpha", "federation", "admit", "gamma", "--key", fingerprint)
        ok(code == 0, f"the right fingerprint admits: exit {code} {'' if code == 0 else text[-200:]}")
        ok(wait(lambda: joining.poll() == 0) and '"member"' in read(nodes.path("join.out")), f"the waiting join ends: {joining.poll()}")
    finally:
        joining.kill()
        joining.wait()
    ok(nodes.start("gamma") and wait(lambda: nodes.states("gamma").get("beta") == "up" and nodes.states("beta").get("gamma") == "up", 30),
       "a site that only dials out is up in both directions")
    code, answer, _ = join(nodes, "twice", token, "none", "--name", "gamma")
    ok(code == 4 and code_of(answer) == "REFUSED", f"the same token with a new key: exit {code} {code_of(answer)}")
    ok(wait(lambda: "used with two keys" in audit(nodes) or "not outstanding" in audit(nodes)), "and the inviter is alarmed")


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def audit(nodes):
    return nodes.run("alpha", "audit", "list")[2]


def flooded(nodes):
    """Who holds connections open to the enrolment port keeps nobody out: the oldest gives way."""
    token = invite(nodes, "crowd")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    held = []
    try:
        for _ in range(40):
            raw = socket.create_connection(("127.0.0.1", nodes.port + 1), timeout=10)
            held.append(raw)
            held[-1] = context.wrap_socket(raw)
            held[-1].sendall(b"\0SP\0\0\x30\0\0")
            held[-1].recv(8)
        ok(wait(lambda: is_closed(held[0])), "of 40 connections to the enrolment port the first is closed")
        ok(not is_closed(held[-1]), "and the last stands")
        code, answer, _ = join(nodes, "crowd", token, "none", "--name", "omega")
        ok(code == 7 and code_of(answer) == "INVALID", f"a token for another name, meanwhile: exit {code} {code_of(answer)}")
        code, answer, text = init(nodes, "crowd", "--name", "crowd", "--org", "clinic-crowd", "--prepare")
        token = invite(nodes, "crowd", "--key", answer["fingerprint"]) if code == 0 else ""
        code, answer, text = join(nodes, "crowd", token, "none", "--name", "crowd")
        ok(code == 0 and answer["state"] == "member", f"and a member joins meanwhile: exit {code} {'' if code == 0 else text[-200:]}")
    finally:
        for one in held:
            one.close()


def is_closed(connection):
    connection.settimeout(0.2)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def bad_tokens(nodes):
    token = invite(nodes, "delta")
    at = len(token) // 2
    altered = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1:]
    for what, text, name in [("altered", altered, "delta"), ("half of it", token[:at], "delta"),
                                    ("nothing", "", "delta"), ("for another name", token, "omega")]:
        home = "bad-" + what.replace(" ", "-")
        code, answer, err = join(nodes, home, text, "none", "--name", name)
        ok(code == 7 and code_of(answer) == "INVALID", f"a token {what}: exit {code} {code_of(answer)}")
        ok("Traceback" not in err and not os.path.exists(os.path.join(nodes.path(home), "identity", "charter")), "and no member's home is left")
    short = invite(nodes, "delta", "--valid", "1s")
    time.sleep(2)
    code, answer, _ = join(nodes, "late", short, "none", "--name", "delta")
    ok(code == 4 and code_of(answer) == "REFUSED", f"a token that is too old: exit {code} {code_of(answer)}")


def comes_back_and_goes(nodes):
    ok(nodes.end("beta") == 0, "a member's daemon drains on SIGTERM")
    ok(wait(lambda: nodes.states("alpha").get("beta") in ("down", "connecting")), "the others see it go")
    ok(nodes.start("beta") and wait(lambda: nodes.states("alpha").get("beta") == "up", 30), "and come back under the same identity")
    code, _, text = nodes.run("beta", "revoke", "gamma", "--reason", "not mine to say")
    ok(code == 4 and "no seat" in text, f"who has no seat in the council expels nobody: exit {code}")
    code, _, text = nodes.run("alpha", "revoke", "gamma", "--reason", "left the federation")
    ok(code == 0, f"the council expels a member: exit {code} {'' if code == 0 else text[-200:]}")
    ok(wait(lambda: nodes.states("alpha").get("gamma") == "revoked" and nodes.states("beta").get("gamma") == "revoked"),
       "every other member knows")
    ok(wait(lambda: nodes.states("gamma").get("beta") != "up"), "and its links are gone")
    time.sleep(2)
    ok(nodes.states("beta").get("gamma") == "revoked" and nodes.states("gamma").get("beta") != "up", "and stay away")


def unreachable(nodes):
    """An inviter that is away is waited for, and without any terminal the new node says so at once. On one, a token is asked for."""
    token = invite(nodes, "delta")
    nodes.end("alpha")
    command = [os.path.join(TOP, "concordat"), "--home", nodes.path("delta"), "init", "--token-file"]
    with open(nodes.path("away.err"), "wb") as err:
        joining = subprocess.Popen([*command, nodes.write("delta.token", token), "--listen", "none"], stdin=subprocess.DEVNULL, stdout=err, stderr=err)
    try:
        ok(wait(lambda: "does not answer; trying again" in read(nodes.path("away.err"))), f"an inviter that is away is named: {read(nodes.path('away.err'))[:60]}")
        ok(joining.poll() is None and read(nodes.path("away.err")).count("does not answer") == 1, "once, and it goes on trying")
    finally:
        joining.kill()
        joining.wait()
    ends = terminal()
    if not ends:
        return skip("a token from a terminal is asked for", "no pseudo-terminals")
    asking = subprocess.Popen([*command, "-", "--listen", "none"], stdin=ends[1], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        ok(b"paste the invitation's token" in asking.stderr.readline(), "a token from a terminal is asked for")
        os.write(ends[0], b"no token\n\x04")
        ok(asking.wait(20) == 7, "what is typed is read")
    finally:
        asking.kill()
        asking.wait()


def main():
    with Nodes() as nodes:
        found(nodes)
        bound_to_a_key(nodes)
        admitted_by_a_person(nodes)
        flooded(nodes)
        bad_tokens(nodes)
        comes_back_and_goes(nodes)
        unreachable(nodes)
    done()


main()
