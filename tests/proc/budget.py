#!/usr/bin/env python3
"""Budgets between real daemons: what is charged to whom, what survives, what the refusals say, and what people are shown of it."""
import os
import signal
import time

from harness import Sandbox, done, licence, note, ok

BODY = """version: "{version}"
size: 400
unit: patient
columns:
  - {{name: patient, type: text, deidentify: pseudonym}}
  - {{name: age, type: integer, min: 0, max: 110}}
"""
RHO = 0.006641525  # of epsilon 0.5 at delta 1e-6, the contract's figure


def manifest(name, epsilon_total, version="1", extra="", per_query=2):
    return f"dataset: {name}\n" + BODY.format(version=version) + extra + licence(epsilon_total=epsilon_total, per_query=per_query)


class Test:
    def __init__(self, box):
        self.box = box
        self.data = box.write("rows.csv", "patient,age\n" + "".join(f"p{i},{i % 90}\n" for i in range(400)))
        self.asked = 0

    def put(self, text, command="import", data=True):
        path = self.box.write("m.yaml", text)
        args = ["dataset", command, path] + (["--data", self.data] if data else [])
        return self.box.run("alpha", *args)

    def ask(self, node, dataset, epsilon=0.5, extra=()):
        """A new question each time."""
        self.asked += 1
        return self.box.try_run(node, "query", f"SELECT COUNT(*) FROM {dataset} WHERE age <> {200 + self.asked}", "--purpose",
                                "DUO:0000006", "--epsilon", epsilon, *extra)

    def account(self, dataset, node="alpha"):
        return [b for b in self.box.run(node, "budget", dataset)["budget"] if b["node"] == "alpha"][0]

    def restart(self, name="alpha"):
        self.box.kill(name)
        self.box.start()


def near(a, b):
    return abs(a - b) < 1e-9


