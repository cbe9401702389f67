#!/usr/bin/env python3
"""Three nodes do the main job; each requirement that can be seen from outside is looked at once."""

import os
import time

from harness import Refused, Sandbox, done, licence, ok

COLUMNS = """
  - {name: age, type: integer, min: 50, max: 110, deidentify: age90}
  - {name: sex, type: category, values: [F, M]}
  - {name: kappa, type: real, min: 0, max: 10}
  - {name: lambda, type: real, min: 0, max: 10}
  - {name: flc_group, type: integer, min: 1, max: 10, source: flc.grp}
  - {name: creatinine, type: real, min: 0, max: 5, missing: ["", NA]}
  - {name: mgus, type: boolean}
  - {name: futime, type: integer, min: 0, max: 6000}
  - {name: death, type: boolean}
"""


def manifest(name, terms):
    return f"dataset: {name}\nversion: \"1\"\ntitle: Test table\nsize: 2500\ncolumns:{COLUMNS}{terms}"


def spendable(box):
    """What is left of every site's budget."""
    return [box.run(name, "budget", "flchain")["budget"][0]["rho_left"] for name in box.names]


def main():
    began = time.monotonic()
    with Sandbox("alpha,beta,gamma") as box:
        took = time.monotonic() - began
        ok(took < 10, f"create and start of three nodes took {took:.1f} s, less than 10")
        peers = box.run("alpha", "peers")
        ok(len(peers) == 3 and all(p["state"] in ("self", "up") for p in peers), "every peer is up")

        split = box.run("alpha", "sandbox", "split", os.path.join(os.environ["top_srcdir"], "deploy/demo-files/data/flchain.csv"), "--into", box.dir)
        ok(sum(part["rows"] for part in split["parts"]) == 7874, "split keeps every row")
        wide = box.write("wide.yaml", manifest("flchain", licence(epsilon_total=1000000, per_query=10000)))
        rows = 0
        for name in box.names:
            report = box.run(name, "dataset", "import", wide, "--data", f"{box.dir}/{name}.csv")
            rows += report["rows"]
            ok(report["rejected"] == 0 and report["deidentified"]["age"] == "age90", f"{name} imports {report['rows']} rows")
        ok(rows == 7874, "all rows were imported")
        seen = box.wait("catalogue", lambda: all(len(box.run(n, "catalog")["datasets"]) == 3 for n in box.names))
        ok(seen is not None, f"every node knows all three datasets after {seen or 0:.1f} s")

        sql = "SELECT sex, COUNT(*), AVG(creatinine) FROM flchain GROUP BY sex"
        first = box.run("beta", "query", sql, "--purpose", "DUO:0000006", "--epsilon", "0.5")
        again = box.run("beta", "query", "select sex, count(*), avg(creatinine) from flchain group by sex;", "--purpose", "DUO:0000006", "--epsilon", "0.5")
        ok(first["replayed"] is False and again["replayed"] is True, "the same question in other words is replayed")
        ok(first["rows"] == again["rows"] and again["cost"]["rho"] == 0, "with the same numbers, at no cost")
        left = [b["rho_left"] for b in first["budget"]]
        ok(left == [b["rho_left"] for b in again["budget"]], "and the budget stands as before")
        ok(abs(first["cost"]["rho"] - 0.006641525) < 2e-9, f"epsilon 0.5 at delta 1e-6 costs rho {first['cost']['rho']}")
        explained = box.run("alpha", "query", "SELECT SUM(kappa) FROM flchain", "--purpose", "DUO:0000006", "--epsilon", "1", "--explain")
        ok(explained["rows"] == [] and [b["rho_left"] for b in explained["budget"]] == left, "--explain spends nothing")

        code, error = box.refusal("gamma", "query", "SELECT COUNT(*) FROM flchain", "--purpose", "DUO:0000042")
        ok(code == 4 and {s.get("reason") for s in error.get("sites", [])} == {"PURPOSE"}, "the wrong purpose is refused: exit 4, PURPOSE")
        code, error = box.refusal("gamma", "query", "SELECT COUNT(*) FROM flchain", "--purpose", "DUO:0000006", "--mode", "secure")
        ok(code == 4 and error.get("code") == "UNSUPPORTED", "--mode secure is refused, not weakened")
        code, error = box.refusal("gamma", "query", "SELECT AVG(creatinin) FROM flchain", "--purpose", "DUO:0000006")
        ok(code == 3 and error.get("detail") == "at character 12: there is no column 'creatinin'; did you mean 'creatinine'?", "a misspelt column: exit 3, its place and the right name")
        ok("sites" not in error and all(q["query_id"].strip("0") for q in box.run("gamma", "queries")), "nobody was asked, so no site is said to have answered")
        left = spendable(box)
        asked = len(box.run("beta", "queries"))
        for wish, sites in ((4, box.names), (2, ["alpha"])):
            code, error = box.refusal("beta", "query", "SELECT AVG(kappa) FROM flchain", "--purpose", "DUO:0000006", "--min-sites", wish, "--sites", ",".join(sites))
            ok(code == 6 and f"{len(sites)} of those in --sites hold" in error["detail"] and "sites" not in error,
               f"more institutions than hold the data: exit 6, and nobody is asked: {error.get('detail')}")
        ok(spendable(box) == left and len(box.run("beta", "queries")) == asked, "no site charged it, and it is no question of this node's")
        for picture in ("absent/x.svg", "."):
            code, error = box.refusal("beta", "query", "SELECT sex, SUM(kappa) FROM flchain GROUP BY sex", "--purpose", "DUO:0000006", "--svg", os.path.join(box.folder, picture))
            ok(code == 7 and "--svg" in error.get("detail", ""), f"a picture that cannot be written: exit {code}, {error.get('detail')}")
        ok(spendable(box) == left, "and that was seen before anything was asked")
        code, error = box.refusal("gamma", "query", "SELECT COUNT(*) FROM flchian", "--purpose", "DUO:0000006")
        ok(code == 3 and "did you mean flchain?" in error.get("detail", ""), f"a misspelt dataset: exit 3, and the right name: {error.get('detail')}")
        code, error = box.refusal("gamma", "query", "SELECT MEDIA(age) FROM flchain", "--purpose", "DUO:0000006")
        ok(code == 2 and "did you mean MEDIAN?" in error.get("detail", ""), "a misspelt aggregate: exit 2, and the right name")

        flood = "SELECT COUNT(*) FROM flchain WHERE age IN (" + ",".join(["50"] * 40000) + ")"
        code, error = box.refusal("gamma", "query", flood, "--purpose", "DUO:0000006")
        ok(code == 2 and "at most 8192 bytes" in error.get("detail", ""), f"40,000 constants are refused by a limit, which is named: exit {code}, {error.get('detail')}")

        tight = box.write("tight.yaml", manifest("tight", licence(epsilon_total=2, per_query=2)))
        box.run("alpha", "dataset", "import", tight, "--data", f"{box.dir}/alpha.csv")
        spent = []
        for i in range(20):
            code, answer, _ = box.try_run("alpha", "query", f"SELECT COUNT(*) FROM tight WHERE futime > {i}", "--purpose", "DUO:0000006", "--epsilon", "0.8")
            spent.append(code)
            if code:
                break
        before = box.run("alpha", "budget", "tight")["budget"][0]
        code, error = box.refusal("alpha", "query", "SELECT COUNT(*) FROM tight WHERE futime > 999", "--purpose", "DUO:0000006", "--epsilon", "0.8")
        after = box.run("alpha", "budget", "tight")["budget"][0]
        ok(spent[0] == 0 and spent[-1] == 5 and code == 5, f"the budget ends: exit codes {spent}")
        ok(before == after, "a refused question spends nothing")
        times = [q["time"] for q in box.run("alpha", "queries")]
        ok(len(times) > 2 and times == sorted(times, reverse=True), "questions are listed newest first")

        box.run("gamma", "licence", "withdraw", "flchain", "--reason", "test")
        heard = box.wait("withdrawal", lambda: [d["licence"]["state"] for d in box.run("alpha", "catalog")["datasets"] if d["node"] == "gamma"] == ["withdrawn"])
        ok(heard is not None, "the withdrawal is heard by others")
        answer = box.run("alpha", "query", "SELECT SUM(lambda) FROM flchain", "--purpose", "DUO:0000006", "--epsilon", "1")
        states = {s["node"]: (s["status"], s.get("reason")) for s in answer["sites"]}
        ok(states["gamma"] == ("refused", "REVOKED") and states["beta"][0] == "answered", f"and takes effect at once: {states}")

        told = box.run("gamma", "query", "SELECT COUNT(*) FROM flchain WHERE sex = 'f'", "--purpose", "DUO:0000006", "--explain")
        ok(told["warnings"] == ["at character 42: 'f' is not a value of 'sex'; did you mean 'F'?"], f"a value that the column does not have is told: {told['warnings']}")

        box.kill("beta")
        answer = box.run("alpha", "query", "SELECT SUM(futime) FROM flchain", "--purpose", "DUO:0000006", "--epsilon", "1", "--timeout", "3s")
        states = {s["node"]: s["status"] for s in answer["sites"]}
        ok(states["beta"] == "unreachable" and states["alpha"] == "answered", "a node that does not answer is named")
        code, error = box.refusal("alpha", "query", "SELECT SUM(age) FROM flchain", "--purpose", "DUO:0000006", "--timeout", "3s", "--min-sites", "3")
        asked = {s["node"]: s["status"] for s in error.get("sites", [])}
        ok(code in (4, 6) and asked == {"alpha": "answered", "beta": "unreachable", "gamma": "refused"}, f"a site that is away holds the data, so all are asked; too few answer: exit {code}, {asked}")
        code, error = box.refusal("alpha", "query", "SELECT SUM(age) FROM flchain", "--purpose", "DUO:0000006", "--min-sites", "0")
        ok(code == 2 and "--min-sites" in error.get("detail", ""), f"no site at all is no wish: exit {code}")
        many = ",".join(["beta"] * 257)
        code, error = box.refusal("alpha", "query", "SELECT SUM(age) FROM flchain", "--purpose", "DUO:0000006", "--sites", many)
        ok(code == 2 and "at most 256 names" in error.get("detail", ""), f"of too many sites none is passed over: exit {code}, {error.get('detail', '')}")
        code, error = box.refusal("alpha", "revoke", "alpha", "--reason", "by mistake")
        ok(code == 4 and "only seat" in error.get("detail", ""), f"the council's only seat is not given up: exit {code}, {error.get('detail', '')[:60]}")
        box.run("alpha", "dataset", "update", box.write("new.yaml", manifest("tight", licence(epsilon_total=3, per_query=1))))
        box.start()
        caught = box.wait("catching up", lambda: [d["budget"]["epsilon_total"] for d in box.run("beta", "catalog")["datasets"] if d["dataset"] == "tight"] == [3.0], 10)
        ok(caught is not None, f"a node that was down catches up {caught or 0:.1f} s after it is back")

        for name in box.names:
            report = box.run(name, "audit", "verify")
            ok(report["ok"] and report["entries"] > 0, f"{name}'s audit chain of {report['entries']} entries verifies beside its daemon")
        ok({row["peer"] for row in box.run("beta", "audit", "egress") if row["kind"] == "answer"} <= {"alpha", "beta", "gamma"}, "egress names who got answers")
        export = os.path.join(box.folder, "export")
        box.run("alpha", "audit", "export", export)
        ok(box.run("alpha", "audit", "verify", "--file", export)["ok"], "an export verifies")
        with open(export, "r+b") as file:
            file.seek(os.path.getsize(export) // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        ok(box.refusal("alpha", "audit", "verify", "--file", export)[0] == 8 or box.try_run("alpha", "audit", "verify", "--file", export)[0] == 8, "a changed byte in it: exit 8")
    done()


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
