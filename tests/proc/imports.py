#!/usr/bin/env python3
"""Bringing data in, by the command: formats, de-identification and what the answer says of it."""
import gzip
import json
import os

from harness import Refused, Sandbox, done, licence, ok

HEAD = """dataset: clinic
version: "1"
size: 100
unit: patient
max_rows_per_unit: 4
columns:
  - {name: patient, type: text, deidentify: pseudonym}
  - {name: age, type: integer, min: 0, max: 110, deidentify: age90, quasi: true}
  - {name: sex, type: category, values: [F, M], quasi: true}
  - {name: zip, type: text, deidentify: zip3, quasi: true}
  - {name: seen, type: date, deidentify: dateshift}
  - {name: born, type: date, deidentify: year, birth: true}
  - {name: code, type: text, deidentify: generalise, table: icd.csv, level: 1, sensitive: true}
  - {name: weight, type: real, min: 0, max: 300, deidentify: bin, width: 10}
  - {name: note, type: text, deidentify: redact}
  - {name: name, type: text, deidentify: drop}
""" + licence(epsilon_total=100, per_query=10)

FIELDS = ["patient", "age", "sex", "zip", "seen", "born", "code", "weight", "note", "name"]


def rows(count, start=0):
    made = []
    for i in range(start, start + count):
        made.append([f"p{i:04}", 20 + i % 75, "FM"[i % 2], f"100{i % 10}1", f"2024-03-{1 + i % 28:02}", f"{2000 - i % 75}-05-06", ["A00.1", "B01.2"][i % 2],
                     400 if i == 3 else 60 + i % 40, f"seen by Dr House; tel 555-{1000 + i}", "House"])
    return made


def csv(table):
    return "\n".join([",".join(FIELDS)] + [",".join(map(str, row)) for row in table]) + "\n"


def ndjson(table):
    return "".join(json.dumps(dict(zip(FIELDS, row))) + "\n" for row in table)


def put(box, name, data):
    path = os.path.join(box.folder, name)
    with open(path, "wb") as file:
        file.write(data)
    return path


def partitions(box):
    return sorted(os.listdir(os.path.join(box.home("alpha"), "partitions")))


def formats(box, manifest):
    table = rows(200)
    answers = []
    for name, data in (("d.csv", csv(table).encode()), ("d.csv.gz", gzip.compress(csv(table).encode())), ("d.ndjson", ndjson(table).encode()),
                       ("d.jsonl.gz", gzip.compress(ndjson(table).encode()))):
        answers.append(box.run("alpha", "dataset", "import", manifest, "--data", put(box, name, data)))
    first = answers[0]
    ok(all(a["rows"] == 200 and a["rejected"] == 0 for a in answers), "CSV and NDJSON, packed and not, give 200 rows")
    ok(all(a[key] == first[key] for a in answers for key in ("clamped", "redacted", "blanked")), "and the same of everything else")
    ok(first["clamped"] == {"weight": 1}, f"one number out of bounds is counted: {first['clamped']}")
    ok(first["redacted"] == {"note": 400}, f"telephone numbers and names are counted: {first['redacted']}")
    harbor = {column: row["safe_harbor"] for column, row in first["safe_harbor"].items()}
    ok(harbor == {"patient": "yes", "age": "yes", "sex": "depends", "zip": "yes", "seen": "no", "born": "yes", "code": "depends", "weight": "depends",
                  "note": "no", "name": "yes"}, f"each column's standing under Safe Harbor is told: {harbor}")
    ok(len(first["tables"]) == 64, "the digest of the tables is told")
    shown = box.run("alpha", "licence", "show", "clinic")["licences"][0]
    ok("dateshift: no" in shown["deidentified"] and "zip3: yes" in shown["deidentified"], f"and stands in the licence record: {shown['deidentified']}")
    before = partitions(box)
    again = box.run("alpha", "dataset", "import", manifest, "--data", put(box, "d.csv", csv(rows(10)).encode()), "--dry-run")
    ok(again["rows"] == 10 and partitions(box) == before, "--dry-run tells what would come, and leaves all as it is")
    answer = box.run("alpha", "query", "SELECT sex, COUNT(*) FROM clinic WHERE weight >= 60 GROUP BY sex", "--purpose", "DUO:0000006", "--epsilon", "5")
    counts = {row[0]: row[1] for row in answer["rows"]}
    ok(all(abs(counts[sex] - 100) < 60 for sex in "FM"), f"what was imported is answered from: {counts}")