def spending(t):
    t.put(manifest("a", 8))
    code, answer, _ = t.ask("beta", "a")
    ok(code == 0 and near(answer["cost"]["rho"], RHO), "a question costs what the contract says")
    account = t.account("a")
    ok(near(account["rho_total"], 1.052358004) and near(account["rho_left"], account["rho_total"] - RHO), "and the account shows it")
    share = int((account["rho_total"] / 2 - RHO) / RHO)
    ok(abs(answer["forecast"]["questions"] - share) <= 1, f"beta may take half: about {share} more like this")
    ok(account["questions_left"]["count"] > share and account["questions_left"]["margin95"] > 0, "the site's own forecast counts all of it")
    ok(0 < account["epsilon_spent_tight"] <= account["epsilon_spent"], "as one Gaussian release it is less than by the ledger's conversion")
    again = t.box.run("beta", "query", f"SELECT COUNT(*) FROM a WHERE age <> {200 + t.asked}", "--purpose", "DUO:0000006", "--epsilon", "0.5")
    ok(again["replayed"] and again["rows"] == answer["rows"] and near(t.account("a")["rho_left"], account["rho_left"]), "a repeat costs nothing")
    ok(again["forecast"]["questions"] == answer["forecast"]["questions"], "and leaves as many")
    told = [b for b in t.box.run("beta", "budget", "a")["others"] if b["node"] == "alpha"][0]
    ok(near(told["rho_left"], account["rho_left"]) and told["as_of"], "beta remembers what alpha said last, and when")
    history = t.box.run("alpha", "budget", "a")
    ok([h["state"] for h in history["history"]] == ["released", "replayed"] and history["history"][0]["institution"] == "beta"
       and near(history["history"][0]["rho"], RHO), "the history names who spent it")
    ok(history["forecast"]["questions"] == int(round(account["rho_left"] * 1e9)) // int(round(RHO * 1e9)), "and forecasts from the last question")
    shown = t.box.run("beta", "queries", "show", answer["query_id"])
    ok(shown["rows"] == answer["rows"] and "FROM a" in shown["question"]["sql"] and shown["question"]["state"] == "answered",
       "queries show tells question and answer")


def exhausted(t):
    code, answer, text = t.ask("beta", "a", 3)
    site = answer["error"]["sites"][0]
    ok(code == 4 and "epsilon at most 2 " in site["detail"] and site["epsilon_per_query"] == 2 and "epsilon at most 2 " in answer["error"]["detail"],
       f"more than a question may cost is the licence's refusal, which tells the most: {site['detail']}")
    ok(t.ask("beta", "a", 3, ["--explain"])[1]["error"]["sites"][0]["epsilon_per_query"] == 2, "and so does --explain")
    code = asked = 0
    while code != 5 and asked < 60:
        code, answer, _ = t.ask("beta", "a", 2)
        asked += 1
    ok(code == 5 and "institution" in answer["error"]["sites"][0]["detail"], "half is all that beta gets: exit 5, the share is named")
    detail = answer["error"]["sites"][0]["detail"]
    ok("rho left" in detail and "this costs" in detail, f"with what is left: {detail}")
    refused = [q for q in t.box.run("beta", "queries") if q["state"] == "refused"][-1]
    shown = t.box.run("beta", "queries", "show", refused["query_id"])
    ok(shown["rows"] == [] and shown["sites"][0]["reason"] in ("BUDGET", "NOISE"), "queries show tells why a question was refused")
    ok(t.ask("gamma", "a")[0] == 0, "another institution has its own half")
    code, answer, _ = t.ask("beta", "a", 2, ["--explain"])
    ok(code == 5, "--explain says so too")


def survives(t):
    before = t.account("a")["rho_left"]
    spent = t.account("a")["rho_total"] - before
    t.put(manifest("a", 8, version="2"))
    ok(near(t.account("a")["rho_left"], before), "a new version changes nothing of what is spent")
    t.put(manifest("a", 12, version="4"), "update", data=False)
    raised = t.account("a")
    ok(raised["rho_total"] > 1.1 and near(raised["rho_total"] - raised["rho_left"], spent), "raising epsilon_total adds only the difference")
    t.put(manifest("a", 3, version="5"), "update", data=False)
    ok(t.account("a")["rho_left"] == 0 and t.ask("gamma", "a")[0] == 5, "lowered below what is spent, nothing is left")
    t.put(manifest("a", 12, version="6"), "update", data=False)
    t.restart()
    ok(near(t.account("a")["rho_left"], raised["rho_left"]), "and a kill changes nothing")
    t.box.run("alpha", "dataset", "remove", "a", "--shred")
    ok(near(t.account("a")["rho_left"], raised["rho_left"]), "nor does the removal of the dataset")


def wanted(t):
    t.put(manifest("e", 8))
    answer = t.box.run("beta", "query", "SELECT COUNT(*) FROM e", "--purpose", "DUO:0000006", "--error", "20")
    margin = answer["margin95"][0][0]
    ok(19.9 < margin <= 20 and 0 < answer["cost"]["epsilon"] < 1, f"--error 20 buys a margin of {margin:.4f} for epsilon {answer['cost']['epsilon']}")
    answer = t.box.run("beta", "query", "SELECT COUNT(*) FROM e WHERE age <> 201", "--purpose", "DUO:0000006", "--error", "5%", "--assume-n", "200")
    ok(9.9 < answer["margin95"][0][0] <= 10, "--error 5% --assume-n 200 one of at most 10")
    before = t.account("e")["rho_left"]
    code, answer, _ = t.box.try_run("beta", "query", "SELECT COUNT(*) FROM e", "--purpose", "DUO:0000006", "--error", "1", "--explain")
    text = answer["error"]["detail"]
    ok(code == 4 and "needs epsilon" in text and "--error " in text, f"what a question may not cost is refused, with what would do: {text}")
    offer = text.split("--error ")[1].split()[0]
    answer = t.box.run("beta", "query", "SELECT COUNT(*) FROM e", "--purpose", "DUO:0000006", "--error", offer, "--explain")
    ok(answer["wanted"]["epsilon"] <= 2 and answer["expected"][0]["margin95"] <= float(offer), "the offer is right")
    ok(near(t.account("e")["rho_left"], before), "and nothing was spent for these")
    for args in (["--error", "x"], ["--error", "-1"], ["--error", "0x10"], ["--error", "%"], ["--error", "5", "--epsilon", "1"], ["--assume-n", "10"]):
        ok(t.box.refusal("beta", "query", "SELECT COUNT(*) FROM e", *args)[0] == 2, f"{' '.join(args)}: usage")


def windows(t):
    t.put(manifest("w", 8, extra="budget: {window: 30d, epsilon_per_window: 1}\n"))
    codes = [t.ask("beta", "w")[0] for _ in range(5)]
    ok(codes[0] == 0 and 5 in codes, "a window limits what a month may take")
    _, answer, _ = t.ask("beta", "w")
    detail = answer["error"]["sites"][0]["detail"]
    ok("the next one opens at 20" in detail, f"the refusal says when it opens: {detail}")
    ok(t.account("w")["window"]["rho_left"] < RHO and t.account("w")["rho_left"] > 1, "the account shows both")


def domains(t):
    t.put(manifest("s", 8, extra="budget: {domain: staff}\n"))
    path = os.path.join(t.box.home("alpha"), "node.yaml")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace("  project_share: 1\n", "  project_share: 1\n  domains:\n    - {name: staff, epsilon_total: 1, delta: 1e-6}\n"))
    os.kill(t.box.pid("alpha"), signal.SIGHUP)

    def staff():
        return [d for d in t.box.run("alpha", "budget")["domains"] if d["domain"] == "staff"][0]
    ok(t.box.wait("the domain is declared", lambda: staff()["declared"]) is not None, "SIGHUP declares a domain's budget")
    codes = [t.ask("beta", "s")[0] for _ in range(6)]
    _, answer, _ = t.ask("gamma", "s")
    ok(codes[0] == 0 and codes[-1] == 5 and "domain" in answer["error"]["sites"][0]["detail"], "which binds all who ask, whatever the dataset has")
    ok(staff()["rho_left"] < RHO, "and is spent")
    path = t.box.write("moved.yaml", manifest("s", 8, version="2"))
    code, error = t.box.refusal("alpha", "dataset", "update", path)
    ok(code == 4 and "domain" in error["message"] + error.get("detail", ""), "a dataset that was charged cannot leave its domain")
    t.restart()
    ok(staff()["rho_left"] < RHO and staff()["declared"], "after a restart it is as it was")


