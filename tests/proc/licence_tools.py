#!/usr/bin/env python3
"""The licence tools for people: explain, new, diff and compat; what a wrong word in a licence gets, with its place, and that nothing is published then."""
import json
import os
import subprocess

from harness import TOP, Sandbox, done, licence, ok

CONCORDAT = os.path.join(TOP, "concordat")

OLD = """licence:
  spdx: CC-BY-SA-4.0
  expires: 2027-12-31
  grants:
    - permission: DS
      disease: ["MONDO:0004992"]
      modifiers: [{code: NPU}]
      actions: [count, mean]
      privacy: {epsilon_total: 8}
"""


def tool(*args, text=None, json_=True):
    """Exit code, answer, standard error; needs no home and no daemon."""
    run = subprocess.run([CONCORDAT, *(["--json"] if json_ else []), *args], input=text, capture_output=True, text=True, timeout=30, check=False)
    return run.returncode, (json.loads(run.stdout) if json_ and run.stdout else run.stdout), run.stderr


def explain(box):
    code, answer, _ = tool("licence", "explain", box.write("old.yaml", OLD))
    grant = answer["licences"][0]["grants"][0]
    ok(code == 0 and "cancer (MONDO:0004992)" in grant["title"], grant["title"])
    ok(any("for-profit" in line for line in grant["forbids"]) and any("Training a model" in line for line in grant["forbids"]), "it says what is excluded")
    code, text, _ = tool("licence", "explain", box.write("old.yaml", OLD), json_=False)
    ok(code == 0 and "may not  Use by for-profit organisations." in text, "and prints it for people")
    answer = box.run("alpha", "licence", "explain", "marks")
    ok([one["source"] for one in answer["licences"]] == ["alpha"] and answer["licences"][0]["state"] == "valid", "of a dataset, from its record")
    code, error = box.refusal("alpha", "licence", "explain", "nowhere")
    ok(code == 3, f"of a dataset that nobody publishes: exit {code} {error.get('detail')}")


def diff(box):
    new = OLD.replace("CC-BY-SA-4.0", "CC-BY-4.0").replace("MONDO:0004992", "MONDO:0005105").replace("[count, mean]", "[count, mean, sum]").replace("modifiers: [{code: NPU}]", "min_cohort: 20")
    _, answer, _ = tool("licence", "diff", box.write("old.yaml", OLD), box.write("new.yaml", new))
    changes = {(c["clause"], c["change"]) for c in answer["changes"]}
    ok(changes == {("spdx", "wider"), ("grants[0].disease", "narrower"), ("grants[0].actions", "wider"), ("grants[0].modifiers NPU", "wider"), ("grants[0].min_cohort", "narrower")}, f"clause by clause: {sorted(changes)}")
    ok(answer["summary"] == "mixed", answer["summary"])
    _, answer, _ = tool("licence", "diff", box.write("old.yaml", OLD), box.write("same.yaml", OLD))
    ok(answer["summary"] == "same" and not answer["changes"], "the same licence")
    answer = box.run("alpha", "licence", "diff", "marks", box.write("old.yaml", OLD))
    ok(answer["old"] == "alpha" and ("grants[0].permission", "narrower") in {(c["clause"], c["change"]) for c in answer["changes"]}, "a dataset's record against a file")


def compat():
    _, answer, _ = tool("licence", "compat", "--release", "Apache-2.0", "CC-BY-SA-4.0", "CC-BY-4.0")
    conservative, text = answer["readings"]
    ok((conservative["train"], conservative["release"], text["release"]) == ("yes", "no", "yes"), "share-alike: no in the conservative reading, yes by the text")
    ok(conservative["release_decides"]["licence"] == "CC-BY-SA-4.0" and "section" in conservative["release_decides"]["clause"], f"the clause that decides: {conservative['release_decides']}")
    _, answer, _ = tool("licence", "compat", "CC-BY-SA-4.0", "CC-BY-NC-SA-4.0")
    ok(answer["readings"][0]["clash"] == "CC-BY-SA-4.0 x CC-BY-NC-SA-4.0", answer["readings"][0]["clash"])
    _, answer, _ = tool("licence", "compat", "NOASSERTION")
    ok(answer["readings"][0]["train"] == "no" and answer["readings"][0]["train_decides"]["licence"] == "NOASSERTION", "no licence, no training")
    code, _, text = tool("licence", "compat", "MIT", "Apache2", json_=False)
    ok(code == 7 and "column 1" in text and "Apache-2.0" in text, f"a wrong id: exit {code}, {text.strip()}")