def separated(box):
    """The same rows as spreadsheets of other countries save them."""
    table = [row[:7] + [f"{row[7]}.5"] + row[8:] for row in rows(40)]
    plain = box.run("alpha", "dataset", "import", box.write("p.yaml", HEAD.replace("dataset: clinic", "dataset: separated").replace(", deidentify: bin, width: 10", "")),
                    "--data", put(box, "p.csv", csv(table).encode()))
    asked = "SELECT AVG(weight) FROM separated"
    before = box.run("alpha", "query", asked, "--purpose", "DUO:0000006", "--epsilon", "10")
    text = "\r\n".join(";".join(field.replace(";", "") for field in map(str, row)).replace(".5;", ",5;") for row in [FIELDS] + table) + "\r\n"
    yaml = HEAD.replace("dataset: clinic", "dataset: separated").replace(", deidentify: bin, width: 10", "")
    path = put(box, "s.csv", text.encode())
    code, error = box.refusal("alpha", "dataset", "import", box.write("s.yaml", yaml), "--data", path)
    ok(code == 7 and 'is it delimiter: ";"' in error["detail"], f"semicolons without a word of them: {error['detail']}")
    code, error = box.refusal("alpha", "dataset", "import", box.write("s.yaml", 'delimiter: ";"\n' + yaml), "--data", path)
    ok(code == 7 and "line 2, column weight: is not a number" in error["detail"], f"nor is 60,5 a number before that is said: {error['detail']}")
    other = box.run("alpha", "dataset", "import", box.write("s.yaml", 'delimiter: ";"\ndecimal: ","\n' + yaml), "--data", path)
    ok((other["rows"], other["rejected"], other["clamped"]) == (plain["rows"], 0, plain["clamped"]), f"with both it gives the same rows: {other['rows']}")
    after = box.run("alpha", "query", asked, "--purpose", "DUO:0000006", "--epsilon", "10")
    apart, noise = abs(before["rows"][0][0] - after["rows"][0][0]), before["margin95"][0][0] + after["margin95"][0][0]
    ok(not after["replayed"] and apart < 2 * noise < 200, f"and the same mean, but for noise: {apart:.1f} apart, margins {noise:.1f}")
    path = put(box, "s.ndjson", ndjson(table).encode())
    code, error = box.refusal("alpha", "dataset", "import", box.write("s.yaml", 'decimal: ","\n' + yaml), "--data", path)
    ok(code == 7 and "belong to CSV" in error["detail"], f"of NDJSON they say nothing: {error['detail']}")


