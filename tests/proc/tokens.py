#!/usr/bin/env python3
"""A node whose keyring is opened by a key in a hardware token, here SoftHSM with a token of the test's own: made in the token, added
beside the key file, the only way in, with the token away, the wrong PIN, and a new key-encryption key."""
import json
import os
import select
import shutil
import subprocess
import sys
import time

from harness import TOP, Refused, Sandbox, concordat, done, note, ok, skip, skip_all, terminal

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "mole-271828"


def daemon(home):
    """A daemon that should end at once: its code and what it said."""
    ran = subprocess.run([os.path.join(TOP, "concordatd"), "--home", home], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60, check=False)
    return ran.returncode, ran.stderr.decode(errors="replace")


def secret(box, name, text):
    path = box.write(name, text)
    os.chmod(path, 0o600)
    return path


def set_unlock(home, how):
    path = os.path.join(home, "node.yaml")
    with open(path, encoding="utf-8") as file:
        lines = [f'unlock: "{how}"\n' if line.startswith("unlock:") else line for line in file]
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(lines)


def member(box):
    """A node of a federation goes from its key file to the token."""
    home = box.home("alpha")
    pin = secret(box, "pin", PIN + "\n")
    uri = f"pkcs11:token=ward%2012;object=concordat-kek?module-path={MODULE}&pin-source=file:{pin}"
    code, error = box.refusal("alpha", "key", "add", "--unlock", f"pkcs11:token=ward%2012;object=k?module-path={MODULE}&pin-value={PIN}")
    ok(code == 7 and "pin-source" in error["detail"] and PIN not in error["detail"], "a PIN among the arguments is refused, and not repeated")
    code, error = box.refusal("alpha", "key", "add", "--unlock", uri.replace("ward", "wart"))
    ok(code == 3 and "no token with the label wart 12" in error["detail"], f"a token that is not there: exit {code}")
    code, error = box.refusal("alpha", "key", "add", "--unlock", uri.split("&")[0])
    ok(code == 8 and "PIN is missing" in error["detail"], f"without a PIN: exit {code}")
    added = box.run("alpha", "key", "add", "--unlock", uri)
    slot = [row for row in added["slots"] if row["slot"] == added["slot"]][0]
    ok((slot["kind"], slot["token"], slot["key"]) == ("pkcs11", "ward 12", "concordat-kek"), "a slot is added; its key was made in the token")
    entry = box.run("alpha", "audit", "list", "--kind", "key.add")[-1]["body"]
    ok(PIN not in str(entry), "the audit entry tells no PIN")

    concordat("sandbox", "stop", box.dir)
    set_unlock(home, uri)
    os.unlink(os.path.join(home, "unlock.key"))
    box.start()
    opened = [row["kind"] for row in box.run("alpha", "key", "list")["slots"] if row["opened"]]
    ok(opened == ["pkcs11"], "without its key file the node starts by the token")
    box.run("alpha", "key", "rotate", "--drop-slots")
    ok([row["kind"] for row in box.run("alpha", "key", "list")["slots"]] == ["pkcs11"], "a new key-encryption key, and the token is the only way in")
    keys = [line for line in box.run("alpha", "doctor")["checks"] if line["check"] == "keys"]
    ok(keys and keys[0]["result"] == "ok", "doctor opens it, too")
    ok(box.run("alpha", "fsck")["ok"], "everything opens")

    concordat("sandbox", "stop", box.dir)
    secret(box, "pin", "1111\n")
    code, text = daemon(home)
    ok(code == 8 and "the PIN is wrong" in text and "1111" not in text, f"under a wrong PIN the daemon does not start: exit {code}")
    tokens = os.path.join(box.folder, "tokens")
    os.rename(tokens, tokens + ".away")
    os.mkdir(tokens)
    secret(box, "pin", PIN + "\n")
    code, text = daemon(home)
    ok(code == 3 and "is it plugged in?" in text, f"nor with the token away: exit {code}")
    os.rmdir(tokens)
    os.rename(tokens + ".away", tokens)
    set_unlock(home, uri.split("&")[0])
    os.environ["CONCORDAT_PASSPHRASE"] = PIN
    try:
        box.start()
    finally:
        del os.environ["CONCORDAT_PASSPHRASE"]
    with open(f"/proc/{box.pid('alpha')}/environ", "rb") as file:
        ok(f"CONCORDAT_PASSPHRASE={PIN}".encode() not in file.read(), "with the PIN in its environment it starts, and wipes it there")
    ok(PIN not in box.log("alpha"), "the PIN is in no log")


