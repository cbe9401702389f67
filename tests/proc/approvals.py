#!/usr/bin/env python3
"""Who may do what, row by row; and requests that a licence leaves to a person: asked, seen, approved, denied, collected, run out."""
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time

from harness import TOP, Refused, Sandbox, concordat, done, ok

# Who may ask the daemon for what. Kept by hand, so that a change of the table is a decision and not an accident.
ALL, READ = {"operator", "coordinator", "analyst", "auditor"}, {"operator", "auditor"}
OPERATOR, COORDINATOR, ANALYST = {"operator"}, {"operator", "coordinator"}, {"operator", "coordinator", "analyst"}
LOCAL = ("completion", "dataset draft", "dataset mapping", "licence compat", "licence diff", "licence explain", "licence new", "help", "init", "man", "sandbox", "tool", "train compare", "train run", "audit verify", "key recover", "restore")
MAY = {
    "status": ALL, "doctor": ALL, "peers": ALL, "catalog": ALL, "budget": ALL, "queries": ALL, "queries show": ALL,
    "dataset list": ALL, "dataset show": ALL, "licence show": ALL, "licence check": ALL, "federation council": ALL,
    "train watch": ALL, "train list": ALL, "train show": ALL, "train verify": ALL, "train history": ALL, "train pause": OPERATOR, "train unpause": OPERATOR, "model fetch": COORDINATOR, "model publish": OPERATOR, "model list": ALL, "model show": ALL, "model card": ALL, "model report": ALL,
    "query": ANALYST, "model predict": ANALYST, "queries collect": ANALYST,
    "train start": COORDINATOR, "train stop": COORDINATOR, "train resume": COORDINATOR, "model export": COORDINATOR, "model import": COORDINATOR,
    "project list": ALL, "project show": ALL, "agreement list": ALL, "agreement show": ALL, "agreement request": ANALYST,
    "visa list": ALL, "visa issue": OPERATOR, "visa revoke": OPERATOR, "project create": COORDINATOR, "project end": COORDINATOR, "agreement accept": COORDINATOR, "agreement terminate": COORDINATOR,
    "approvals": READ, "audit list": READ, "audit egress": READ, "audit export": READ,
    "approve": OPERATOR, "deny": OPERATOR, "federation invite": OPERATOR, "federation admit": OPERATOR, "revoke": OPERATOR, "endorse": OPERATOR, "federation council add": OPERATOR, "federation council remove": OPERATOR,
    "dataset import": OPERATOR, "dataset risk": OPERATOR, "dataset update": OPERATOR, "dataset forget": OPERATOR,
    "dataset remove": OPERATOR, "licence withdraw": OPERATOR, "key list": OPERATOR, "key add": OPERATOR,
    "key remove": OPERATOR, "clock accept": OPERATOR, "key rotate": OPERATOR, "backup": OPERATOR, "restore accept": OPERATOR, "fsck": OPERATOR,
}

MANIFEST = """dataset: {name}
version: "1"
size: 400
columns:
  - {{name: sex, type: category, values: [F, M]}}
  - {{name: age, type: integer, min: 0, max: 110}}
licence:
  spdx: CC-BY-4.0
  expires: 2031-12-31
  approval: {approval}
  grants:
    - permission: "DUO:0000042"
      actions: [count, mean, finetune, evaluate]
      min_cohort: 2
      privacy: {{epsilon_total: 50, epsilon_per_query: 1, epsilon_per_job: 4, delta: 1e-6}}
      finetune: {{max_rounds: 20, release: federation}}
"""

JOB = """job: slow
task: tabular-classification
dataset: manual
purpose: "DUO:0000042"
features: [age]
target: sex
rounds: 2
local: {epochs: 1, batch: 50}
participation: {min_sites: 1, sites: [beta]}
privacy: {epsilon: 3, delta: 1e-6, clip: 1.0}
evaluate: {split: 0.2, every: 1}
"""


def pack(value):
    """As much msgpack as a request needs."""
    if isinstance(value, int):
        return bytes([value])
    if isinstance(value, str):
        raw = value.encode()
        return bytes([0xA0 | len(raw)]) + raw if len(raw) < 32 else b"\xd9" + bytes([len(raw)]) + raw
    return bytes([0x90 | len(value)]) + b"".join(pack(item) for item in value)


