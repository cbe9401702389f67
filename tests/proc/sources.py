#!/usr/bin/env python3
"""The same patients by CSV, FHIR (bulk export and Bundle), OMOP in a real PostgreSQL, and annotated notes: the same counts. And what a
database may and may not do. Noise: each cell is rounded, wrong with a chance below 1e-6 at the epsilon used here."""
import gzip
import json
import os
import subprocess

import records
from harness import Refused, Sandbox, done, licence, note, ok, rng, skip
from postgres import Postgres, Unable, programs

COLUMNS = """columns:
  - {name: patient, type: text, deidentify: pseudonym%s}
  - {name: sex, type: category, values: [F, M]}
  - {name: birth_date, type: date, min: 1900, max: 2026, deidentify: year, birth: true}
  - {name: deceased, type: boolean}
  - {name: age, type: integer, min: 0, max: 110, deidentify: age90}
  - {name: code, type: category, values: [E11.9, I10, J45.9, N18.3, C50.9]}
  - {name: onset, type: date, min: 2010, max: 2026}
%s"""
HEAD = 'version: "1"\nsize: 300\nunit: patient\nmax_rows_per_unit: 3\n'
LICENCE = licence(epsilon_total=900000, per_query=100000)
EPSILON = "2000"


def put(box, name, data):
    path = os.path.join(box.folder, name)
    with open(path, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
    return path


def manifest(box, name, top="", source="", more=""):
    return put(box, f"{name}.yaml", f"dataset: {name}\n{top}{HEAD}{COLUMNS % (source, more)}{LICENCE}")


def ask(box, sql):
    return box.run("alpha", "query", sql, "--purpose", "DUO:0000006", "--epsilon", EPSILON)["rows"]


def numbers(box, name):
    """What is counted of a dataset, rounded."""
    def group(sql):
        return {row[0]: [round(value, 1) for value in row[1:]] for row in ask(box, sql)}
    return {
        "rows": round(ask(box, f"SELECT COUNT(*) FROM {name}")[0][0]),
        "patients": round(ask(box, f"SELECT COUNT(DISTINCT patient) FROM {name}")[0][0]),
        "by sex": group(f"SELECT sex, COUNT(*) FROM {name} GROUP BY sex"),
        "by code": group(f"SELECT code, COUNT(*), AVG(age) FROM {name} GROUP BY code"),
        "dead": round(ask(box, f"SELECT COUNT(*) FROM {name} WHERE deceased = TRUE AND sex = 'F'")[0][0]),
        "old": round(ask(box, f"SELECT COUNT(*) FROM {name} WHERE age >= 65")[0][0]),
        "born": round(ask(box, f"SELECT COUNT(*) FROM {name} WHERE birth_date BETWEEN 1950 AND 1969")[0][0]),
        "late": round(ask(box, f"SELECT COUNT(*) FROM {name} WHERE onset >= '2020-01-01'")[0][0]),
    }


def truth(people):
    rows = [(p, code[0], onset) for p in people for code, onset in p.rows]
    ages = [min(90, records.years(p.born, onset)) for p, _, onset in rows]
    codes = sorted({code for _, code, _ in rows})
    # a birth goes where the person is over 89 today or was over 89 at the diagnosis
    old = {p.id: records.years(p.born, records.datetime.date.today()) >= 90 for p in people}

    def average(code):
        mine = [age for age, row in zip(ages, rows) if row[1] == code]
        return [float(len(mine)), round(sum(mine) / len(mine), 1)]
    return {
        "rows": len(rows), "patients": len(people),
        "by sex": {sex: [float(sum(p.sex == sex for p, _, _ in rows))] for sex in "FM"},
        "by code": {code: average(code) for code in codes},
        "dead": sum(p.died is not None and p.sex == "F" for p, _, _ in rows),
        "old": sum(age >= 65 for age in ages),
        "born": sum(1950 <= p.born.year <= 1969 and not old[p.id] and age < 90 for (p, _, _), age in zip(rows, ages)),
        "late": sum(onset.year >= 2020 for _, _, onset in rows),
    }


def compare(box, name, want):
    got = numbers(box, name)
    # a mean carries the noise of its sum: 0.1 here
    for code, (count, mean) in want["by code"].items():
        if code in got["by code"] and abs(got["by code"][code][1] - mean) < 0.7:
            got["by code"][code][1] = mean
        ok(got["by code"].get(code, [None])[0] == count, f"{name}: {count:.0f} rows of {code}")
    ok(got == want, f"{name} counts as the records do")
    if got != want:
        note(f"got {got}\nwant {want}")


def imported(box, path, want, *arguments):
    answer = box.run("alpha", "dataset", "import", path, *arguments)
    ok((answer["rows"], answer["rejected"]) == (want["rows"], 0), f"{os.path.basename(path)}: {answer['rows']} rows, {answer['rejected']} rejected")
    return answer


def files(box, people, want):
    imported(box, manifest(box, "by-csv"), want, "--data", put(box, "d.csv", records.csv(people)))
    patients = records.ndjson(map(records.resource_patient, people))
    conditions = records.ndjson(r for p in people for r in records.resources_condition(p, records.relative))
    fhir = imported(box, manifest(box, "by-fhir", "mapping: fhir-condition\n"), want, "--data", put(box, "Condition.ndjson.gz", gzip.compress(conditions.encode())),
                    "--data", put(box, "Patient.ndjson", patients))
    ok(fhir["unjoined"] == 0 and len(fhir["mapping"]) == 64, "every Condition found its Patient; the digest of the mapping is told")
    imported(box, manifest(box, "by-bundle", "format: fhir\nmapping: fhir-condition\n"), want, "--data", put(box, "bundle.json", records.bundle(people, indent=1)))
    imported(box, manifest(box, "by-notes", "format: conll\n", ", source: document",
                           "  - {name: tokens, type: tokens}\n  - {name: tags, type: tags, labels: [Disease]}\n"), want, "--data",
             put(box, "d.iob", records.iob(people)))
    for name in ("by-csv", "by-fhir", "by-bundle", "by-notes"):
        compare(box, name, want)


# --- FHIR beyond the counts ---------------------------------------------------------------------------

def fhir_rules(box, people):
    """What identifies people needs its operation; several files name theirs in rejects; the operator's own mapping is used first."""
    mapping = subprocess.run([os.path.join(os.environ.get("top_builddir", "."), "concordat"), "dataset", "mapping", "fhir-patient"], stdout=subprocess.PIPE,
                             check=True).stdout
    put(box, "mine.yaml", mapping.replace(b"path: name.family", b"path: telecom.value"))
    data = put(box, "P.ndjson", records.ndjson(map(records.resource_patient, people[:20])))

    def patients(columns, name="mine.yaml"):
        return put(box, "p.yaml", f"dataset: people\nmapping: {name}\n{HEAD}columns:\n  - {{name: patient, type: text, deidentify: pseudonym}}\n{columns}{LICENCE}")
    for column, word in (("{name: telecom, type: text, source: name}", "can only be dropped"),
                         ("{name: telecom, type: text, source: name, deidentify: pseudonym}", "can only be dropped"),
                         ("{name: zip, type: text}", "postal code")):
        code, error = box.refusal("alpha", "dataset", "import", patients(f"  - {column}\n"), "--data", data)
        ok(code == 7 and word in error.get("detail", ""), f"{column}: exit {code}, {word}")
    answer = box.run("alpha", "dataset", "import", patients("  - {name: zip, type: text, deidentify: zip3}\n  - {name: telecom, type: text, source: name, deidentify: drop}\n"),
                     "--data", data)
    ok(answer["rows"] == 20, "with their operations they come in")
    bad = put(box, "Q.ndjson", b'{"resourceType":"Patient","id":"x"}\n{"resourceType":"Patient","id":\n')
    code, error = box.refusal("alpha", "dataset", "import", patients("  - {name: sex, type: text}\n"), "--data", data, "--data", bad)
    first = error.get("rejects", [{}])[0]
    ok(code == 7 and first.get("line") == 2 and first.get("file") == bad, f"a reject names its file and line: {first}")
    own = os.path.join(box.home("alpha"), "mappings")
    os.mkdir(own)
    with open(os.path.join(own, "fhir-patient.yaml"), "wb") as file:
        file.write(mapping + b"  - {name: own, path: resourceType}\n")
    answer = box.run("alpha", "dataset", "import", patients("  - {name: own, type: category, values: [Patient]}\n", "fhir-patient"), "--data", data)
    ok(answer["rows"] == 20, "HOME/mappings comes before the ready ones")
    copy = os.path.join(box.folder, "backup")
    box.run("alpha", "backup", copy)
    ok(os.path.exists(os.path.join(copy, "mappings", "fhir-patient.yaml")), "and is in a backup")
    code, error = box.refusal("alpha", "dataset", "import", patients("", "fhir-pateint"), "--data", data)
    ok(code == 3, f"a mapping that is not there: exit {code}")
    gone = put(box, "gone.txt", "\n".join(p.id for p in people[:7]) + "\n")
    answer = box.run("alpha", "dataset", "forget", "by-bundle", "--units", gone)
    rows = sum(len(p.rows) for p in people[:7])
    ok(answer["rows"] == rows, f"people are forgotten by the ids of their resources: {rows} rows")
    more = put(box, "more.json", records.bundle(people[:9]))
    answer = box.run("alpha", "dataset", "import", put(box, "a.yaml", f"dataset: by-bundle\nmapping: fhir-condition\nexclude: gone.txt\n{HEAD}{COLUMNS % ('', '')}{LICENCE}"),
                     "--data", more, "--append")
    ok((answer["rows"], answer["excluded"]) == (sum(len(p.rows) for p in people[7:9]), rows), f"and excluded when they come again: {answer['excluded']}")
    unknown = put(box, "U.ndjson", b'{"resourceType":"Condition","subject":{"reference":"Patient/nobody"},"onsetDateTime":"2020-01-01"}\n')
    answer = box.run("alpha", "dataset", "import", manifest(box, "lonely", "mapping: fhir-condition\n"), "--data", unknown)
    ok(answer["unjoined"] == 1 and answer["rows"] == 1, "a row without its Patient is counted")


# --- PostgreSQL ----------------------------------------------------------------------------------------

def database(server, **more):
    return "database: {connection: " + json.dumps(server.connection(**more)) + ", schema: cdm}\n"


def maps(box):
    with open(f"/proc/{box.pid('alpha')}/maps", encoding="utf-8") as file:
        return file.read()


def omop(box, server, people, want):
    ok("libpq" not in maps(box), "a daemon that reads no database has no libpq in memory")
    server.sql("CREATE SCHEMA cdm; SET search_path = cdm;" + records.omop(people))
    imported(box, manifest(box, "by-omop", "format: postgres\nmapping: omop-condition\n" + database(server)), want)
    compare(box, "by-omop", want)

    def rows(mapping, columns):
        path = put(box, "o.yaml", f"dataset: omop-other\nmapping: {mapping}\n{database(server)}{HEAD}columns:\n  - {{name: patient, type: text, deidentify: pseudonym}}\n"
                                  f"{columns}{LICENCE}")
        return box.run("alpha", "dataset", "import", path)
    answer = rows("omop-person", "  - {name: sex, type: category, values: [F, M]}\n  - {name: death_date, type: date}\n  - {name: deceased, type: boolean}\n")
    ok(answer["rows"] == len(people), "omop-person gives a row for each person")
    answer = rows("omop-visit", "  - {name: encounter, type: text, deidentify: pseudonym-hmac}\n  - {name: class, type: category, values: [AMB, IMP, EMER]}\n"
                                "  - {name: days, type: integer, min: 0, max: 400}\n  - {name: age, type: integer, min: 0, max: 110, deidentify: age90}\n")
    ok(answer["rows"] == want["rows"] and not answer["clamped"], "omop-visit gives a row for each visit")
    answer = rows("omop-measurement", "  - {name: code, type: category, values: [2160-0]}\n  - {name: value, type: real, min: 0, max: 20, ucum: mg/dL}\n"
                                      "  - {name: unit, type: category, values: [mg/dL]}\n  - {name: range_low, type: real}\n")
    measured = [value for p in people for value, _ in p.creatinine]
    ok(answer["rows"] == len(measured), "omop-measurement gives a row for each measurement")
    mean = ask(box, "SELECT AVG(value) FROM omop-other")[0][0]
    ok(abs(mean - sum(measured) / len(measured)) < 0.02, f"and their values: {mean:.3f}")


def together(box, server, people):
    """Half of the patients at a site that keeps FHIR, half at one with OMOP tables: one dataset, one question."""
    fhir, tables = people[:150], people[150:]
    server.sql("CREATE SCHEMA beta; SET search_path = beta;" + records.omop(tables))
    data = put(box, "half.json", records.bundle(fhir))
    box.run("alpha", "dataset", "import", manifest(box, "together", "mapping: fhir-condition\n"), "--data", data)
    box.run("beta", "dataset", "import", manifest(box, "together", "mapping: omop-condition\n" + database(server).replace("cdm", "beta")))
    box.wait("both publish", lambda: len(box.run("alpha", "dataset", "show", "together")["nodes"]) == 2)
    answer = box.run("alpha", "query", "SELECT sex, COUNT(*) FROM together GROUP BY sex", "--purpose", "DUO:0000006", "--epsilon", EPSILON)
    ok([site["status"] for site in answer["sites"]] == ["answered"] * 2, "a site with FHIR and one with OMOP answer one question")
    ok({row[0]: round(row[1]) for row in answer["rows"]} == {sex: sum(len(p.rows) for p in people if p.sex == sex) for sex in "FM"},
       f"and their sum is that of all records: {answer['rows']}")


SECRET = "Zq7vXw2LpT9kRm4s"


def database_rules(box, server):
    """Passwords, writing, statements that are no query, errors in the middle, and that nothing of a value is told."""
    said = []

    def refused(query, **more):
        put(box, "q.yaml", "mapping: q\nformat: postgres\nquery: " + json.dumps(query) + "\n")
        path = put(box, "m.yaml", f"dataset: refused\nmapping: q.yaml\n{database(server, **more)}{HEAD}columns:\n  - {{name: patient, type: text, deidentify: pseudonym}}\n"
                                  f"  - {{name: n, type: integer}}\n{LICENCE}")
        code, answer, text = box.try_run("alpha", "dataset", "import", path)
        said.append(text)
        return code, (answer or {}).get("error", {}).get("detail", "")
    code, why = refused("SELECT 1", password=SECRET)
    ok(code == 7 and "holds a password" in why, f"a password in the manifest: exit {code}")
    code, why = refused("SELECT 1", host="/nonexistent")
    ok(code == 6, f"no server: exit {code}")
    code, why = refused("SELECT 1", user="nobody_at_all")
    ok(code == 6, f"a wrong user: exit {code}")
    code, why = refused("SELECT person_id AS patient, colour FROM person")
    ok(code == 7 and "colour" in why, f"a column that is not there: {why}")
    code, why = refused("SELECT 1 AS patient; SELECT 2")
    ok(code == 7 and "multiple commands" in why, "two statements")
    code, why = refused("DELETE FROM person")
    ok(code == 7, f"no query: {why}")
    code, why = refused("INSERT INTO cdm.death (person_id, death_date) VALUES (1, '2020-01-01') RETURNING person_id AS patient, 1 AS n")
    ok(code == 7 and "SQLSTATE 25006" in why, f"a query that writes: {why}")
    code, why = refused(f"SELECT person_id AS patient, CASE WHEN person_id < 20 THEN 1 ELSE ('{SECRET}' || person_id)::integer END AS n FROM person ORDER BY 1")
    ok(code == 7 and "SQLSTATE 22P02" in why, f"an error in the middle: {why}")
    code, why = refused(f"SELECT 'x' AS patient, '{SECRET}' AS n -- said at the end")
    ok(code == 7 and "is not an integer" in why, f"a cell that does not parse: {why}")
    code, why = refused("SELECT person_id AS nobody FROM person")
    ok(code == 7 and "'patient'" in why, f"a column that the query lacks: {why}")
    ok(not any(SECRET in text or server.password in text for text in said + [box.log("alpha")]), "no value and no password stands in a message or log")
    ok("refused" not in [row["dataset"] for row in box.run("alpha", "dataset", "list")], "nothing of these is stored")
    put(box, "q.yaml", "mapping: q\nformat: postgres\nquery: \"SELECT E'a\\\\tb\\\\\\\\c\\\\nd' AS patient, NULL::integer AS n UNION ALL SELECT '\\\\\\\\N', 4;  \"\n")
    path = put(box, "m.yaml", f"dataset: odd\nmapping: q.yaml\n{database(server)}{HEAD}columns:\n  - {{name: patient, type: text, deidentify: pseudonym}}\n"
                              f"  - {{name: n, type: integer, min: 0, max: 9}}\n{LICENCE}")
    answer = box.run("alpha", "dataset", "import", path)
    ok(answer["rows"] == 2 and not answer["clamped"], "tabs, backslashes, newlines and NULL come as they are")
    code, error = box.refusal("alpha", "dataset", "import", path, "--data", path)
    ok(code == 2, f"--data beside a database: exit {code}")
    code, error = box.refusal("alpha", "dataset", "import", manifest(box, "by-csv"))
    ok(code == 2 and "--data" in error.get("detail", ""), "and without either there are no rows")


def main():
    people = records.patients(300)
    want = truth(people)
    with Sandbox("alpha,beta") as box:
        files(box, people, want)
        fhir_rules(box, people)
        if not programs():
            note("SKIP PostgreSQL: no server is installed (Debian package postgresql)")
        else:
            server = None
            try:
                server = Postgres(box.folder)
                omop(box, server, people, want)
                together(box, server, people)
                database_rules(box, server)
            except Refused as error:
                ok("UNSUPPORTED" in str(error.error), f"PostgreSQL: {error}")
            except Unable as error:
                skip("PostgreSQL", f"its programs do not run as another user here: {error}")
            finally:
                if server:
                    server.close()
    done()


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
