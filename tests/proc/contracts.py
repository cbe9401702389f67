#!/usr/bin/env python3
"""Projects and agreements between real daemons: what a project covers at every site, how an agreement comes about, what it adds to
a question, and how it ends."""
import json
import time

from harness import Sandbox, concordat, done, ok

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
  obligations: [{{id: publish}}, {{id: attribution, text: "cite us"}}]
  grants:
    - permission: "DUO:0000006"
      modifiers: [{modifiers}]
      actions: [count, mean, finetune, evaluate]
      min_cohort: 2
      privacy: {{epsilon_total: 50, epsilon_per_query: {cap}, epsilon_per_job: 4, delta: 1e-6}}
      finetune: {{max_rounds: 20, release: federation}}
"""
PROJECT = """project: heart
purpose: "DUO:0000042"
research: [genetic]
commercial: false
ethics: {ref: "EK 12/2026", expires: 2030-12-31}
obligations: [publish]
people: [%s]
ends: 2030-06-30
"""


def manifest(box, name, modifiers="", approval="automatic", cap=1):
    return box.write(name + ".yaml", MANIFEST.format(name=name, modifiers=modifiers, approval=approval, cap=cap))


def ask(box, dataset, *more, at="beta"):
    code, answer, text = box.try_run(at, "query", f"SELECT COUNT(*) FROM {dataset}", "--epsilon", "0.1", *more)
    error = (answer or {}).get("error", {})
    sites = (answer or {}).get("sites") or error.get("sites") or [{}]
    return code, sites[0].get("reason") or sites[0].get("status"), error.get("detail", text)


def projects(box, me):
    code, error = box.refusal("beta", "query", "SELECT COUNT(*) FROM open", "--project", "heart")
    ok(code == 3 and "project create" in error["detail"], f"a project that nobody published: exit {code}, {error['detail']}")
    code, error = box.refusal("beta", "project", "create", box.write("bad.yaml", PROJECT.replace("[publish]", "[publsh]") % me))
    ok(code == 7 and "bad.yaml:6:" in error["detail"] and "publish" in error["detail"], f"a bad file is named with line and the nearest word: {error['detail']}")
    made = box.run("beta", "project", "create", box.write("heart.yaml", PROJECT % me))
    ok(made["state"] == "open" and made["ethics"]["ref"] == "EK 12/2026" and made["obligations"] == ["publish"], "a project is published")
    ok(box.wait("gossip", lambda: any(p["project"] == "heart" and p["node"] == "beta" for p in box.run("alpha", "project", "list"))) is not None, "and seen by the others")
    ok(ask(box, "open", "--purpose", "DUO:0000006")[1] == "OBLIGATIONS", "without a promise the licence's duty refuses")
    code, why, detail = ask(box, "open", "--project", "heart", "--purpose", "DUO:0000006")
    ok(code == 0, f"the project's promise, ethics and research count: exit {code} {why} {detail}")
    code, why, _ = ask(box, "open", "--project", "heart")
    ok((code, why) == (4, "PURPOSE"), f"its own purpose is wider than the licence: {why}")
    code, error = box.refusal("beta", "query", "SELECT COUNT(*) FROM open", "--project", "heart", "--purpose", "DUO:0000006", "--research", "ancestry")
    ok(code == 2 and "research" in error["detail"], f"what is stated may only narrow it: {error['detail']}")
    box.run("beta", "project", "create", box.write("other.yaml", (PROJECT % "somebody").replace("project: heart", "project: other")))
    code, error = box.refusal("beta", "query", "SELECT COUNT(*) FROM open", "--project", "other", "--purpose", "DUO:0000006")
    ok(code == 4 and error["code"] == "ROLE", f"and only its people may use it: {error['detail']}")


def agreement(box):
    months = "{code: \"DUO:0000025\", params: [\"12\"]}"
    rows = box.write("rows.csv", "sex,age\n" + "".join(f"{'FM'[i % 2]},{i % 90}\n" for i in range(400)))
    box.run("alpha", "dataset", "import", manifest(box, "timed", months), "--data", rows)
    box.wait("catalogue", lambda: any(d["dataset"] == "timed" for d in box.run("beta", "catalog")["datasets"]))
    heart = ("--project", "heart", "--purpose", "DUO:0000006")
    code, why, _ = ask(box, "timed", *heart)
    ok((code, why) == (4, "MISSING_AGREEMENT"), f"a time limit in months wants an agreement: {why}")
    code, error = box.refusal("alpha", "agreement", "request", "timed", *heart[2:])
    ok(code == 3, f"nobody makes one with oneself: exit {code}")
    offer = box.run("beta", "agreement", "request", "timed", *heart, "--recipient", "gamma")
    duties = {(duty["id"], duty["text"]): duty["promise"] for duty in offer["duties"]}
    ok(offer["state"] == "OFFERED" and offer["side"] == "consumer" and offer["node"] == "alpha", f"the data holder offers: {offer['state']}")
    ok(duties[("publish", None)] and not duties[("attribution", "cite us")] and ("delete-by", "12") in duties, f"with the licence's duties: {duties}")
    ok(set(offer["actions"]) == {"count", "mean", "finetune", "evaluate"}, f"for what it grants: {offer['actions']}")
    ok((offer["institution"], offer["org_type"], offer["ethics"], offer["recipients"]) == ("beta", "nonprofit", "EK 12/2026", ["gamma"]), "and who asked for what is in it")
    ok(ask(box, "timed", *heart)[1] == "MISSING_AGREEMENT", "an offer alone permits nothing")
    code, error = box.refusal("beta", "agreement", "accept", offer["agreement"], "--accept", "attribution")
    ok(code == 2 and "publish" in error["detail"], f"a duty that needs a promise cannot be left out: {error['detail']}")
    made = box.run("beta", "agreement", "accept", offer["agreement"][:10])
    ok(made["state"] == "FINALIZED" and made["in_force"] and made["accepted"] == ["publish"], f"accepted with what the project promises: {made['state']}, {made['accepted']}")
    theirs = [one for one in box.run("alpha", "agreement", "list") if one["agreement"] == offer["agreement"]][0]
    ok(theirs["state"] == "FINALIZED" and theirs["side"] == "provider" and theirs["starts"] == made["starts"], "the other side holds the same")
    code, why, detail = ask(box, "timed", *heart)
    ok(code == 0, f"and the question is answered: exit {code} {why} {detail}")
    ok(ask(box, "timed", "--purpose", "DUO:0000006", "--accept", "publish")[1] == "MISSING_AGREEMENT", "no other project may use it")
    for args in (heart, ("--purpose", "DUO:0000006", "--accept", "publish")):
        told = box.run("beta", "licence", "check", "timed", *args, "--action", "count")["sites"][0]
        you = box.run("beta", "catalog", "timed", "--mine", *args)["datasets"][0]["you"][0]
        ok((told["verdict"] == "permit") == (args is heart) == ("count" in you["permit"]) and (args is heart or told["reason"] == "MISSING_AGREEMENT"), f"and so say check and catalogue: {told['verdict']} {told['reason']}")
    entry = [e["body"] for e in box.run("alpha", "audit", "list") if e["kind"].startswith("query") and e["body"].get("dataset") == "timed" and e["body"].get("verdict") == "PERMIT"]
    ok(entry and entry[0].get("agreement") == offer["agreement"], f"the audit chain names the agreement: {entry[:1]}")
    return offer["agreement"], heart


def ends(box, first, heart):
    box.run("alpha", "agreement", "terminate", first, "--reason", "breach of contract")
    mine = [one for one in box.run("beta", "agreement", "list") if one["agreement"] == first][0]
    ok(mine["state"] == "TERMINATED" and mine["reason"] == "breach of contract" and not mine["in_force"], f"ended by the data holder, told with its reason: {mine['reason']}")
    ok(ask(box, "timed", *heart)[1] == "MISSING_AGREEMENT", "what ended counts no more")
    code, error = box.refusal("beta", "agreement", "terminate", first, "--reason", "again")
    ok(code == 2, f"and does not end twice: exit {code}")
    second = box.run("beta", "agreement", "request", "timed", *heart)["agreement"]
    box.run("beta", "agreement", "accept", second)
    ok(ask(box, "timed", *heart)[0] == 0, "another one is in force")
    months = "{code: \"DUO:0000025\", params: [\"6\"]}"
    box.run("alpha", "dataset", "update", manifest(box, "timed", months, cap=2))
    box.wait("the new terms", lambda: not box.run("beta", "agreement", "show", second)["in_force"])
    shown = box.run("beta", "agreement", "show", second)
    ok("replaced" in shown["reason"] and ask(box, "timed", *heart)[1] == "MISSING_AGREEMENT", f"other terms end it: {shown['reason']}")
    third = box.run("beta", "agreement", "request", "timed", *heart)["agreement"]
    box.run("alpha", "dataset", "update", manifest(box, "timed", months, cap=3))
    code, error = box.refusal("beta", "agreement", "accept", third)
    ok(code == 4 and "terms changed" in error["detail"], f"terms that change before they are accepted are offered anew: {error['detail']}")
    ok(box.run("beta", "agreement", "accept", third)["state"] == "FINALIZED", "and can be accepted then")
    box.run("alpha", "licence", "withdraw", "timed", "--reason", "consent withdrawn")
    box.wait("the withdrawal", lambda: not box.run("beta", "agreement", "show", third)["in_force"])
    shown = box.run("beta", "agreement", "show", third)
    ok("withdrawn" in shown["reason"] and ask(box, "timed", *heart)[1] == "REVOKED", f"a withdrawal ends it: {shown['reason']}")
    code, error = box.refusal("beta", "agreement", "request", "timed", *heart)
    ok(code == 4 and "REVOKED" in error["detail"], f"and no new one comes about: {error['detail']}")


def held(box, heart):
    rows = box.write("rows.csv", "sex,age\n" + "".join(f"{'FM'[i % 2]},{i % 90}\n" for i in range(400)))
    box.run("alpha", "dataset", "import", manifest(box, "held", approval="manual"), "--data", rows)
    box.wait("catalogue", lambda: any(d["dataset"] == "held" for d in box.run("beta", "catalog")["datasets"]))
    asked = box.run("beta", "agreement", "request", "held", *heart)
    ok(asked["state"] == "REQUESTED" and "approval" in asked["waits"], f"where a person decides, it waits: {asked['waits']}")
    waiting = [one for one in box.run("alpha", "approvals") if one["kind"] == "agreement"]
    ok(len(waiting) == 1 and waiting[0]["project"] == "heart", "the data holder's queue shows it")
    box.run("alpha", "approve", waiting[0]["approval"])
    shown = box.run("beta", "agreement", "show", asked["agreement"])
    ok(shown["state"] == "OFFERED", f"approved, `agreement show` fetches the offer: {shown['state']}")
    box.run("beta", "agreement", "accept", asked["agreement"])
    code, why, _ = ask(box, "held", *heart)
    ok(code == 0, f"what the agreement covers waits for nobody any more: exit {code} {why}")
    ok(ask(box, "held", "--purpose", "DUO:0000006", "--accept", "publish")[1] == "HOLD", "all else does")
    again = box.run("beta", "agreement", "request", "held", *heart, "--action", "count")
    waiting = [one for one in box.run("alpha", "approvals") if one["kind"] == "agreement"]
    box.run("alpha", "deny", waiting[0]["approval"], "--reason", "one is enough")
    shown = box.run("beta", "agreement", "show", again["agreement"])
    ok(shown["state"] == "TERMINATED" and "one is enough" in shown["reason"], f"a denial ends the request with its reason: {shown['reason']}")


def main():
    with Sandbox("alpha,beta,gamma") as box:
        rows = box.write("rows.csv", "sex,age\n" + "".join(f"{'FM'[i % 2]},{i % 90}\n" for i in range(400)))
        strict = "{code: \"DUO:0000021\"}, {code: \"DUO:0000016\"}, {code: \"DUO:0000046\"}"  # ethics, genetic, non-commercial
        box.run("alpha", "dataset", "import", manifest(box, "open", strict), "--data", rows)
        box.wait("catalogue", lambda: box.run("beta", "catalog")["datasets"])
        box.try_run("beta", "query", "SELECT COUNT(*) FROM open", "--purpose", "DUO:0000006")
        me = box.run("beta", "queries")[0]["person"]
        projects(box, me)
        first, heart = agreement(box)
        ends(box, first, heart)
        held(box, heart)
        box.run("beta", "project", "end", "heart", "--reason", "done")
        box.wait("gossip", lambda: any(p["state"] == "ended" for p in box.run("alpha", "project", "list")))
        code, error = box.refusal("beta", "query", "SELECT COUNT(*) FROM open", *heart)
        ok(code == 3, f"an ended project is gone: exit {code}")
        for name in ("alpha", "beta"):
            ok(concordat("--home", box.home(name), "audit", "verify")[0] == 0, f"{name}: the audit chain is whole")
    done()


main()
