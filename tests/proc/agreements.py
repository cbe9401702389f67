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


# What a modifier asks of the requester has to reach the site, or nobody could ever satisfy it.
STRICT = MANIFEST.replace("dataset: tumours", "dataset: strict").replace("DUO:0000007", "DUO:0000042").replace('      disease: ["MONDO:0004992"]\n', """      modifiers:
        - {code: "DUO:0000044"}
        - {code: "DUO:0000015"}
        - {code: "DUO:0000021"}
        - {code: "DUO:0000019"}
""")


def purposes(box):
    """Research types, ethics approval and promises, as the query states them and as `licence check` does."""
    box.run("alpha", "dataset", "import", box.write("s.yaml", STRICT), "--data", box.write("s.csv", "age\n" + "".join(f"{i % 90}\n" for i in range(400))))
    given = ["--research", "control-set", "--ethics", "EK 12/26", "--ethics-until", "2031-01-01", "--accept", "publish"]
    without = lambda option: [x for i in range(0, len(given), 2) if given[i] != option for x in given[i:i + 2]]
    without_ethics = [x for i in range(0, len(given), 2) if "ethics" not in given[i] for x in given[i:i + 2]]
    cases = [(given, None), (without("--research"), "MISSING_RESEARCH"), (without_ethics, "MISSING_ETHICS"), (without("--accept"), "MODIFIER_PUB"),
             (["--research", "methods"] + without("--research"), "MODIFIER_NMDS"), (["--research", "ancestry"] + without("--research"), "MODIFIER_NPOA"),
             (without_ethics + ["--ethics", "EK 12/26", "--ethics-until", "2020-01-01"], "MODIFIER_IRB")]
    for options, reason in cases:
        code, answer, text = box.try_run("beta", "query", "SELECT COUNT(*) FROM strict", "--purpose", "DUO:0000042", "--epsilon", "0.5", *options)
        ok(code == (4 if reason else 0) and (not reason or reason in text), f"the site hears of it: {reason or 'permitted'}, exit {code}")
        site = box.run("beta", "licence", "check", "strict", "--purpose", "DUO:0000042", "--action", "count", *options)["sites"][0]
        ok(site["reason"] == (reason or "NONE"), f"licence check decides on the same request: {site['reason']}")
    for option, wrong, right in [("--research", "method", "methods"), ("--accept", "publsh", "publish"), ("--disease", "MONOD:0004992", "MONDO")]:
        code, _, text = box.try_run("beta", "query", "SELECT COUNT(*) FROM strict", "--purpose", "DUO:0000042", option, wrong)
        ok(code == 2 and right in text, f"{option} {wrong}: exit {code}, names {right}")


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
        purposes(box)
        box.kill("alpha")
        box.kill("beta")
        ontology(box, "")
        box.start()
        ok(ask(box, BREAST)[0] == 0 and ask(box, DIABETES)[0] == 4, "a node whose operator names no hierarchy uses the shipped one")
        box.kill("alpha")
        box.kill("beta")
        ontology(box, "ontology: none\n")
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
