#!/usr/bin/env python3
"""What changes while work goes on: a withdrawal at one of five nodes stops a running job at all of them within two seconds; a licence
that its holder signed twice freezes the dataset everywhere, with an alarm; duties and ends are told in time; and a dataset that is
given for one disease answers that disease alone, decided alike at every node."""
import datetime
import os
import shutil
import signal
import subprocess
import time

from harness import TOP, Sandbox, concordat, done, note, ok

NAMES = "alpha,beta,gamma,delta,epsilon"
MANIFEST = """dataset: tumours
version: "1"
size: 400
columns:
  - {{name: sex, type: category, values: [F, M]}}
  - {{name: age, type: integer, min: 0, max: 110}}
licence:
  spdx: CC-BY-4.0
  expires: {expires}
  obligations: [{{id: return-results}}, {{id: publish}}, {{id: embargo-until, text: "2030-01-01"}}]
  grants:
    - permission: "DUO:0000007"
      disease: ["MONDO:0004992"]
      actions: [count, mean, finetune, evaluate]
      min_cohort: 2
      privacy: {{epsilon_total: 200, epsilon_per_query: {cap}, epsilon_per_job: 20, delta: 1e-6}}
      finetune: {{max_rounds: 500, release: federation}}
"""
JOB = """job: long
task: tabular-classification
dataset: tumours
purpose: "DUO:0000007"
disease: ["MONDO:0004992"]
accept: [return-results, publish]
features: [age]
target: sex
rounds: 400
local: {epochs: 1, batch: 50}
participation: {min_sites: 2}
privacy: {epsilon: 15, delta: 1e-6, clip: 1.0}
evaluate: {split: 0.2, every: 50}
"""
CANCER, LUNG, DIABETES = "MONDO:0004992", "MONDO:0008903", "MONDO:0005148"
PROMISES = ("--accept", "return-results,publish")


def manifest(box, cap=2, expires="2031-12-31", name="m.yaml"):
    return box.write(name, MANIFEST.format(cap=cap, expires=expires))


def ask(box, at, disease, *more):
    code, answer, _ = box.try_run(at, "query", "SELECT COUNT(*) FROM tumours", "--purpose", "DUO:0000007", "--disease", disease,
                                  "--epsilon", "0.2", *PROMISES, *more)
    sites = (answer or {}).get("sites") or (answer or {}).get("error", {}).get("sites") or []
    return code, {site["node"]: site.get("reason") or site["status"] for site in sites}


def only_its_disease(box):
    for disease, permitted in ((CANCER, True), (LUNG, True), (DIABETES, False)):
        code, sites = ask(box, "alpha", disease)
        ok((code == 0) == permitted and len(sites) == 5 and set(sites.values()) == ({"answered"} if permitted else {"PURPOSE"}),
           f"{disease} under a licence for cancer, five nodes: exit {code}, {set(sites.values())}")
    code, answer, _ = box.try_run("beta", "query", "SELECT COUNT(*) FROM tumours", "--purpose", "DUO:0000042", "--epsilon", "0.2", *PROMISES)
    reasons = {site["reason"] for site in answer["error"]["sites"]}
    ok(code == 4 and reasons == {"PURPOSE"}, f"general research: exit {code}, {reasons}")
    verdicts = []
    for at in box.names:
        answer = box.run(at, "licence", "check", "tumours", "--purpose", "DUO:0000007", "--disease", LUNG, "--action", "count", *PROMISES)
        verdicts.append(sorted((site["node"], site["verdict"], site["reason"]) for site in answer["sites"]))
    ok(all(verdict == verdicts[0] and len(verdict) == 5 for verdict in verdicts), f"licence check says the same at all five: {verdicts[0][0]}")


def shown(box, at, job):
    return box.run(at, "train", "show", job)


def updates(box, at):
    return sum(1 for row in box.run(at, "audit", "egress") if row["kind"] == "update")