def appends(box):
    yaml = HEAD.replace("dataset: clinic", "dataset: growing").replace("  - {name: sex,", "  - {name: visit, type: integer}\n  - {name: sex,")
    manifest = box.write("growing.yaml", yaml)

    def visits(table, first):
        return "\n".join([",".join(FIELDS + ["visit"])] + [",".join(map(str, row + [first + i])) for i, row in enumerate(table)]).encode() + b"\n"

    def bring(data, *more):
        return box.run("alpha", "dataset", "import", manifest, "--data", put(box, "v.csv", data), *more)
    code, error = box.refusal("alpha", "dataset", "import", manifest, "--data", put(box, "v.csv", visits(rows(5), 0)), "--append")
    ok(code == 3, f"append to nothing: exit {code}")
    bring(visits(rows(100), 0))
    answer = bring(visits(rows(50, 100), 100), "--append")
    ok((answer["rows"], answer["total"], answer["replaced"]) == (50, 150, 0), "--append adds 50 rows to 100")
    answer = bring(visits(rows(30, 140), 140), "--append", "--key", "visit", "--dry-run")
    ok((answer["rows"], answer["total"], answer["replaced"]) == (30, 170, 10), "--key with --dry-run tells that 10 rows would be replaced")
    answer = bring(visits(rows(30, 140), 140), "--append", "--key", "visit")
    ok((answer["rows"], answer["total"], answer["replaced"]) == (30, 170, 10), "--key replaces them")
    ok(box.run("alpha", "dataset", "show", "growing")["rows"] == 170, "170 rows are there")
    code, error = box.refusal("alpha", "dataset", "import", manifest, "--data", put(box, "none.csv", visits(rows(3), 0).replace(b",F,", b",X,").replace(b",M,", b",X,")),
                              "--max-rejects", "5")
    ok(code == 7 and "all of the 3 rows were rejected" in error["detail"] and "line 2, column sex" in error["detail"], f"nothing but rejects: {error['detail']}")
    answer = bring(visits(rows(20), 0))
    ok(answer["total"] == 20 and box.run("alpha", "dataset", "show", "growing")["rows"] == 20, "without --append the data replaces what was there")


def risks(box, manifest):
    """Against the same classes counted here. 1,200 people, ages 20 to 94."""
    table = rows(1200)
    box.run("alpha", "dataset", "import", manifest, "--data", put(box, "r.csv", csv(table).encode()))
    classes = {}
    for row in table:
        age = min(row[1], 90)
        classes.setdefault((age, row[2], row[3][:3]), []).append(row[6])
    sizes = [len(codes) for codes in classes.values()]
    answer = box.run("alpha", "dataset", "risk", "clinic", "--k", "10")
    below = [size for size in sizes if size < 10]
    want = (len(sizes), min(sizes), sizes.count(1), len(below), sum(below))
    got = (answer["classes"], answer["k_anonymity"], answer["unique"], answer["suppression"]["classes"], answer["suppression"]["rows"])
    ok(got == want and answer["quasi"] == ["age", "sex", "zip"], f"dataset risk: classes, k, unique, below k and rows: {got}, counted {want}")
    distinct = min(len(set(codes)) for codes in classes.values())
    ok(answer["sensitive"][0]["column"] == "code" and answer["sensitive"][0]["distinct_l"] == distinct, f"l-diversity: {answer['sensitive']}")
    everywhere = {code: sum(codes.count(code) for codes in classes.values()) / 1200 for code in ("A00.1", "B01.2")}
    far = max(sum(max(0, codes.count(code) / len(codes) - share) for code, share in everywhere.items()) for codes in classes.values())
    ok(abs(answer["sensitive"][0]["t_closeness"] - far) < 1e-9, f"t-closeness: {answer['sensitive'][0]['t_closeness']}, counted {far}")
    answer = box.run("alpha", "dataset", "risk", "clinic", "--quasi", "sex", "--sensitive", "age")
    ok((answer["classes"], answer["k_anonymity"]) == (2, 600), "--quasi chooses other columns")
    code, _ = box.refusal("alpha", "dataset", "risk", "clinic", "--quasi", "nothing")
    ok(code == 2, "an unknown column is a usage error")
    listed = box.run("alpha", "audit", "list", "--kind", "dataset.risk")
    ok(len(listed) >= 2 or len(listed.get("entries", [])) >= 2, "who measured is audited")