def compat_of_data(box):
    """Manifests and datasets in place of expressions: what the model may be used for is what both permit."""
    teach = OLD.replace("[count, mean]", "[finetune]").replace("privacy: {epsilon_total: 8}", "privacy: {epsilon_total: 8, epsilon_per_job: 4}\n      finetune: {max_rounds: 10, release: public}")
    first = box.write("first.yaml", teach)
    second = box.write("second.yaml", teach.replace("CC-BY-SA-4.0", "CC-BY-NC-4.0").replace("MONDO:0004992", "MONDO:0005105").replace("{code: NPU}", "{code: NCU}"))
    code, answer, _ = tool("licence", "compat", first, second)
    model = answer["licences"][0]
    ok(code == 0 and answer["data"] == ["CC-BY-SA-4.0", "CC-BY-NC-4.0"] and "melanoma" in model["grants"][0]["title"], f"two manifests: the model is for {model['grants'][0]['title']}")
    ok(any("for-profit" in line for line in model["grants"][0]["forbids"]) and any("Commercial" in line for line in model["grants"][0]["forbids"]), "with both restrictions")
    ok(answer["model_release"] == "federation" and answer["readings"][0]["clash"] == "CC-BY-SA-4.0 x CC-BY-NC-4.0", f"their data licences clash: {answer['model_capped']}")
    _, answer, _ = tool("licence", "compat", first, "MIT")
    ok("licences" not in answer and answer["data"] == ["CC-BY-SA-4.0", "MIT"], "an expression has no purposes to tell")
    _, answer, _ = tool("licence", "compat", first, box.write("third.yaml", OLD))
    ok(answer["licences"][0]["about"] and any("nobody" in line.lower() or "no institution" in line.lower() for line in answer["licences"][0]["about"]), f"data that may not be learnt from: {answer['licences'][0]['about']}")
    answer = box.run("alpha", "licence", "compat", "marks", first)
    ok(len(answer["data"]) == 2, "a dataset by its name")
    code, _, text = tool("licence", "compat", "mit", json_=False)
    ok(code == 7 and "MIT" in text, f"what is neither: {text.strip()}")
    code, text, _ = tool("licence", "compat", first, second, json_=False)
    ok(code == 0 and "release: federation, because" in text and "use of the model" in text, "and for people")


def new(box):
    answers = "spdx: CC-BY-4.0\nexpires: 2031-12-31\npermission: DS\ndisease: MONDO:0004992\nuse: both\ngeography: EU\nethics: yes\nembargo: 2027-01-01\ntraining: yes\ncontact: dac@example.org\n"
    path = box.write("answers", answers)
    code, block, _ = tool("licence", "new", "--answers", path, json_=False)
    ok(code == 0 and "DUO:0000018" in block and "DUO:0000021" in block and "2027-01-01" in block, "a block from answers")
    manifest = "dataset: fresh\nversion: \"1\"\ncolumns:\n  - {name: a, type: integer, min: 0, max: 9}\n" + block
    imported = box.run("alpha", "dataset", "import", box.write("fresh.yaml", manifest), "--data", box.write("fresh.csv", "a\n1\n2\n"))
    ok(imported["rows"] == 2, "that `dataset import` takes")
    asking = answers + "visa: ControlledAccessGrants\nvisa_value: https://example.org/set/1\nvisa_issuers: alpha, beta\nvisa_by: dac\n"
    code, block, _ = tool("licence", "new", "--answers", box.write("answers", asking), json_=False)
    ok(code == 0 and "type: ControlledAccessGrants" in block and 'issuers: ["alpha", "beta"]' in block and 'by: ["dac"]' in block, "one that asks for a visa")
    manifest = "dataset: seen\nversion: \"1\"\ncolumns:\n  - {name: a, type: integer, min: 0, max: 9}\n" + block
    box.run("alpha", "dataset", "import", box.write("seen.yaml", manifest), "--data", box.write("seen.csv", "a\n1\n2\n"))
    ok(box.run("alpha", "licence", "show", "seen")["licences"][0]["grants"][0]["visas"] == [{"type": "ControlledAccessGrants", "value": "https://example.org/set/1", "by": ["dac"], "issuers": ["alpha", "beta"]}], "which the licence record has")
    for line, wrong, near in [("visa: ControlledAccessGrants", "visa: ControledAccessGrants", "ControlledAccessGrants"), ("visa_by: dac", "visa_by: dc", "dac"), ("visa_value: https://example.org/set/1", "", "visa_value")]:
        code, _, text = tool("licence", "new", "--answers", box.write("wrong", asking.replace(line, wrong)), json_=False)
        ok(code == 7 and near in text, f"{wrong or 'no value'}: exit {code}, names {near}")
    for line, wrong, near in [("spdx: CC-BY-4.0", "spdx: CC-BY", "CC-BY-4.0"), ("geography: EU", "geography: Germany", "DE"), ("disease: MONDO:0004992", "disease: MONOD:0004992", "MONDO"),
                              ("expires: 2031-12-31", "expires: 2031-02-30", "YYYY-MM-DD"), ("permission: DS", "permission: DSS", "DS"), ("use: both", "use: nonprofits", "nonprofit"), ("ethics: yes", "ehtics: yes", "ethics")]:
        code, _, text = tool("licence", "new", "--answers", box.write("wrong", answers.replace(line, wrong)), json_=False)
        number = answers.split("\n").index(line) + 1
        ok(code == 7 and f":{number}:" in text and near in text, f"{wrong}: exit {code}, line {number}, names {near}")
    typed = "CC-BY\nCC-BY-4.0\n2031-12-31\n" + "\n" * 20
    run = subprocess.run([CONCORDAT, "licence", "new"], input=typed, capture_output=True, text=True, timeout=30, check=False)
    ok(run.returncode == 0 and "the nearest is CC-BY-4.0" in run.stderr and "spdx: CC-BY-4.0" in run.stdout, "on a terminal it asks again")


