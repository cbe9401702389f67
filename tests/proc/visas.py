#!/usr/bin/env python3
"""Visas between real daemons: one that a member issues opens what its licence keeps closed, at every node alike, until it expires or its
issuer takes it back, which stops a running job too; nobody's word counts whom the licence does not name."""
import datetime
import json
import time

from harness import Sandbox, done, ok

GRANT = "https://dac.example/tumours"
MANIFEST = """dataset: tumours
version: "1"
size: 400
columns:
  - {name: sex, type: category, values: [F, M]}
  - {name: age, type: integer, min: 0, max: 110}
licence:
  spdx: CC-BY-4.0
  expires: 2031-12-31
  grants:
    - permission: "DUO:0000042"
      visas: [{type: ControlledAccessGrants, value: "https://dac.example/tumours", issuers: [gamma], by: [dac]}]
      actions: [count, mean, finetune, evaluate]
      min_cohort: 2
      privacy: {epsilon_total: 200, epsilon_per_query: 2, epsilon_per_job: 20, delta: 1e-6}
      finetune: {max_rounds: 500, release: federation}
"""
JOB = """job: long
task: tabular-classification
dataset: tumours
purpose: "DUO:0000042"
features: [age]
target: sex
rounds: 400
local: {epochs: 1, batch: 50}
participation: {min_sites: 1, sites: [alpha]}
privacy: {epsilon: 15, delta: 1e-6, clip: 1.0}
evaluate: {split: 0.2, every: 50}
"""


def ask(box, at="beta", *more):
    code, answer, text = box.try_run(at, "query", "SELECT COUNT(*) FROM tumours", "--purpose", "DUO:0000042", "--epsilon", "0.1", *more)
    sites = (answer or {}).get("sites") or (answer or {}).get("error", {}).get("sites") or [{}]
    return code, sites[0].get("reason") or sites[0].get("status"), text


def issue(box, at, *more, node="beta", until="2030-12-31"):
    return box.run(at, "visa", "issue", "ControlledAccessGrants", GRANT, "--node", node, "--expires", until, "--by", "dac", *more)


def state(box, at, visa):
    return next((one["state"] for one in box.run(at, "visa", "list") if one["visa"] == visa["visa"]), None)


def everywhere(box, visa, wanted):
    return box.wait(f"{wanted} everywhere", lambda: all(state(box, at, visa) == wanted for at in box.names)) is not None


def wrong(box):
    for old, new, says in (("type: ControlledAccessGrants", "type: ControlledAccessGrant", "ControlledAccessGrants"), ("by: [dac]", "by: [dca]", "dac"),
                           (", issuers: [gamma]", "", "issuers")):
        code, error = box.refusal("alpha", "dataset", "import", box.write("bad.yaml", MANIFEST.replace(old, new)), "--data", box.write("rows.csv", "sex,age\nF,1\n"))
        ok(code == 7 and says in error["detail"] and "bad.yaml:" in error["detail"], f"a manifest with a wrong visa is named: {error['detail']}")
    base = ("visa", "issue", "ControlledAccessGrants", GRANT)
    for args, wanted, says in (((*base, "--node", "nobody", "--person", "p", "--expires", "2030-01-01"), 3, "peers"),
                               ((*base, "--node", "beta", "--expires", "2030-01-01"), 2, "--person"),
                               ((*base, "--node", "beta", "--person", "p", "--project", "q", "--expires", "2030-01-01"), 2, "--person"),
                               ((*base, "--node", "beta", "--person", "p", "--expires", "2001-01-01"), 2, "--expires"),
                               ((*base, "--node", "beta", "--person", "p", "--expires", "2030-01-01", "--by", "dca"), 2, "dac"),
                               (("visa", "issue", "ResearchStatus", "x", "--node", "beta", "--person", "p", "--expires", "2030-01-01"), 2, "ResearcherStatus"),
                               (("visa", "revoke", "00ff", "--reason", "x"), 3, "visa list")):
        code, error = box.refusal("gamma", *args)
        ok(code == wanted and says in error["detail"], f"{' '.join(args[4:])}: exit {code}, {error['detail']}")
    ok(box.run("gamma", "visa", "list") == [], "and nothing was issued")


def publish(box):
    rows = box.write("rows.csv", "sex,age\n" + "".join(f"{'FM'[i % 2]},{i % 90}\n" for i in range(400)))
    box.run("alpha", "dataset", "import", box.write("m.yaml", MANIFEST), "--data", rows)
    box.wait("catalogue", lambda: any(d["dataset"] == "tumours" for d in box.run("beta", "catalog")["datasets"]))


