#!/usr/bin/env python3
"""The catalogue: search by words, columns, licence, permission, disease, size and age; what this node could do with each dataset and why not,
which is what a question to the site gets; the terms in ODRL, Croissant and DCAT."""
import json
import os

from harness import Sandbox, done, ok

COLUMNS = "  - {name: age, type: integer, min: 0, max: 110}\n  - {name: creatinine, type: real, min: 0, max: 15, ucum: \"mg/dL\", code: \"LOINC:2160-0\"}\n"


def manifest(name, title, size, spdx, permission, more="", top=""):
    return f"""dataset: {name}
version: "1"
title: {title}
size: {size}
columns:
{COLUMNS}licence:
  spdx: {spdx}
  expires: 2031-12-31
{top}  grants:
    - permission: {permission}
{more}      actions: [count, mean]
      min_cohort: 2
      privacy: {{epsilon_total: 20, epsilon_per_query: 1}}
"""


def publish(box):
    rows = box.write("rows.csv", "age,creatinine\n" + "".join(f"{i % 90},{i % 10}\n" for i in range(300)))
    melanoma = '      disease: ["MONDO:0005105"]\n'
    strict = '      modifiers: [{code: NPU}, {code: MOR, params: ["2030-01-01"]}, {code: IRB}, {code: GS, params: [DE]}]\n'
    for node, text in [("alpha", manifest("kidneys", "Kidney function", 5000, "CC-BY-4.0", "HMB")),
                       ("beta", manifest("moles", "Skin lesions", 200, "CC-BY-NC-4.0", "DS", melanoma)),
                       ("beta", manifest("strict", "Kidney donors", 20000, "CC0-1.0", "GRU", strict, "  geography: [DE, FR]\n  recipients: {institutions: [alpha]}\n"))]:
        box.run(node, "dataset", "import", box.write("m.yaml", text), "--data", rows)
    box.wait("the records", lambda: len(box.run("alpha", "catalog")["datasets"]) == 3)


def names(box, *args):
    return sorted(d["dataset"] for d in box.run("alpha", "catalog", *args)["datasets"])


def search(box):
    for args, wanted in [((), ["kidneys", "moles", "strict"]), (("kidney",), ["kidneys", "strict"]), (("KIDNEY donors",), ["strict"]), (("creatinine",), ["kidneys", "moles", "strict"]),
                         (("LOINC:2160",), ["kidneys", "moles", "strict"]), (("melanoma",), ["moles"]), (("nothing such",), []), (("--column", "age,creatinine"), ["kidneys", "moles", "strict"]),
                         (("--column", "age,sex"), []), (("--licence", "CC-BY-NC-4.0"), ["moles"]), (("--permission", "DUO:0000007"), ["moles"]), (("--permission", "HMB"), ["kidneys"]),
                         (("--disease", "MONDO:0006486"), ["kidneys", "moles", "strict"]), (("--disease", "MONDO:0004992"), ["kidneys", "strict"]), (("--size", "1000"), ["kidneys", "strict"]),
                         (("--node", "beta"), ["moles", "strict"]), (("--since", "2020-01-01"), ["kidneys", "moles", "strict"]), (("--since", "2100-01-01"), [])]:
        ok(names(box, *args) == wanted, f"catalog {' '.join(args)}: {wanted}")
    one = next(d for d in box.run("alpha", "catalog")["datasets"] if d["dataset"] == "moles")
    ok(one["size_class"] == "100-1k" and one["column_names"] == ["age", "creatinine"] and one["licence"]["diseases"] == ["MONDO:0005105"], "size class, columns and diseases are told")
    for args in [("--permission", "XYZ"), ("--disease", "MONDO"), ("--permission", "IRB")]:
        ok(box.refusal("alpha", "catalog", *args)[0] == 2, f"catalog {' '.join(args)} is refused")


def mine(box):
    """The catalogue's verdict is what the site then says."""
    for purpose, extra in [("DUO:0000006", ()), ("DUO:0000042", ()), ("DUO:0000007", ("--disease", "MONDO:0006486")), ("DUO:0000042", ("--ethics", "EK", "--ethics-until", "2031-01-01"))]:
        for dataset in box.run("alpha", "catalog", "--mine", "--purpose", purpose, *extra)["datasets"]:
            you = dataset["you"][0]
            code, answer, text = box.try_run("alpha", "query", f"SELECT COUNT(*) FROM {dataset['dataset']}", "--purpose", purpose, "--epsilon", "0.5", *extra)
            reason = next((d["reason"] for d in you["deny"] if d["action"] == "count"), None)
            ok((code == 0) == ("count" in you["permit"]) and (reason is None or reason in text), f"{dataset['dataset']} for {purpose} {' '.join(extra[:1])}: {reason or 'permitted'}, and so says the site")
    one = next(d for d in box.run("beta", "catalog", "strict", "--mine")["datasets"])
    ok(all(not you["permit"] for you in one["you"]) and one["you"][0]["deny"][0]["reason"] == "RECIPIENT", "without a purpose each one is tried; beta is no recipient of its own strict set")


