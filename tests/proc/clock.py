#!/usr/bin/env python3
"""A clock that is set back brings nothing back: a daemon under faketime, one hour behind, does not answer on an expired licence,
says CLOCK (exit 9) to whoever asks, and goes on when the clock is right again."""
import datetime
import glob
import os
import signal
import subprocess
import time

from harness import TOP, Sandbox, done, note, ok, running

LIBRARIES = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1") + glob.glob("/usr/lib/faketime/libfaketimeMT.so.1")
if not LIBRARIES:
    print("1..0 # SKIP needs Debian's faketime (libfaketime)")
    raise SystemExit(0)

MANIFEST = """dataset: {name}
version: "1"
size: 400
columns:
  - {{name: age, type: integer, min: 0, max: 110}}
licence:
  spdx: CC-BY-4.0
  expires: {expires}
  grants:
    - permission: "DUO:0000042"
      actions: [count, mean]
      min_cohort: 2
      privacy: {{epsilon_total: 50, epsilon_per_query: 1, delta: 1e-6}}
"""
ROWS = "age\n" + "".join(f"{i % 90}\n" for i in range(400))


def faked(offset):
    return dict(os.environ, LD_PRELOAD=LIBRARIES[0], FAKETIME=offset)


def ask(box, at, dataset):
    code, answer, text = box.try_run(at, "query", f"SELECT COUNT(*) FROM {dataset}", "--purpose", "DUO:0000042", "--epsilon", "0.1", "--timeout", "5s")
    error = (answer or {}).get("error", {})
    sites = (answer or {}).get("sites") or error.get("sites") or []
    return code, error.get("code"), [(site["status"], site.get("reason")) for site in sites]


def restart(box, name, offset=None):
    """Ends NAME's daemon in order and starts it again, its clock off by OFFSET."""
    pid = box.pid(name)
    if pid:
        os.kill(pid, signal.SIGTERM)
        box.wait("the end", lambda: not running(pid))
    with open(os.path.join(box.folder, "faked.log"), "ab") as log:
        child = subprocess.Popen([os.path.join(TOP, "concordatd"), "--home", box.home(name)], stderr=log,  # pylint: disable=consider-using-with
                                 stdin=subprocess.DEVNULL, env=faked(offset) if offset else os.environ)
    for _ in range(200):
        code, status, _ = box.try_run(name, "status")
        if code == 0 and status["state"] == "serving" and all(peer["state"] in ("self", "up") for peer in status["peers"]):
            break
        time.sleep(0.1)
    return child


def stop(child):
    child.send_signal(signal.SIGTERM)
    child.wait(30)


def create(names):
    """A sandbox whose certificates began two days ago, as those of a real node did long before its clock went wrong."""
    before = dict(os.environ)
    os.environ.update(faked("-2d"))
    try:
        return Sandbox(names, start=False)
    finally:
        for key in set(os.environ) - set(before):
            del os.environ[key]


def soon(seconds):
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def check(names, others):
    with create(names) as box:
        box.start()
        rows = box.write("rows.csv", ROWS)
        began = time.monotonic()
        box.run("alpha", "dataset", "import", box.write("short.yaml", MANIFEST.format(name="short", expires=soon(8))), "--data", rows)
        box.run("alpha", "dataset", "import", box.write("long.yaml", MANIFEST.format(name="long", expires="2031-12-31")), "--data", rows)
        box.wait("catalogue", lambda: len(box.run("beta", "catalog")["datasets"]) == 2)
        ok(ask(box, "beta", "short")[0] == 0, f"{others} others: a licence in force is answered")
        time.sleep(max(0, began + 9.5 - time.monotonic()))
        code, error, at = ask(box, "beta", "short")
        ok(code == 4 and at == [("refused", "EXPIRED")], f"and not after its end: exit {code}, {at}")
        for offset in ("-1h", "-100s", "+1h"):
            child = restart(box, "alpha", offset)
            try:
                code, error, at = ask(box, "beta", "short")
                ok(code != 0 and all(status != "answered" for status, _ in at), f"clock {offset}: the expired licence gets no answer: exit {code}, {at}")
                far = offset == "-1h" or (offset == "+1h" and others >= 2)
                if far:
                    box.wait("word of the others' clocks", lambda: ask(box, "beta", "long")[0] == 9)
                    code, error, at = ask(box, "beta", "long")
                    ok(code == 9 and at == [("refused", "CLOCK")], f"clock {offset}: nor does anything else: exit {code}, {at}")
                    code, error, _ = ask(box, "alpha", "long")
                    ok(code == 9 and error == "CLOCK", f"clock {offset}: and the node asks nothing: exit {code}, {error}")
                    code, error = box.refusal("alpha", "dataset", "update", os.path.join(box.folder, "long.yaml"))
                    ok(code == 9 and error["code"] == "CLOCK" and "set it right" in error["detail"], f"clock {offset}: it signs nothing, and says why: {error['detail']}")
                    doctor = {line["check"]: line for line in box.try_run("alpha", "doctor")[1]["checks"]}
                    ok(doctor["clock"]["result"] == "fail", f"clock {offset}: doctor fails: {doctor['clock']['text']}")
                    if others >= 2:
                        code, error = box.refusal("alpha", "clock", "accept")
                        ok(code == 9, f"clock {offset}: nor can an operator declare it right against its peers: exit {code}")
                elif offset == "-100s":
                    code, error, at = ask(box, "beta", "long")
                    ok(code == 0, f"clock {offset}: within five minutes work goes on: exit {code} {at}")
            finally:
                stop(child)
        box.start()
        code, error, at = ask(box, "beta", "long")
        # Alone with one peer, a clock that ran an hour ahead was believed, and what it decided then stands in the chain.
        if others < 2 and code == 9:
            ok(at == [("refused", "CLOCK")], "one peer: after an hour ahead the right clock is behind what was kept")
            box.run("alpha", "clock", "accept")
            code, error, at = ask(box, "beta", "long")
        ok(code == 0, f"with the right clock it answers again: exit {code} {at}")
        ok(box.try_run("alpha", "audit", "verify")[0] == 0, "the audit chain is whole")


def main():
    check("alpha,beta,gamma", 2)
    check("alpha,beta", 1)
    note(f"faketime: {LIBRARIES[0]}")
    done()


main()