def bare(box, name, operation):
    """The error code of an operation that is asked for without its arguments, past the command's own checks."""
    body = pack([1, operation, []])
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(os.path.join(box.home(name), "control.sock"))
        sock.sendall(struct.pack(">IB", len(body) + 1, 1) + body)
        back = b""
        while True:
            piece = sock.recv(65536)
            if not piece:
                break
            back += piece
    found = re.search(rb'"code":"([A-Z_]+)"', back)
    return found.group(1).decode() if found else "OK"


def people(box, name, roles, extra=""):
    """Makes this test's own Unix user a person with these roles, and has the daemon read it."""
    path = os.path.join(box.home(name), "node.yaml")
    with open(path, encoding="utf-8") as file:
        text = re.sub(r"(?ms)^(people|approvals|notify):.*?(?=^\w|\Z)", "", file.read())
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + f"people:\n  - {{uid: {os.getuid()}, id: tester, roles: [{roles}]}}\n" + extra)
    before = box.log(name).count('"reload"')
    os.kill(box.pid(name), signal.SIGHUP)
    box.wait("the reload", lambda: box.log(name).count('"reload"') > before)


def operations():
    text = subprocess.run([os.path.join(TOP, "concordat"), "help"], stdout=subprocess.PIPE, check=True, text=True).stdout
    return [found.group(1) for found in re.finditer(r"^  ([a-z]+(?: [a-z-]+)*)  ", text, re.M)]


def roles(box):
    listed = [path for path in operations() if not path.startswith(LOCAL) or path == "restore accept"]
    ok(set(listed) == set(MAY), f"every operation stands in MAY or LOCAL of this test; differing: {set(listed) ^ set(MAY)}")
    for role in ("operator", "coordinator", "analyst", "auditor"):
        people(box, "gamma", role)
        wrong = []
        for path in sorted(MAY):
            if path in ("backup", "fsck", "key rotate", "clock accept", "restore accept") and role in MAY[path]:
                continue  # they need no argument and would do it
            refused = bare(box, "gamma", path) == "ROLE"
            if refused == (role in MAY[path]):
                wrong.append(path)
        ok(not wrong, f"{role}: each operation answers as the table says {wrong}")
    people(box, "gamma", "auditor")
    code, error = box.refusal("gamma", "query", "SELECT COUNT(*) FROM manual", "--purpose", "DUO:0000042")
    ok(code == 4 and error.get("code") == "ROLE" and "people:" in error.get("detail", ""), f"an auditor asks no questions, and reads who can change that: {error.get('detail')}")
    people(box, "gamma", "operator, coordinator, analyst, auditor")


def sites(answer, error=None):
    return {site["node"]: site for site in (answer or {}).get("sites", []) or (error or {}).get("sites", [])}


SQL = "SELECT sex, COUNT(*) FROM manual GROUP BY sex"


def ask(box, sql=SQL, *more):
    code, answer, _ = box.try_run("alpha", "query", sql, "--purpose", "DUO:0000042", "--epsilon", "0.5", *more)
    return code, answer, sites(answer, (answer or {}).get("error"))


def told(box, event):
    try:
        with open(os.path.join(box.folder, "told"), encoding="utf-8") as file:
            return [line.split() for line in file if line.startswith(event)]
    except OSError:
        return []


def spent(box):
    return box.run("beta", "budget", "manual")["budget"][0]["rho_left"]