def withdrawal_stops(box):
    job = box.run("alpha", "train", "start", box.write("job.yaml", JOB))["job"]
    box.wait("some rounds", lambda: shown(box, "alpha", job)["round"] >= 3, 60)
    view = shown(box, "alpha", job)
    ok(view["state"] == "running" and len([s for s in view["sites"] if s["state"] == "admitted"]) == 5, f"five sites train: round {view['round']} of {view['rounds']}")
    began = time.monotonic()
    box.run("gamma", "licence", "withdraw", "tumours", "--reason", "consent withdrawn")
    took = box.wait("the end", lambda: shown(box, "alpha", job)["state"] != "running", 10)
    view = shown(box, "alpha", job)
    left = {at: updates(box, at) for at in box.names if at != "alpha"}
    at_two = time.monotonic() - began
    ok(took is not None and at_two < 2, f"a withdrawal at gamma ends it at the coordinator and no update leaves later than {at_two:.2f} s after")
    ok(view["state"] == "stopped" and view["round"] < view["rounds"], f"it is stopped for good: round {view['round']}")
    all_of_them = box.wait("every node", lambda: all(shown(box, at, job)["state"] == "stopped" for at in box.names), max(0.1, began + 2 - time.monotonic()))
    states = {at: shown(box, at, job)["state"] for at in box.names}
    ok(all_of_them is not None, f"at every node, {time.monotonic() - began:.2f} s after the withdrawal: {states}")
    ok("gamma" in str(view.get("error") or view.get("reason") or view), f"and says why: {view.get('reason') or view.get('error')}")
    time.sleep(2)
    ok({at: updates(box, at) for at in box.names if at != "alpha"} == left, "two seconds later nothing more has left any site")
    code, _, text = box.try_run("alpha", "train", "resume", job)
    ok(code != 0, f"it cannot be resumed: exit {code}")
    code, sites = ask(box, "alpha", CANCER)
    ok(code == 0 and sites["gamma"] == "REVOKED" and sites["beta"] == "answered", f"questions go on without gamma: {sites}")


def daemon(box, name):
    return subprocess.Popen([os.path.join(TOP, "concordatd"), "--home", box.home(name)], stdin=subprocess.DEVNULL,  # pylint: disable=consider-using-with
                            stderr=open(os.path.join(box.folder, name + ".log"), "ab"))


def fork_freezes(box):
    """An operator puts back a backup and signs new terms under a number that was used already: two histories."""
    backup = os.path.join(box.folder, "backup")
    box.run("delta", "backup", backup)
    box.run("delta", "dataset", "update", manifest(box, cap=3))
    box.wait("the new terms", lambda: any(lic["seq"] == 2 and lic["node"] == "delta" for lic in box.run("beta", "licence", "show", "tumours")["licences"]))
    ok(ask(box, "beta", CANCER)[1]["delta"] == "answered", "before, delta answers")
    concordat("sandbox", "stop", box.dir)
    home = box.home("delta")
    old = os.path.join(box.folder, "delta.old")
    os.rename(home, old)
    os.mkdir(home, 0o700)
    for key in ("keyfile", "unlock.key"):
        if os.path.exists(os.path.join(old, key)):
            shutil.copy2(os.path.join(old, key), os.path.join(home, key))
    code, _, text = concordat("--home", home, "restore", backup)
    ok(code == 0, "delta is restored from the backup" + ("" if code == 0 else text))
    os.makedirs(os.path.join(home, "log"), exist_ok=True)
    child = daemon(box, "delta")
    box.wait("delta alone", lambda: box.try_run("delta", "status")[0] == 0)
    box.run("delta", "restore", "accept", "--unwitnessed")
    box.run("delta", "dataset", "update", manifest(box, cap=4))
    child.send_signal(signal.SIGTERM)
    child.wait(20)
    concordat("sandbox", "start", box.dir, "--timeout", "3s")  # delta does not serve: its witnesses saw another history
    took = box.wait("the proof everywhere", lambda: all(
        any(lic["node"] == "delta" and lic["state"] == "forked" for lic in box.run(at, "licence", "show", "tumours")["licences"]) for at in box.names), 30)
    ok(took is not None, f"all five hold the proof of two versions after {took and round(took, 1)} s")
    ok("rollback" in box.log("delta"), "delta itself sees that its witnesses know another history, and serves nothing")
    box.run("delta", "restore", "accept")
    box.wait("delta serves", lambda: ask(box, "alpha", CANCER)[1]["delta"] == "FORKED")
    for at in ("alpha", "delta"):
        code, sites = ask(box, at, CANCER)
        ok(sites["delta"] == "FORKED" and sites["alpha"] == "answered", f"asked from {at}: the dataset is frozen at delta, not elsewhere: {sites}")
    alarms = [at for at in box.names if "signed two versions" in box.log(at)]
    ok(len(alarms) >= 4, f"the others' logs raise the alarm: {alarms}")
    entry = [d for d in box.run("beta", "catalog")["datasets"] if d["node"] == "delta"][0]
    ok(entry["licence"]["state"] == "forked", "the catalogue says so")