def prompt(box):
    """Without a PIN in node.yaml or the environment it is asked for, without echo."""
    pair = terminal()
    if not pair:
        skip("a prompt for the PIN", "this machine gives no pseudo-terminal")
        return
    master, slave = pair
    ran = subprocess.Popen([os.path.join(TOP, "concordat"), "--json", "--home", box.home("alpha"), "doctor"], stdin=slave, stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    drawn = b""
    end = time.monotonic() + 30
    while not drawn.endswith(b"token: ") and time.monotonic() < end:
        if select.select([master], [], [], 0.2)[0]:
            drawn += os.read(master, 4096)
    os.write(master, PIN.encode() + b"\n")
    answer = json.loads(ran.stdout.read())
    while ran.wait(30) is not None and select.select([master], [], [], 0.2)[0]:
        try:
            drawn += os.read(master, 4096)
        except OSError:
            break
    os.close(master)
    ran.stdout.close()
    ok(b"PIN of the token: " in drawn and PIN.encode() not in drawn, "on a terminal the PIN is asked for, and not shown")
    ok([line["result"] for line in answer["checks"] if line["check"] == "keys"] == ["ok"], "and opens the keyring")


def founder(box):
    """A home that has never had a key outside the token."""
    home = os.path.join(box.folder, "founder")
    how = ["init", "--name", "solo", "--org", "org-solo", "--org-type", "nonprofit", "--country", "DE", "--listen", "none", "--found", "fed", "--unlock"]
    uri = f"pkcs11:token=ward%2012;object=founder?module-path={MODULE}&pin-source=file:{box.folder}/pin"
    code, answer, _ = concordat("--home", home, *how, uri + "&colour=red")
    ok(code == 7 and "known here" in answer["error"]["detail"], f"another attribute: exit {code}")
    code, answer, text = concordat("--home", home, *how, uri)
    ok(code == 0 and answer["node"] == "solo", "a federation is founded with its keys under the token")
    if code:
        note(text)
    keys = [line["result"] for line in concordat("--home", home, "doctor")[1]["checks"] if line["check"] == "keys"]
    ok(keys == ["ok"], f"and its home opens by what node.yaml says: {keys}")


def main():
    if not os.path.exists(MODULE) or not shutil.which("softhsm2-util"):
        skip_all("Debian's softhsm2 is not installed")
    with Sandbox("alpha", start=False) as box:
        os.environ["SOFTHSM2_CONF"] = box.write("softhsm2.conf", f"directories.tokendir = {box.folder}/tokens\nlog.level = ERROR\n")
        os.mkdir(os.path.join(box.folder, "tokens"))
        subprocess.run(["softhsm2-util", "--init-token", "--free", "--label", "ward 12", "--pin", PIN, "--so-pin", "4669"], stdout=subprocess.DEVNULL,
                       check=True)
        box.start()
        code, error = box.refusal("alpha", "key", "add", "--unlock", "pkcs11:token=a;object=b?module-path=/lib/x86_64-linux-gnu/libc.so.6")
        if error.get("code") == "UNSUPPORTED":
            skip_all("built without PKCS #11")
        ok(code in (3, 7), f"a library that is no module: exit {code}, {error.get('detail')}")
        member(box)
        prompt(box)
        founder(box)
    done()


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
