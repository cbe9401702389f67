#!/usr/bin/env python3
"""Licences for diseases, decided with the hierarchy that node.yaml names: what lies below a listed disease is permitted, what lies
beside or above it is not, and without the hierarchy only what is listed."""
import os

from harness import Sandbox, done, ok

# MONDO (CC BY 4.0): breast and lung cancer below cancer, type 2 diabetes beside it, all below disease.
HIERARCHY = "MONDO:0004992\tMONDO:0000001\nMONDO:0005148\tMONDO:0000001\nMONDO:0007254\tMONDO:0004992\nMONDO:0008903\tMONDO:0004992\n"
CANCER, BREAST, LUNG, DIABETES, ANY = "MONDO:0004992", "MONDO:0007254", "MONDO:0008903", "MONDO:0005148", "MONDO:0000001"

MANIFEST = """dataset: tumours
version: "1"
size: 400
columns:
  - {name: age, type: integer, min: 0, max: 110}
licence:
  spdx: CC-BY-4.0
  expires: 2031-12-31
  grants:
    - permission: "DUO:0000007"
      disease: ["MONDO:0004992"]
      actions: [count, mean]
      min_cohort: 2
      privacy: {epsilon_total: 50, epsilon_per_query: 1, delta: 1e-6}
"""


def ask(box, disease):
    """The node's own verdict, as exit code and reason."""
    args = ["query", "SELECT COUNT(*) FROM tumours", "--purpose", "DUO:0000007", "--epsilon", "0.5"] + (["--disease", disease] if disease else [])
    code, answer, text = box.try_run("alpha", *args)
    return code, text


def check(box, disease):
    answer = box.run("alpha", "licence", "check", "tumours", "--purpose", "DUO:0000007", "--action", "count", "--disease", disease)
    return [(site["verdict"], site["reason"]) for site in answer["sites"]]


def ontology(box, line):
    for name in box.names:
        path = os.path.join(box.home(name), "node.yaml")
        with open(path, encoding="utf-8") as file:
            text = "".join(row for row in file if not row.startswith("ontology:"))
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + line)


def main():
    with Sandbox("alpha,beta", start=False) as box:
        hierarchy = box.write("mondo.tsv", HIERARCHY)
        ontology(box, f"ontology: {hierarchy}\n")
        box.start()
        box.run("alpha", "dataset", "import", box.write("m.yaml", MANIFEST),
                "--data", box.write("rows.csv", "age\n" + "".join(f"{i % 90}\n" for i in range(400))))
        for disease, permitted in [(CANCER, True), (BREAST, True), (LUNG, True), (DIABETES, False), (ANY, False), ("MONDO:9999999", False), (None, False)]:
            code, text = ask(box, disease)
            ok(code == (0 if permitted else 4), f"{disease} under a licence for cancer: exit {code}" + ("" if code in (0, 4) else text[-200:]))
            if disease:
                verdict = check(box, disease)
                ok((verdict[0][0] == "permit") == permitted, f"licence check says the same: {verdict}")
        box.kill("alpha")
        box.kill("beta")
        ontology(box, "")
        box.start()
        ok(ask(box, CANCER)[0] == 0, "without a hierarchy the listed disease is permitted")
        ok(ask(box, BREAST)[0] == 4, "and nothing else is")
        box.kill("alpha")
        ontology(box, "ontology: missing.tsv\n")
        code, _, text = box.try_run("alpha", "status")
        ok(code == 9, f"a node that is down says so: exit {code}")
        try:
            box.start(timeout=90)
            ok(False, "a node whose hierarchy is missing does not start")
        except Exception as error:  # pylint: disable=broad-except
            ok("ontology" in str(error) or "ontology" in box.log("alpha"), "a node whose hierarchy is missing does not start, and says why")
    done()


main()