def leaving(box):
    """Opt-out lists and forgetting, and that the old key is gone."""
    yaml = HEAD.replace("dataset: clinic", "dataset: leaving\nexclude: optout.txt")
    put(box, "optout.txt", b"p0001\np0003\n")
    manifest = box.write("leaving.yaml", yaml)
    answer = box.run("alpha", "dataset", "import", manifest, "--data", put(box, "l.csv", csv(rows(100)).encode()))
    ok((answer["rows"], answer["excluded"]) == (98, 2), "exclude: keeps two people out")
    box.run("alpha", "query", "SELECT COUNT(*) FROM leaving", "--purpose", "DUO:0000006", "--epsilon", "5")
    spent = box.run("alpha", "budget", "leaving")["budget"][0]["rho_left"]
    folder = os.path.join(box.home("alpha"), "partitions")
    before = set(partitions(box))
    with open(os.path.join(box.home("alpha"), "keyring"), "rb") as file:
        keyring = file.read()
    answer = box.run("alpha", "dataset", "forget", "leaving", "--units", put(box, "gone.txt", b"p0002\np0004\np9999\n"))
    ok((answer["rows"], answer["total"]) == (2, 96), f"dataset forget takes two more out: {answer}")
    ok(box.run("alpha", "dataset", "show", "leaving")["rows"] == 96, "96 rows are left")
    with open(os.path.join(box.home("alpha"), "keyring"), "rb") as file:
        after = file.read()
    ok(after != keyring and len(before & set(os.listdir(folder))) == len(before) - 1, "the old file is gone, and the keyring is another")
    ok(box.run("alpha", "budget", "leaving")["budget"][0]["rho_left"] == spent, "what was spent stays spent")
    answer = box.run("alpha", "query", "SELECT COUNT(*) FROM leaving WHERE weight >= 0", "--purpose", "DUO:0000006", "--epsilon", "5")
    ok(abs(answer["rows"][0][0] - 96) < 40, "questions go on")
    code, error = box.refusal("alpha", "dataset", "forget", "nothing", "--units", os.path.join(box.folder, "gone.txt"))
    ok(code == 3, f"an unknown dataset: exit {code}")


def refusals(box, manifest):
    before = partitions(box)
    good = gzip.compress(csv(rows(50)).encode())
    cases = [
        ("cut.csv.gz", good[:-20], 7, "TRUNCATED"),
        ("bomb.csv.gz", gzip.compress(b"\n" * (80 << 20)), 7, "LIMIT"),
        ("wide.csv", b"a," * 100000 + b"b\n", 7, "LIMIT"),
        ("twice.csv", csv(rows(5)).replace("name\n", "age\n", 1).encode(), 7, "SCHEMA"),
        ("nest.ndjson", b'{"patient":"p","age":[1]}\n', 7, "INVALID"),
        ("zip.csv", b"PK\x03\x04....", 4, "UNSUPPORTED"),
        ("unknown.csv", csv([["p", 1, "F", "10001", "2024-01-01", "2000-01-01", "Z99", 1, "", ""]]).encode(), 7, "INVALID"),
    ]
    for name, data, code, kind in cases:
        got, error = box.refusal("alpha", "dataset", "import", manifest, "--data", put(box, name, data))
        ok(got == code and error.get("code") == kind, f"{name}: exit {got}, {error.get('code')}")
    code, error = box.refusal("alpha", "dataset", "import", manifest, "--data", box.folder)
    ok(code == 7 and "not a regular file" in error.get("detail", ""), f"a folder in place of rows: exit {code}, {error.get('detail')}")
    code, error = box.refusal("alpha", "dataset", "import", os.path.join(manifest, "absent"), "--data", box.folder)
    ok(code == 3, f"a path through a file: exit {code}")
    ok(partitions(box) == before, "nothing of these is stored")


def main():
    with Sandbox("alpha") as box:
        put(box, "icd.csv", b"A00.1;A00;I\nB01.2;B01;I\n")
        manifest = box.write("clinic.yaml", HEAD)
        formats(box, manifest)
        separated(box)
        appends(box)
        risks(box, manifest)
        leaving(box)
        refusals(box, manifest)
    done()


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