def queries(box):
    before = spent(box)
    code, answer, at = ask(box, SQL, "--explain")
    ok(at["beta"].get("verdict") == "hold" and box.run("beta", "approvals") == [], f"--explain says hold and queues nothing: exit {code}")
    code, answer, at = ask(box)
    ok(code == 4 and at["beta"]["status"] == "waiting" and at["beta"]["reason"] == "HOLD", f"the site waits for a person: exit {code}, {at['beta']['status']}")
    wait_id = at["beta"]["approval"]
    ok(at["beta"]["detail"].find(wait_id) > 0 and "collect" in at["beta"]["detail"], "the requester reads the number and what to do")
    ok(spent(box) == before, "nothing is spent while it waits")
    queue = box.run("beta", "approvals")
    one = queue[0]
    ok(len(queue) == 1 and one["approval"] == wait_id and one["state"] == "pending", "the site's queue shows it once")
    ok((one["node"], one["dataset"], one["purpose"], one["kind"]) == ("alpha", "manual", "DUO:0000042", "query") and one["person"], f"with who and what for: {one['person']} of {one['institution']}")
    ok("count over sex" in one["operations"] and one["shape"] == "2 rows of sex, count" and "GROUP BY" in one["question"], f"operations and the shape of the result: {one['operations']}; {one['shape']}")
    ok(one["cost"]["epsilon"] == 0.5 and one["cost"]["rho"] > 0 and one["why"] == "HOLD", f"and what it costs: rho {one['cost']['rho']}")
    ok(box.wait("hook", lambda: told(box, "approval.waiting")) is not None and told(box, "approval.waiting")[0] == ["approval.waiting", wait_id, "beta"], f"the operator's program is told the event and the number, no more: {told(box, 'approval.waiting')}")
    ask(box)
    ok(len(box.run("beta", "approvals")) == 1 and len(told(box, "approval.waiting")) == 1, "asking again makes no second one")
    mine = [kept for kept in box.run("alpha", "queries") if kept["state"] == "waiting"]
    first = mine[0]["query_id"]
    code, error = box.refusal("alpha", "queries", "show", first)
    ok(code == 4 and error["code"] == "APPROVAL" and "collect" in error["detail"], "`queries show` says that it waits and how to go on")

    answer = box.run("beta", "approve", wait_id[:8], "--reason", "seen by the committee")
    ok(answer["state"] == "approved" and answer["scope"] == "request" and answer["told"], f"approved by its beginning; alpha was told: {answer['told']}")
    ok(box.wait("decided", lambda: any(kept["state"] == "decided" for kept in box.run("alpha", "queries"))) is not None, "alpha's list shows that a person has decided")
    decided = [kept["query_id"] for kept in box.run("alpha", "queries") if kept["state"] == "decided"][0]
    answer = box.run("alpha", "queries", "collect", decided)
    ok(answer["rows"] and sites(answer)["beta"]["status"] == "answered" and not answer["replayed"], "`queries collect` fetches the answer")
    after = spent(box)
    ok(after < before, "which is charged now")
    again = box.run("alpha", "queries", "collect", decided)
    ok(again["rows"] == answer["rows"] and again["replayed"] and spent(box) == after, "and comes again with the same numbers at no cost")
    code, answer, at = ask(box, "SELECT COUNT(*) FROM manual")
    ok(at["beta"]["status"] == "waiting", "another question waits anew")
    box.run("beta", "deny", at["beta"]["approval"], "--reason", "too broad")
    code, answer, at = ask(box, "SELECT COUNT(*) FROM manual")
    ok(code == 4 and at["beta"]["status"] == "refused" and at["beta"]["reason"] == "DENIED" and "too broad" in at["beta"]["detail"], f"a denial is told with its reason: {at['beta']['detail']}")
    code, error = box.refusal("beta", "deny", "ffffffff", "--reason", "x")
    ok(code == 3, f"an id that is not there: exit {code}")
    kinds = [entry["kind"] for entry in box.run("beta", "audit", "list")]
    ok(kinds.count("approval.approved") == 1 and kinds.count("approval.denied") == 1, "both decisions are in the audit chain")
    body = [entry["body"] for entry in box.run("beta", "audit", "list") if entry["kind"] == "approval.approved"][0]
    ok(body["approval"] == wait_id and body["reason"] == "seen by the committee" and body["node"] == "alpha" and body["person"], "with who decided, on whose request, and why")


def project(box):
    for name in ("heart", "lung"):
        box.run("alpha", "project", "create", box.write(name + ".yaml", f"project: {name}\npurpose: DUO:0000042\n"))
    box.wait("the projects at beta", lambda: len(box.run("beta", "project", "list")) == 2)
    _, _, at = ask(box, "SELECT AVG(age) FROM manual", "--project", "heart")
    box.run("beta", "approve", at["beta"]["approval"], "--project")
    code, _, at = ask(box, "SELECT sex, AVG(age) FROM manual GROUP BY sex", "--project", "heart")
    ok(code == 0 and at["beta"]["status"] == "answered", "an approval for a project covers its next question")
    _, _, at = ask(box, "SELECT sex, AVG(age) FROM manual GROUP BY sex", "--project", "lung")
    ok(at["beta"]["status"] == "waiting", "and nobody else's")
    box.run("beta", "dataset", "update", box.write("manual2.yaml", MANIFEST.format(name="manual", approval="manual").replace("epsilon_per_query: 1", "epsilon_per_query: 2")))
    code, _, at = ask(box, "SELECT COUNT(age) FROM manual", "--project", "heart")
    ok(at["beta"]["status"] == "waiting", "other terms need another approval")


