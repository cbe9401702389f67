#!/usr/bin/env python3
"""What the council decides with k of n signatures: its own seats, an expulsion, a new member; who may not, what does not suffice, and that
restarts and nodes that were away end with the same council."""
import os
import subprocess

from harness import TOP, Sandbox, concordat, done, ok

NAMES = "alpha,beta,gamma,delta"


def council(box, at):
    view = box.run(at, "federation", "council")
    return view["epoch"], view["threshold"], sorted(seat["node"] for seat in view["council"])


def proposals(box, at):
    return box.run(at, "federation", "council")["proposals"]


def known(box, at, what):
    """The proposal's record once AT has heard of it."""
    found = []

    def heard():
        found[:] = [p for p in proposals(box, at) if what in p["what"]]
        return bool(found)
    box.wait(f"the proposal at {at}", heard)
    return found[0]


def everywhere(box, wanted, names):
    return box.wait(f"{wanted} at all", lambda: all(council(box, at) == wanted for at in names), 20) is not None


def growing(box):
    ok(everywhere(box, (0, 1, ["alpha"]), box.names), "one seat at first, at every node")
    code, _ = box.refusal("beta", "federation", "council", "add", "beta")
    ok(code == 4, f"who has no seat changes nothing: exit {code}")
    answer = box.run("alpha", "federation", "council", "add", "beta")
    ok(answer["state"] == "endorsing", "a new seat has to sign itself: the new council asks for 2 of 2")
    seen = known(box, "beta", "council of alpha beta")
    ok(seen["by"] == ["alpha"] and not seen["ours"] and seen["record"] == answer["record"], f"the proposal is seen elsewhere: {seen['what']}")
    code, _ = box.refusal("delta", "endorse", seen["record"])
    ok(code == 4, f"a member without a seat cannot endorse: exit {code}")
    code, _ = box.refusal("beta", "endorse", "00000000")
    ok(code != 0, f"nor can what was not proposed be endorsed: exit {code}")
    code, answer, _ = box.try_run("alpha", "federation", "council", "add", "gamma")
    ok(code != 0 and answer["error"]["code"] == "EXISTS", f"nobody signs two councils of one epoch: exit {code}")
    ok(box.run("beta", "endorse", seen["record"][:8])["state"] == "in force", "with its signature the change is in force")
    ok(everywhere(box, (1, 2, ["alpha", "beta"]), box.names), "at every node")
    ok(all(not proposals(box, at) for at in box.names), "and nothing is open any more")


def third_seat(box):
    box.kill("delta")
    answer = box.run("beta", "federation", "council", "add", "gamma")
    ok(answer["state"] == "endorsing" and answer["endorsed"] == 1 and answer["threshold"] == 2, "a third seat: one of two has signed")
    box.run("alpha", "endorse", known(box, "alpha", "gamma")["record"])
    ok(everywhere(box, (2, 2, ["alpha", "beta", "gamma"]), ("alpha", "beta", "gamma")), "both have: three seats, two sign")
    box.start()
    ok(everywhere(box, (2, 2, ["alpha", "beta", "gamma"]), box.names), "a node that was away follows")


def state(box, at, node):
    return {row["node"]: row["state"] for row in box.run(at, "peers")}.get(node)


def enrolling(box):
    """A new member, while two have to sign."""
    token = box.run("alpha", "federation", "invite", "--node", "omega", "--org", "clinic-omega", "--org-type", "nonprofit", "--country", "DE")["token"]
    home = os.path.join(box.folder, "omega")
    code, answer, text = concordat("--home", home, "init", "--name", "omega", "--org", "clinic-omega", "--prepare")
    ok(code == 0, f"a new node makes its keys {text if code else ''}")
    with open(os.path.join(box.folder, "join.out"), "wb") as out:
        joining = subprocess.Popen([os.path.join(TOP, "concordat"), "--json", "--home", home, "init", "--name", "omega", "--token-file",  # pylint: disable=consider-using-with
                                    box.write("token", token), "--listen", "none"], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL)
    daemon = None
    try:
        admitted = box.wait("the newcomer", lambda: box.try_run("alpha", "federation", "admit", "omega", "--key", answer["fingerprint"])[0] == 0)
        seen = known(box, "gamma", "admit omega of clinic-omega")
        ok(admitted is not None and joining.poll() is None and answer["fingerprint"] in seen["what"], f"the inviter alone does not suffice: {seen['what'][:60]}")
        ok(state(box, "beta", "omega") is None, "nobody knows the newcomer as a member yet")
        box.run("gamma", "endorse", seen["record"])
        ok(box.wait("the join", lambda: joining.poll() is not None, 30) is not None and joining.poll() == 0, "with the second signature it joins")
        with open(os.path.join(box.folder, "omega.log"), "wb") as log:
            daemon = subprocess.Popen([os.path.join(TOP, "concordatd"), "--home", home, "--foreground"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # pylint: disable=consider-using-with
        ok(box.wait("omega up", lambda: state(box, "beta", "omega") == "up", 30) is not None, "and is up at the others")
        code, view, _ = concordat("--home", home, "federation", "council")
        ok(code == 0 and view["epoch"] == 2 and len(view["council"]) == 3, "it knows the council of the day")
    finally:
        for process in (joining, daemon):
            if process:
                process.kill()
                process.wait()


def expelling(box):
    answer = box.run("gamma", "revoke", "delta", "--reason", "left")
    ok(answer["state"] == "endorsing" and (answer["endorsed"], answer["threshold"]) == (1, 2), "an expulsion waits for its second signature")
    seen = known(box, "alpha", "expel delta: left")
    ok(state(box, "alpha", "delta") == "up" and state(box, "beta", "delta") == "up", "until then nothing happens")
    code, answer, _ = box.try_run("delta", "endorse", seen["record"])
    ok(code == 4, f"the expelled cannot sign: exit {code}")
    ok(box.run("alpha", "endorse", seen["record"])["state"] == "in force", "the second signature")
    ok(box.wait("the expulsion", lambda: all(state(box, at, "delta") == "revoked" for at in ("alpha", "beta", "gamma"))) is not None, "expels it at every node")


def shrinking(box):
    answer = box.run("beta", "federation", "council", "remove", "gamma")
    ok(answer["state"] == "endorsing", "a seat is taken by the others")
    box.run("alpha", "endorse", known(box, "alpha", "council of alpha beta")["record"])
    rest = ("alpha", "beta", "gamma")
    ok(everywhere(box, (3, 2, ["alpha", "beta"]), rest), "it is gone")
    code, _ = box.refusal("gamma", "revoke", "beta", "--reason", "spite")
    ok(code == 4, f"and signs nothing any more: exit {code}")
    for at in rest:
        box.kill(at)
    again = [subprocess.Popen([os.path.join(TOP, "concordatd"), "--home", box.home(at)], stdin=subprocess.DEVNULL,  # pylint: disable=consider-using-with
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for at in rest]
    try:
        box.wait("the daemons", lambda: all(box.try_run(at, "status")[0] == 0 for at in rest), 30)
        ok(everywhere(box, (3, 2, ["alpha", "beta"]), rest) and state(box, "alpha", "delta") == "revoked"
           and box.wait("up", lambda: state(box, "alpha", "gamma") == "up", 30) is not None, "after a restart all is the same")
    finally:
        for process in again:
            process.kill()
            process.wait()


def main():
    with Sandbox(NAMES) as box:
        growing(box)
        third_seat(box)
        enrolling(box)
        expelling(box)
        shrinking(box)
    done()


main()