def reminders(box):
    soon = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = os.path.join(box.folder, "told")
    hook = box.write("hook", f"#!/bin/sh\necho \"$1 $2\" >> {told}\n")
    os.chmod(hook, 0o755)
    with open(os.path.join(box.home("beta"), "node.yaml"), "a", encoding="utf-8") as file:
        file.write(f"notify: {{command: [{hook}]}}\n")
    os.kill(box.pid("beta"), signal.SIGHUP)
    box.run("alpha", "dataset", "update", manifest(box, cap=5, expires=soon, name="soon.yaml"))
    box.wait("the new terms", lambda: any(lic["seq"] == 2 and lic["node"] == "alpha" for lic in box.run("beta", "licence", "show", "tumours")["licences"]))
    made = box.run("beta", "agreement", "request", "tumours", "--node", "alpha", "--purpose", "DUO:0000007", "--disease", CANCER, *PROMISES)
    box.run("beta", "agreement", "accept", made["agreement"])
    due = {one["what"]: one for one in box.run("beta", "status")["reminders"]}
    ok({"return-results", "publish", "embargo-until", "agreement-ends"} <= set(due), f"the requester's duties and dates are in its status: {sorted(due)}")
    ok(due["embargo-until"]["due"].startswith("2030-01-02") or due["embargo-until"]["due"].startswith("2030-01-01"), f"a moratorium with its date: {due['embargo-until']['due']}")
    ok(due["return-results"]["days"] in (4, 5) and due["return-results"]["node"] == "alpha" and due["return-results"]["id"] == made["agreement"], f"the others by the agreement's end: {due['return-results']}")
    own = {one["what"] for one in box.run("alpha", "status")["reminders"]}
    ok(own == {"licence-expires", "agreement-ends"}, f"the data holder is told what ends: {own}")
    os.kill(box.pid("beta"), signal.SIGHUP)  # it looks at once, not within the minute

    def hooked():
        with open(told, encoding="utf-8") as file:
            return {"reminder.return-results", "reminder.agreement-ends"} <= {line.split()[0] for line in file}

    took = box.wait("log and hook", lambda: "reminder" in box.log("beta") and os.path.exists(told) and hooked(), 75)
    ok(took is not None, "log and the operator's program tell it, too")
    with open(told, encoding="utf-8") as file:
        lines = file.read().splitlines()
    ok(f"reminder.agreement-ends {made['agreement']}" in lines and len(lines) == len(set(lines)), f"each once, with the agreement's number: {lines}")


def main():
    hierarchy = f"{CANCER}\tMONDO:0000001\n{DIABETES}\tMONDO:0000001\n{LUNG}\t{CANCER}\n"
    with Sandbox(NAMES, start=False) as box:
        path = box.write("mondo.tsv", hierarchy)
        for name in box.names:
            with open(os.path.join(box.home(name), "node.yaml"), "a", encoding="utf-8") as file:
                file.write(f"ontology: {path}\n")
        box.start()
        rows = box.write("rows.csv", "sex,age\n" + "".join(f"{'FM'[i * 7 % 2]},{i % 90}\n" for i in range(400)))
        for name in box.names:
            box.run(name, "dataset", "import", manifest(box), "--data", rows)
        box.wait("five publish", lambda: all(len(box.run(at, "catalog")["datasets"]) == 5 for at in box.names))
        only_its_disease(box)
        withdrawal_stops(box)
        reminders(box)
        fork_freezes(box)
        note(f"load {os.getloadavg()[0]:.1f}")
    done()


main()
