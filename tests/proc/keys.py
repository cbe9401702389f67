#!/usr/bin/env python3
"""Keys, backups and older homes, through the command and real daemons: slots and recovery shares, new keys while questions go on,
removal that leaves no wrapped key, a backup that comes back, and a restored node that serves only by the rules."""
import os
import shutil
import signal
import subprocess
import time

from harness import Refused, Sandbox, concordat, done, licence, note, ok, running

started = []  # kept, so that they are waited for

MANIFEST = """dataset: held
version: "1"
size: 1000
unit: patient
max_rows_per_unit: 2
columns:
  - {name: patient, type: text, deidentify: pseudonym}
  - {name: age, type: integer, min: 0, max: 110}
""" + licence(epsilon_total=50, per_query=5, per_job=20)


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o600)
    return path


def patient(i):
    return f"MRN-{i * 7919 % 1000003:07d}-pt"


def wrapped(home):
    """name -> the 60 bytes under which each key stands in the keyring (doc/format.md)."""
    with open(os.path.join(home, "keyring"), "rb") as file:
        data = file.read()
    at = 32 + 88 * int.from_bytes(data[6:8], "big")
    count = int.from_bytes(data[at:at + 4], "big")
    at += 4
    keys = {}
    for _ in range(count):
        length = data[at]
        name = data[at + 1:at + 1 + length].decode()
        at += 1 + length + 4
        keys[name] = data[at:at + 60]
        at += 60
    return keys


def places(home, needles):
    """Files of the home that hold any of the needles."""
    found = []
    for folder, _, names in os.walk(home):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    data = file.read()
                found += [path for needle in needles if needle in data]
    return found


def stop(box, name):
    """SIGTERM, and waits for the end."""
    pid = box.pid(name)
    if pid:
        os.kill(pid, signal.SIGTERM)
        for _ in range(300):
            for child in started:
                child.poll()
            if not running(pid):
                break
            time.sleep(0.1)


def start(box, name):
    """One daemon of its own; box.close ends it by its pid file."""
    home = box.home(name)
    os.makedirs(os.path.join(home, "log"), exist_ok=True)
    with open(os.path.join(home, "log", "concordatd.log"), "ab") as log:
        started.append(subprocess.Popen([os.path.join(os.environ.get("top_builddir", "."), "concordatd"), "--home", home],
                                        stdin=subprocess.DEVNULL, stdout=log, stderr=log))
    for _ in range(150):
        if state(box, name):
            return
        time.sleep(0.1)


def restart(box, name):
    stop(box, name)
    start(box, name)


def ask(box, name, *args):
    return box.run(name, "query", *args, "--purpose", "DUO:0000006")


def refused(box, name, *args):
    try:
        box.run(name, *args)
    except Refused as error:
        return error
    return None


def state(box, name):
    try:
        return box.run(name, "status")["state"]
    except Refused:
        return None