def counts(box, me):
    asked = box.run("alpha", "licence", "show", "tumours")["licences"][0]["grants"][0]["visas"]
    ok(asked == [{"type": "ControlledAccessGrants", "value": GRANT, "by": ["dac"], "issuers": ["gamma"]}], f"the licence shows what it asks for: {asked}")
    code, why, text = ask(box)
    ok((code, why) == (4, "MISSING_VISA"), f"without a visa: {why}")
    own = issue(box, "beta", "--person", me)
    other = issue(box, "gamma", "--person", "somebody")
    elsewhere = issue(box, "gamma", "--person", me, node="gamma")
    ok(all(everywhere(box, visa, "valid") for visa in (own, other, elsewhere)), "three visas are seen by all")
    code, why, _ = ask(box)
    ok((code, why) == (4, "MISSING_VISA"), f"one's own word, another person's, one of the same name elsewhere: {why}")
    visa = issue(box, "gamma", "--person", me)
    ok(visa["institution"] == "gamma" and visa["person"] == me and visa["source"] == "gamma" and visa["state"] == "valid", f"issued: {visa['state']}")
    ok(everywhere(box, visa, "valid"), "and seen by all")
    code, why, text = ask(box)
    ok(code == 0, f"with it the question is answered: exit {code} {why}{text[-200:] if code else ''}")
    told = box.run("beta", "licence", "check", "tumours", "--purpose", "DUO:0000042", "--action", "count")["sites"][0]
    clause = [c for c in told["clauses"] if c["clause"] == "visa ControlledAccessGrants"]
    ok(told["verdict"] == "permit" and clause and clause[0]["result"] == "pass" and "gamma" in clause[0]["expected"], f"licence check says so: {clause}")
    ok(ask(box, "gamma")[1] == "answered" and ask(box, "alpha")[1] == "MISSING_VISA", "everybody is asked for an own one, the data holder too")
    code, _ = box.refusal("beta", "visa", "revoke", visa["visa"], "--reason", "x")
    ok(code == 3, f"only its issuer takes it back: exit {code}")
    return visa


def conditional(box, me):
    """A visa that counts only beside another one."""
    beside = json.dumps([[{"type": "ResearcherStatus", "value": "pattern:https://doi.org/*", "by": "const:so"}]])
    visa = issue(box, "gamma", "--person", me, "--conditions", beside)
    everywhere(box, visa, "valid")
    listed = [one for one in box.run("alpha", "visa", "list") if one["visa"] == visa["visa"]][0]
    ok(listed["conditions"] == json.loads(beside), f"a visa with conditions, as a passport writes them: {listed['conditions']}")
    code, why, _ = ask(box)
    ok((code, why) == (4, "MISSING_VISA"), f"alone it does not count: {why}")
    status = ("ResearcherStatus", "https://doi.org/10.1038/s41431-018-0219-y", "--node", "beta", "--person", me, "--expires", "2030-12-31")
    wrong = box.run("gamma", "visa", "issue", *status, "--by", "self")
    everywhere(box, wrong, "valid")
    ok(ask(box)[1] == "MISSING_VISA", "nor beside one on another word")
    other = box.run("gamma", "visa", "issue", *status, "--by", "so")
    everywhere(box, other, "valid")
    code, why, text = ask(box)
    ok(code == 0, f"beside the right one it does: exit {code} {why}{text[-200:] if code else ''}")
    box.run("gamma", "visa", "revoke", other["visa"], "--reason", "x")
    everywhere(box, other, "revoked")
    ok(ask(box)[1] == "MISSING_VISA", "and no longer once that was taken back")
    for one in (visa, wrong):
        box.run("gamma", "visa", "revoke", one["visa"], "--reason", "x")
        everywhere(box, one, "revoked")
    for bad in ("[]", "[[]]", '[[{"type": "ResearcherStatus"}]]', '[[{"type": "ResearcherStatus", "value": "const:x", "until": "y"}]]', "x"):
        code, error = box.refusal("gamma", "visa", "issue", *status, "--conditions", bad)
        ok(code == 2 and "passport" in error["detail"], f"--conditions {bad}: exit {code}")


def ends(box, me, visa):
    job = box.run("beta", "train", "start", box.write("job.yaml", JOB))["job"]
    box.wait("a round", lambda: box.run("beta", "train", "show", job)["round"] >= 2, 60)
    took = box.run("gamma", "visa", "revoke", visa["visa"], "--reason", "left the institute")
    ok(took["state"] == "revoked" and everywhere(box, visa, "revoked"), "revoked, and seen so by all")
    stopped = box.wait("the job's end", lambda: box.run("beta", "train", "show", job)["state"] != "running", 30)
    view = box.run("beta", "train", "show", job)
    ok(stopped is not None and view["round"] < 400 and "MISSING_VISA" in str(view), f"a running job stops: {view['state']} in round {view['round']}, {[s.get('reason') for s in view['sites']]}")
    ok(ask(box)[:2] == (4, "MISSING_VISA"), "and questions are refused")
    kinds = [e["kind"] for e in box.run("gamma", "audit", "list")]
    ok("visa.issue" in kinds and "visa.revoke" in kinds, "both stand in the issuer's audit chain")
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=6)
    short = issue(box, "gamma", "--person", me, until=soon.strftime("%Y-%m-%dT%H:%M:%SZ"))
    everywhere(box, short, "valid")
    before = ask(box)[1] if time.time() < soon.timestamp() - 2 else "answered"
    ok(before == "answered", f"a short one holds: {before}")
    ok(box.wait("its end", lambda: ask(box)[1] == "VISA", 20) is not None and state(box, "alpha", short) == "expired", "until it expires")
    box.run("beta", "project", "create", box.write("p.yaml", "project: heart\npurpose: \"DUO:0000042\"\n"))
    about = issue(box, "gamma", "--project", "heart")
    everywhere(box, about, "valid")
    ok(ask(box, "beta", "--project", "heart")[1] == "answered" and ask(box)[1] == "VISA", "one about a project is for its questions alone")


def main():
    with Sandbox("alpha,beta,gamma") as box:
        wrong(box)
        publish(box)
        ask(box)
        me = box.run("beta", "queries")[0]["person"]
        conditional(box, me)
        visa = counts(box, me)
        ends(box, me, visa)
    done()


main()