def job(box):
    path = box.write("job.yaml", JOB)
    started = box.run("alpha", "train", "start", path)
    ok(started["state"] == "waiting", f"a job whose only site holds it waits: {started['state']}")
    shown = box.run("alpha", "train", "show", started["job"])
    ok(shown["sites"][0]["state"] == "waiting" and shown["sites"][0]["reason"] == "HOLD", f"and names the site that is asked: {shown['sites'][0]}")
    waiting = [one for one in box.run("beta", "approvals") if one["kind"] == "job"]
    ok(len(waiting) == 1 and "finetune" in waiting[0]["operations"] and "2 rounds" in waiting[0]["question"], f"the queue shows the job: {waiting[0]['question']}")
    box.run("beta", "approve", waiting[0]["approval"])
    box.run("alpha", "train", "resume", started["job"])
    ok(box.wait("the job", lambda: box.run("alpha", "train", "show", started["job"])["state"] == "done", 60) is not None, "after the approval `train resume` runs it to its end")
    model = box.run("alpha", "train", "show", started["job"])["model"]
    box.wait("the model", lambda: any(m["model"] == model for m in box.run("gamma", "model", "list")))
    rows = box.write("rows.csv", "sex,age\nF,40\n")
    for node, options, wanted in (("alpha", (), 0), ("alpha", ("--purpose", "DUO:0000006"), 0), ("alpha", ("--purpose", "DUO:0000042", "--research", "sensitive"), 4),
                                  ("gamma", ("--purpose", "DUO:0000042"), 4)):
        code, error = box.refusal(node, "model", "predict", model, "--data", rows, *options)
        ok(code == wanted and (code == 0 or "HOLD" in error["detail"]), f"who approved the job approved its model for that, at {node} {' '.join(options)}: exit {code} {error.get('detail', '')}")
    code, error = box.refusal("gamma", "agreement", "request", model, "--purpose", "DUO:0000042", "--action", "evaluate")
    ok(code == 4 and "HOLD" in error["detail"], f"nor can one institution agree for all the sites: exit {code}")


def runs_out(box):
    people(box, "beta", "operator, coordinator, analyst, auditor", "approvals: {pending: 4s, valid: 3s}\n")
    _, _, at = ask(box, "SELECT sex, COUNT(age) FROM manual GROUP BY sex")
    wait_id = at["beta"]["approval"]
    time.sleep(4.3)
    code, error = box.refusal("beta", "approve", wait_id)
    ok(code == 2 and "over" in error["detail"], f"past its time nobody can decide: exit {code}")
    ok([one for one in box.run("beta", "approvals", "--all") if one["approval"] == wait_id][0]["state"] == "expired", "it is listed as expired")
    _, _, at = ask(box, "SELECT sex, COUNT(age) FROM manual GROUP BY sex")
    ok(at["beta"]["approval"] == wait_id and at["beta"]["status"] == "waiting", "asking again queues it anew")
    box.run("beta", "approve", wait_id)
    time.sleep(3.3)
    _, _, at = ask(box, "SELECT sex, COUNT(age) FROM manual GROUP BY sex")
    ok(at["beta"]["status"] == "waiting", "an approval ends after its time as well")


def main():
    with Sandbox("alpha,beta,gamma") as box:
        roles(box)
        # The hook: writes what it got; and sleeps in the background, which must not keep anything waiting.
        hook = box.write("hook", f"#!/bin/sh\necho \"$1 $2 $CONCORDAT_NODE\" >> {box.folder}/told\n[ $# -eq 2 ] || echo bad >> {box.folder}/told\nexec sleep 600\n")
        os.chmod(hook, 0o755)
        people(box, "beta", "operator, coordinator, analyst, auditor", f"notify: {{command: [{hook}], timeout: 500ms}}\n")
        rows = box.write("rows.csv", "sex,age\n" + "".join(f"{'FM'[i % 2]},{i % 90}\n" for i in range(400)))
        box.run("beta", "dataset", "import", box.write("manual.yaml", MANIFEST.format(name="manual", approval="manual")), "--data", rows)
        box.wait("the dataset at alpha", lambda: box.run("alpha", "catalog")["datasets"])
        queries(box)
        ok(box.wait("killed", lambda: "was killed" in box.log("beta")) is not None, "a program that does not end is killed after its time")
        project(box)
        job(box)
        runs_out(box)
        answer = concordat("audit", "verify", "--home", box.home("beta"))
        ok(answer[0] == 0, "the audit chain is whole")
    done()


main()