def wait_state(box, name, wanted, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if state(box, name) == wanted:
            return True
        time.sleep(0.3)
    return False


def slots(box):
    print("# slots")
    home = box.home("alpha")
    phrase = write(os.path.join(box.folder, "phrase"), "correct horse battery\n")
    first = box.run("alpha", "key", "list")["slots"]
    ok(len(first) == 1 and first[0]["kind"] == "keyfile" and first[0]["opened"], "a new home has one slot, the key file")
    box.run("alpha", "key", "add", "--unlock", "passphrase", "--passphrase-file", phrase)
    wrong = [box.refusal("alpha", "key", "add", "--recovery", shape)[0] for shape in ("+2/3", "2/ 3", "2/3x")]
    ok(wrong == [2, 2, 2], f"a number of shares with something beside it is refused: exit codes {wrong}")
    shares = box.run("alpha", "key", "add", "--recovery", "2/3")["shares"]
    ok(len(shares) == 3 and len(set(shares)) == 3, "three recovery shares are printed")
    ok(refused(box, "alpha", "key", "remove", "0").code == 4, "the slot that opened the daemon cannot be removed")
    ok(refused(box, "alpha", "key", "remove", "99").code == 3, "a slot that is not there: exit 3")
    ok(refused(box, "alpha", "key", "rotate").code == 4, "a new KEK asks before it drops the other slots")
    ok(refused(box, "alpha", "key", "rotate", "--identity").error["code"] == "UNSUPPORTED", "identity rotation is refused, not ignored")
    ok(refused(box, "alpha", "key", "rotate", "--passphrase", "--passphrase-file", phrase).code == 4,
       "the passphrase of a daemon without one cannot be rotated")
    text = " ".join(box.run("alpha", "audit", "list", "--kind", "key.add")[-1]["body"].values())
    ok(not any(share in text for share in shares), "the audit entry names no share")

    print("# the key file is lost")
    stop(box, "alpha")
    key = [os.path.join(home, name) for name in os.listdir(home) if name.endswith(".key") or name == "keyfile"][0]
    os.unlink(key)
    some = write(os.path.join(box.folder, "shares"), f"{shares[2]}\n")
    code, _, _ = concordat("--home", home, "key", "recover", "--shares", some)
    ok(code == 2, "one share of two is not enough")
    write(some, f"{shares[2].upper()}\n\n{shares[0]}\n")
    code, answer, text = concordat("--home", home, "key", "recover", "--shares", some)
    ok(code == 0 and os.path.exists(key), "two shares open the keyring and make a new key file")
    if code:
        note(text)
    start(box, "alpha")
    ok(wait_state(box, "alpha", "serving"), "the node serves again")
    old = wrapped(home)
    box.run("alpha", "key", "rotate", "--drop-slots")
    new = wrapped(home)
    ok(set(old) == set(new) and not any(old[name] == new[name] for name in old), "a new KEK wraps every key anew")
    ok(places(home, old.values()) == [], "no wrapped key of before is left in the home")
    ok(len(box.run("alpha", "key", "list")["slots"]) == 1, "the other slots are gone")
    restart(box, "alpha")
    ok(wait_state(box, "alpha", "serving"), "it starts under the new KEK")


def rotation(box):
    print("# new data keys")
    home = box.home("alpha")
    before = ask(box, "alpha", "SELECT COUNT(*) FROM held", "--epsilon", "1")
    old = wrapped(home)["dataset/held"]
    box.run("alpha", "key", "rotate", "--dek")
    box.kill("alpha")  # at some moment of it
    start(box, "alpha")
    ok(wait_state(box, "alpha", "serving"), "killed during the rotation, it serves again")
    end = time.monotonic() + 30
    while box.run("alpha", "key", "list")["rotating"] and time.monotonic() < end:
        time.sleep(0.2)
    ok(box.run("alpha", "key", "list")["rotating"] == [], "the rotation came to its end")
    ok(wrapped(home)["dataset/held"] != old and places(home, [old, old[12:44]]) == [], "the old key is nowhere in the home")
    again = ask(box, "alpha", "SELECT COUNT(*) FROM held", "--epsilon", "1")
    ok(again["replayed"] and again["rows"] == before["rows"], "the stored answer is still the answer")
    ok(ask(box, "alpha", "SELECT AVG(age) FROM held", "--epsilon", "1")["rows"], "new questions are answered")
    ok(box.run("alpha", "fsck")["ok"], "everything opens")


def backup(box):
    print("# backup and an older home")
    home = box.home("alpha")
    folder = os.path.join(box.folder, "backup")
    saved = os.path.join(box.folder, "saved")
    made = box.run("alpha", "backup", folder)
    ok(made["verified"] and made["files"] > 6, "a backup is made while the node serves")
    ok(refused(box, "alpha", "backup", folder).code == 2, "a second one does not overwrite it")
    key = [name for name in os.listdir(home) if name.endswith(".key") or name == "keyfile"][0]
    ok(not os.path.exists(os.path.join(folder, key)), "the key file is not in the backup")
    spent = ask(box, "alpha", "SELECT COUNT(age) FROM held", "--epsilon", "2", "--sites", "alpha")["cost"]["rho"]
    left = [b for b in box.run("alpha", "budget", "held")["budget"] if b["node"] == "alpha"][0]["rho_left"]
    time.sleep(2.5)  # a release and the heads that go with it reach the witness
    restart(box, "beta")
    restart(box, "alpha")
    ok(wait_state(box, "alpha", "serving") and wait_state(box, "beta", "serving"), "the others have seen the newest head")
    stop(box, "alpha")
    code, _, _ = concordat("--home", home, "restore", folder)
    ok(code == 2, "a home that holds a node is not overwritten")
    os.rename(home, saved)
    os.mkdir(home, 0o700)
    shutil.copy(os.path.join(saved, key), os.path.join(home, key))
    code, answer, text = concordat("--home", home, "restore", folder)
    ok(code == 0 and answer["files"] == made["files"], "the backup comes back")
    if code:
        note(text)
    start(box, "alpha")
    ok(not wait_state(box, "alpha", "serving", 5), "the restored node does not serve: a witness saw more")
    ok(refused(box, "beta", "query", "SELECT AVG(age) FROM held", "--epsilon", "1", "--sites", "alpha", "--purpose", "DUO:0000006") is not None, "it answers nobody")
    accepted = box.run("alpha", "restore", "accept")
    ok(abs(accepted["charged_rho"] - spent) < 1e-9, f"what was spent since the backup is charged ({accepted['charged_rho']})")
    ok(accepted["missing_entries"] > 0, "the missing entries are counted")
    ok(wait_state(box, "alpha", "serving"), "then it serves")
    now = [b for b in box.run("alpha", "budget", "held")["budget"] if b["node"] == "alpha"][0]["rho_left"]
    ok(abs(now - left) < 1e-9, "the budget is what it was before the loss")
    ok(box.run("alpha", "audit", "verify")["ok"], "the audit chain verifies")
    ok(refused(box, "alpha", "restore", "accept").code == 4, "there is nothing more to decide")
    restart(box, "alpha")
    ok(wait_state(box, "alpha", "serving"), "it goes on after a restart")


def bring_back(box, name, folder):
    """Stops NAME, restores FOLDER in the place of its home, and starts it."""
    home = box.home(name)
    key = [entry for entry in os.listdir(home) if entry.endswith(".key") or entry == "keyfile"][0]
    stop(box, name)
    shutil.move(home, os.path.join(box.folder, f"moved-{time.monotonic_ns()}"))
    os.mkdir(home, 0o700)
    shutil.copy(os.path.join(box.folder, sorted(e for e in os.listdir(box.folder) if e.startswith("moved-"))[-1], key), os.path.join(home, key))
    code, _, text = concordat("--home", home, "restore", folder)
    if code:
        note(text)
    start(box, name)
    return code == 0


def newest(box):
    print("# a backup that misses nothing")
    folder = os.path.join(box.folder, "newest")
    box.run("alpha", "backup", folder)
    ok(bring_back(box, "alpha", folder), "the backup comes back")
    ok(wait_state(box, "alpha", "serving"), "its witnesses saw nothing newer: it serves without a decision")
    ok(not os.path.exists(os.path.join(box.home("alpha"), "restored")), "and the mark is gone")
    ok(box.run("alpha", "audit", "list", "--kind", "restore.confirmed"), "which the audit chain tells")
    ok(refused(box, "alpha", "restore", "accept").code == 4, "there is nothing to decide")
    with open(os.path.join(folder, "keyring"), "r+b") as file:
        file.seek(20)
        file.write(b"\xff")
    code, _, _ = concordat("--home", os.path.join(box.folder, "nowhere"), "restore", folder, "--unlock",
                           "keyfile:" + os.path.join(box.home("alpha"), "unlock.key"))
    ok(code == 8 and not os.path.exists(os.path.join(box.folder, "nowhere", "node.yaml")), "a changed backup is refused, exit 8")


def alone():
    print("# a node without others")
    with Sandbox("alpha") as box:
        folder = os.path.join(box.folder, "backup")
        box.run("alpha", "backup", folder)
        ok(bring_back(box, "alpha", folder), "its backup comes back")
        ok(not wait_state(box, "alpha", "serving", 4), "it does not serve: nobody can tell what it spent since")
        ok(refused(box, "alpha", "restore", "accept").code == 6, "nor does it on a decision that does not say so")
        ok(box.run("alpha", "restore", "accept", "--unwitnessed")["accepted"], "an operator may say that nobody could be asked")
        ok(wait_state(box, "alpha", "serving"), "then it serves")


def passphrase():
    print("# a node under a passphrase")
    os.environ["CONCORDAT_PASSPHRASE"] = "the first passphrase"
    try:
        with Sandbox("alpha", create=("--passphrase",)) as box:
            home = box.home("alpha")
            new = write(os.path.join(box.folder, "phrase"), "the second passphrase\nand a line that does not count\n")
            ok(refused(box, "alpha", "key", "rotate", "--passphrase").code == 2, "without the file that holds the new one: exit 2")
            box.run("alpha", "key", "rotate", "--passphrase", "--passphrase-file", new)
            ok(refused(box, "alpha", "key", "rotate").code == 2, "a new KEK needs the present passphrase")
            old = write(os.path.join(box.folder, "old"), "the first passphrase\n")
            ok(refused(box, "alpha", "key", "rotate", "--passphrase-file", old).code == 8, "the old passphrase opens nothing any more")
            before = wrapped(home)
            box.run("alpha", "key", "rotate", "--passphrase-file", new)
            after = wrapped(home)
            ok(set(before) == set(after) and not any(before[name] == after[name] for name in before), "the present one makes a new KEK")
            stop(box, "alpha")
            daemon = subprocess.run([os.path.join(os.environ.get("top_builddir", "."), "concordatd"), "--home", home], stderr=subprocess.PIPE,
                                    timeout=60, check=False)
            ok(daemon.returncode == 8 and b"opens no slot" in daemon.stderr, "under the old passphrase the daemon does not start, exit 8")
            os.environ["CONCORDAT_PASSPHRASE"] = "the second passphrase"
            start(box, "alpha")
            ok(wait_state(box, "alpha", "serving"), "under the new one it serves")
            with open(f"/proc/{box.pid('alpha')}/environ", "rb") as file:
                ok(b"second passphrase" not in file.read(), "and its environment no longer tells it")
    finally:
        del os.environ["CONCORDAT_PASSPHRASE"]


def shredding(box):
    print("# removal")
    home = box.home("alpha")
    key = wrapped(home)["dataset/held"]
    ok(len(places(home, [key])) == 1, "the key stands in the keyring and nowhere else")
    old = os.path.join(box.folder, "keyring.old")
    shutil.copy(os.path.join(home, "keyring"), old)
    box.run("alpha", "dataset", "remove", "held", "--shred")
    ok(places(home, [key, key[:12], key[12:44], key[44:]]) == [], "after the removal no byte of it is in the home")
    ok(places(home, [patient(i).encode() for i in range(1000)]) == [], "nor is any of 1,000 patients' identifiers")
    stop(box, "alpha")
    fresh = os.path.join(box.folder, "keyring.new")
    shutil.copy(os.path.join(home, "keyring"), fresh)
    shutil.copy(old, os.path.join(home, "keyring"))
    daemon = subprocess.run([os.path.join(os.environ.get("top_builddir", "."), "concordatd"), "--home", home], stderr=subprocess.PIPE,
                            timeout=60, check=False)
    ok(daemon.returncode == 8 and b"keyring is older" in daemon.stderr, "the old keyring put back: refused, exit 8")
    shutil.copy(fresh, os.path.join(home, "keyring"))


def main():
    with Sandbox("alpha,beta") as box:
        folder = box.folder
        rows = "patient,age\n" + "".join(f"{patient(i)},{i % 90}\n" for i in range(3000))
        data = write(os.path.join(folder, "rows.csv"), rows)
        manifest = write(os.path.join(folder, "held.yaml"), MANIFEST)
        box.run("alpha", "dataset", "import", manifest, "--data", data)
        people = [patient(i).encode() for i in range(1000)]
        ok(places(box.home("alpha"), people) == [], "none of 1,000 patients' identifiers is in the home")
        slots(box)
        rotation(box)
        backup(box)
        newest(box)
        shredding(box)
    alone()
    passphrase()
    done()


main()