def wrong_manifests(box):
    """Each wrong word is named with its place and the nearest right one; nothing is published."""
    good = "dataset: wrong\nversion: \"1\"\ncolumns:\n  - {name: age, type: integer, min: 0, max: 110}" + licence(actions="count, mean", extra="").replace("finetune: {max_rounds: 200, release: federation}", "columns: [age]")
    for old, wrong, near in [("spdx: CC-BY-4.0", "spdx: CC-BY-4.0 AND Apache2", "Apache-2.0"), ('permission: "DUO:0000006"', 'permission: "DUO:0000066"', "DUO:0000006"),
                             ("columns: [age]", "columns: [agee]", "age"), ("actions: [count, mean]", "actions: [count, maen]", "mean"),
                             ("columns: [age]", 'modifiers: [{code: GS, params: [UK]}]', "GB"), ("columns: [age]", 'modifiers: [{code: MOR, params: [soon]}]', "YYYY-MM-DD"),
                             ("columns: [age]", "modifiers: [{code: NPUU}]", "NPU"), ("columns: [age]", "modifiers: [{code: GS}]", "at least one"),
                             ("columns: [age]", 'modifiers: [{code: "DUO:0000005"}]', "DUO:0000042"),
                             ("expires: 2031-12-31", "expires: 2031-12-31\n  geography: [DEE]", "DE"), ("expires: 2031-12-31", "expires: 2031-13-01", "expires"),
                             ("expires: 2031-12-31", "expires: 2031-12-31\n  obligations: [{id: atribution}]", "attribution"),
                             ('permission: "DUO:0000006"', 'permission: "DUO:0000007"\n      disease: ["MONDO:499"]', "MONDO:0004992")]:
        text = good.replace(old, wrong)
        assert text != good, old
        code, error = box.refusal("alpha", "dataset", "import", box.write("wrong.yaml", text), "--data", box.write("wrong.csv", "age\n1\n2\n"))
        detail = error.get("detail", "")
        ok(code in (4, 7) and "wrong.yaml:" in detail and near in detail, f"{' '.join(wrong.split())[:60]}: exit {code}, {detail[-120:]}")
    ok(not [d for d in box.run("alpha", "catalog")["datasets"] if d["dataset"] == "wrong"], "nothing was published")


def main():
    with Sandbox("alpha,beta") as box:
        manifest = "dataset: marks\nversion: \"1\"\ncolumns:\n  - {name: a, type: integer, min: 0, max: 9}\n" + licence()
        box.run("alpha", "dataset", "import", box.write("m.yaml", manifest), "--data", box.write("m.csv", "a\n1\n2\n3\n"))
        explain(box)
        diff(box)
        compat()
        compat_of_data(box)
        new(box)
        wrong_manifests(box)
    done()


main()