def renewed(t):
    text = manifest("r", 2, extra="budget: {domain: staff2}\n").replace("delta: 1e-6}", "delta: 1e-6, window: 365d}")
    code, error = t.box.refusal("alpha", "dataset", "import", t.box.write("m.yaml", text), "--data", t.data)
    ok(code == 4 and "declare the domain staff2" in error["detail"], f"a budget that comes back needs a bound over all time: {error['detail'][-90:]}")
    path = os.path.join(t.box.home("alpha"), "node.yaml")
    with open(path, encoding="utf-8") as file:
        yaml = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(yaml.replace("    - {name: staff,", "    - {name: staff2, epsilon_total: 20, delta: 1e-6}\n    - {name: staff,"))
    os.kill(t.box.pid("alpha"), signal.SIGHUP)
    ok(t.box.wait("declared", lambda: any(d["domain"] == "staff2" for d in t.box.run("alpha", "budget")["domains"])) is not None, "once its domain is declared")
    t.put(text.replace('version: "1"', 'version: "2"'))
    account = t.account("r")
    ok(account["rho_total"] > 2 and 0.08 < account["window"]["rho_total"] < 0.1, "the window takes epsilon 2, all windows what the domain has")
    codes = [t.ask("beta", "r")[0] for _ in range(15)]
    _, answer, _ = t.ask("beta", "r")
    ok(codes[0] == 0 and codes[-1] == 5 and "opens at" in answer["error"]["sites"][0]["detail"], "this year's is spent, and the refusal says when the next begins")


def main():
    with Sandbox("alpha,beta,gamma") as box:
        t = Test(box)
        began = time.monotonic()
        for part in (spending, exhausted, survives, wanted, windows, domains, renewed):
            note(part.__name__)
            part(t)
        note(f"{time.monotonic() - began:.0f} s")
    done()


main()