def vocabularies(box):
    odrl = box.run("alpha", "licence", "show", "strict", "--as", "odrl")
    permission = odrl["permission"][0]
    constraints = [(c["leftOperand"], c["operator"]) for c in permission["constraint"]]
    ok(odrl["@type"] == "Offer" and odrl["conflict"] == "prohibit" and odrl["uid"].startswith("urn:concordat:record:"), "ODRL: an offer under which prohibitions win")
    ok({("purpose", "isA"), ("spatial", "isAnyOf"), ("recipient", "isAnyOf"), ("dateTime", "lt")} <= set(constraints), f"purpose, places, recipients and time: {constraints}")
    ok(permission["assignee"]["refinement"][0]["rightOperand"] == "duodrl:NonProfitOrganisation" and any("assignee" in p for p in odrl["prohibition"]), "NPU: non-profits may, for-profits may not")
    ok({"action": "duodrl:ProvideEthicalApproval"} in permission["duty"], "IRB: a duty")
    ok(any(p["target"] == "duodrl:ResultsOfStudies" and p["constraint"][0]["rightOperand"] == "2030-01-01" for p in odrl["prohibition"]), "MOR: no distribution of results before the date")
    moles = box.run("alpha", "licence", "show", "moles", "--as", "odrl")
    ok({"leftOperand": "duodrl:Disease", "operator": "isAnyOf", "rightOperand": ["http://purl.obolibrary.org/obo/MONDO_0005105"]} in moles["permission"][0]["constraint"], "DS: the disease by its address")
    croissant = box.run("alpha", "licence", "show", "kidneys", "--as", "croissant")
    ok(croissant["@type"] == "sc:Dataset" and "http://mlcommons.org/croissant/1.1" in croissant["conformsTo"] and croissant["license"] == "https://spdx.org/licenses/CC-BY-4.0", "Croissant 1.1 with the licence's address")
    missing = [key for key in ("@context", "description", "name", "url", "creator", "datePublished", "version") if not croissant.get(key)]
    ok(not missing and [f["dataType"] for f in croissant["recordSet"][0]["field"]] == ["sc:Integer", "sc:Float"], f"what it requires is there: {missing}")
    ok(croissant["rai:dataUseCases"] and any("Clinical care" in line for line in croissant["rai:dataLimitations"]), "RAI fields hold the licence's sentences")
    ok("odrl:Offer" in croissant["usageInfo"]["@type"], "and usageInfo the offer")
    dcat = box.run("alpha", "licence", "show", "kidneys", "--as", "dcat")
    ok(dcat["@type"] == "dcat:Dataset" and dcat["odrl:hasPolicy"]["@type"] == "Offer", "DCAT with its policy")
    ok(box.refusal("alpha", "licence", "show", "nowhere", "--as", "odrl")[0] == 3, "of a dataset that nobody knows: exit 3")


def drafts(box):
    """Descriptions of others become manifests that a site accepts, or that say what they lack."""
    corpus = os.path.join(os.environ["top_srcdir"], "tests", "fuzz", "corpus", "croissant")
    card = box.run("beta", "dataset", "draft", os.path.join(corpus, "card.md"))
    ok(card["needs"] is None and 'spdx: "CC-BY-SA-4.0"' in card["manifest"] and 'values: ["none", "yes, \\"typical\\""], source: "Chest Pain"' in card["manifest"], "a card: licence and labels")
    rows = box.write("pain.csv", 'age,Chest Pain,note\n' + '50,none,x\n61,"yes, ""typical""",y\n' * 20)
    answer = box.run("beta", "dataset", "import", box.write("draft.yaml", card["manifest"]), "--data", rows)
    ok(answer["rows"] == 40 and answer["deidentified"] == {"note": "drop"}, f"its draft imports: {answer['deidentified']}")
    code, _, text = box.try_run("beta", "query", "SELECT COUNT(*) FROM chest-pain-triage", "--purpose", "HMB", "--epsilon", "0.1")
    ok(code != 0 and ("HOLD" in text or "approv" in text), "and each use waits for the holder's yes")
    croissant = box.run("beta", "dataset", "draft", os.path.join(corpus, "croissant.json"))
    ok("DUO:0000014 is obsolete" in croissant["needs"] and 'spdx: "CC-BY-NC-4.0 AND ODbL-1.0"' in croissant["manifest"], "Croissant: two licences apply, an obsolete code is refused with what replaces it")
    own = box.write("own.json", json.dumps(box.run("alpha", "licence", "show", "kidneys", "--as", "croissant")))
    again = box.run("alpha", "dataset", "draft", own)
    ok(again["needs"] is None and '{name: "creatinine", type: real}' in again["manifest"] and 'spdx: "CC-BY-4.0"' in again["manifest"], "what this node exports becomes a draft again")
    path = os.path.join(os.path.dirname(own), "new.yaml")
    box.run("alpha", "dataset", "draft", own, "--out", path)
    ok(os.path.exists(path) and box.refusal("alpha", "dataset", "draft", own, "--out", path)[0] != 0, "--out writes a new file and never over one")
    for text in ["", "{", "[]", '{"@type": "sc:Person"}', "---\n- a\n---\n", "---\nlicense: &a mit\n---\n"]:
        ok(box.refusal("alpha", "dataset", "draft", box.write("bad", text))[0] == 7, f"{text!r} is refused")


def methods(box):
    """DUO lets methods development alone use data for one disease; a cautious site does not."""
    ask = ("query", "SELECT COUNT(*) FROM moles WHERE age < 50", "--purpose", "DUO:0000031", "--epsilon", "0.5")
    code, _, text = box.try_run("alpha", *ask)
    ok(code == 0, f"methods development alone on data for melanoma: exit {code} {text[:200]}")
    path = os.path.join(box.home("beta"), "node.yaml")
    with open(path, "a", encoding="utf-8") as file:
        file.write("methods_on_ds: deny\n")
    box.kill("beta")
    box.start()
    box.wait("beta", lambda: box.try_run("alpha", *ask)[0] != 6)
    code, _, text = box.try_run("alpha", *ask, "--sites", "beta")
    ok(code == 4 and "MODIFIER_NMDS" in text, f"methods_on_ds: deny refuses it: exit {code}")


def main():
    with Sandbox("alpha,beta") as box:
        publish(box)
        search(box)
        mine(box)
        vocabularies(box)
        drafts(box)
        methods(box)
    done()


main()
