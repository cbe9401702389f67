"""Patients as a hospital might have them, drawn from the test's generator, in each form that an import takes: CSV, NDJSON of FHIR,
a FHIR Bundle, OMOP tables and annotated notes. One row is one diagnosis, which has one sentence in the notes."""
import datetime
import json

from harness import rng

CODES = [("E11.9", "44054006", "Type 2 diabetes"), ("I10", "38341003", "Hypertension"), ("J45.9", "195967001", "Asthma"),
         ("N18.3", "433144002", "Chronic kidney disease"), ("C50.9", "254837009", "Breast cancer")]
FIRST, LAST = datetime.date(2015, 1, 1), datetime.date(2025, 12, 31)


def day(low, high):
    return low + datetime.timedelta(days=rng.randrange((high - low).days + 1))


def years(born, at):
    return at.year - born.year - ((at.month, at.day) < (born.month, born.day))


class Patient:
    def __init__(self, number):
        self.number = number
        self.id = f"pat-{number:05}"
        self.sex = rng.choice("FM")
        self.born = day(datetime.date(1925, 1, 1), datetime.date(2014, 12, 31))
        self.died = day(LAST, datetime.date(2026, 3, 1)) if rng.random() < 0.15 else None
        self.rows = [(rng.choice(CODES), day(FIRST, LAST)) for _ in range(rng.choice([1, 1, 2, 3]))]
        self.creatinine = [(round(rng.uniform(0.4, 4), 2), day(FIRST, LAST)) for _ in range(rng.randrange(3))]


def patients(count):
    return [Patient(i) for i in range(count)]


def csv(people):
    lines = ["patient,sex,birth_date,deceased,age,code,onset"]
    for p in people:
        for (icd, _, _), onset in p.rows:
            lines.append(f"{p.id},{p.sex},{p.born},{str(p.died is not None).lower()},{years(p.born, onset)},{icd},{onset}")
    return "\n".join(lines) + "\n"


# --- FHIR -----------------------------------------------------------------------------------------

def resource_patient(p):
    made = {"resourceType": "Patient", "id": p.id, "gender": {"F": "female", "M": "male"}[p.sex], "birthDate": str(p.born),
            "name": [{"family": "Muster", "given": ["Erika"]}], "text": {"status": "generated", "div": "<div>Erika Muster</div>"},
            "address": [{"line": ["Hauptstr. 1"], "city": "Berlin", "postalCode": "10115", "country": "DE"}]}
    if p.died:
        made["deceasedDateTime"] = f"{p.died}T04:30:00+01:00"
    return made


def resources_condition(p, refer):
    for i, ((icd, snomed, text), onset) in enumerate(p.rows):
        yield {"resourceType": "Condition", "id": f"{p.id}-c{i}", "subject": {"reference": refer(p), "display": "Erika Muster"},
               "clinicalStatus": {"coding": [{"code": "active"}]}, "code": {"text": text, "coding": [
                   {"system": "http://snomed.info/sct", "code": snomed}, {"system": "http://hl7.org/fhir/sid/icd-10", "code": icd, "display": text}]},
               "onsetDateTime": f"{onset}T{rng.randrange(24):02}:00:00+02:00"}
    # what nobody has: must not become a row
    yield {"resourceType": "Condition", "subject": {"reference": refer(p)}, "verificationStatus": {"coding": [{"code": "refuted"}]},
           "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "I10"}]}, "onsetDateTime": "2020-01-01"}


def ndjson(resources):
    return "".join(json.dumps(r) + "\n" for r in resources)


def relative(p):
    return f"Patient/{p.id}"


def urn(p):
    return f"urn:uuid:00000000-0000-4000-8000-{p.number:012}"


def bundle(people, indent=None):
    """A transaction: references by fullUrl, the Patient behind his Conditions, and resources of other types between them."""
    entries = []
    for p in people:
        entries += [{"fullUrl": f"urn:uuid:c-{r.get('id', p.id)}", "resource": r, "request": {"method": "POST", "url": "Condition"}}
                    for r in resources_condition(p, urn)]
        entries.append({"fullUrl": urn(p), "resource": resource_patient(p), "request": {"method": "PUT", "url": relative(p)}})
        entries.append({"resource": {"resourceType": "Binary", "contentType": "image/png", "data": "AAAA"}})
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}, indent=indent)


# --- OMOP CDM 5.4, as far as the ready mappings read it ---------------------------------------------

OMOP_TABLES = """
CREATE TABLE person (person_id integer NOT NULL PRIMARY KEY, gender_concept_id integer NOT NULL, year_of_birth integer NOT NULL,
  month_of_birth integer, day_of_birth integer, birth_datetime timestamp, race_concept_id integer NOT NULL,
  ethnicity_concept_id integer NOT NULL, location_id integer, provider_id integer, care_site_id integer, person_source_value varchar(50),
  gender_source_value varchar(50), gender_source_concept_id integer);
CREATE TABLE death (person_id integer NOT NULL, death_date date NOT NULL, death_datetime timestamp, death_type_concept_id integer,
  cause_concept_id integer);
CREATE TABLE visit_occurrence (visit_occurrence_id integer NOT NULL PRIMARY KEY, person_id integer NOT NULL, visit_concept_id integer NOT NULL,
  visit_start_date date NOT NULL, visit_end_date date NOT NULL, visit_type_concept_id integer NOT NULL);
CREATE TABLE condition_occurrence (condition_occurrence_id integer NOT NULL PRIMARY KEY, person_id integer NOT NULL,
  condition_concept_id integer NOT NULL, condition_start_date date NOT NULL, condition_end_date date, condition_type_concept_id integer NOT NULL,
  visit_occurrence_id integer, condition_source_value varchar(50), condition_source_concept_id integer);
CREATE TABLE measurement (measurement_id integer NOT NULL PRIMARY KEY, person_id integer NOT NULL, measurement_concept_id integer NOT NULL,
  measurement_date date NOT NULL, measurement_type_concept_id integer NOT NULL, value_as_number numeric, unit_concept_id integer,
  range_low numeric, range_high numeric, visit_occurrence_id integer);
CREATE TABLE concept (concept_id integer NOT NULL PRIMARY KEY, concept_name varchar(255) NOT NULL, vocabulary_id varchar(20) NOT NULL,
  concept_code varchar(50) NOT NULL);
"""


def copy_rows(table, columns, rows):
    def cell(value):
        return "\\N" if value is None else str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
    return f"COPY {table} ({', '.join(columns)}) FROM STDIN;\n" + "".join("\t".join(map(cell, row)) + "\n" for row in rows) + "\\.\n"


def omop(people):
    icd = {code: 1000 + i for i, (code, _, _) in enumerate(CODES)}
    snomed = {code: 2000 + i for i, (_, code, _) in enumerate(CODES)}
    concepts = [(icd[a], t, "ICD10", a) for a, _, t in CODES] + [(snomed[b], t, "SNOMED", b) for _, b, t in CODES] + \
               [(3016723, "Creatinine", "LOINC", "2160-0"), (8840, "mg/dL", "UCUM", "mg/dL")]
    conditions, measured, visits = [], [], []
    for p in people:
        for (a, b, _), onset in p.rows:
            conditions.append((len(conditions) + 1, p.number, snomed[b], onset, None, 0, len(conditions) + 1, a, icd[a]))
            visits.append((len(visits) + 1, p.number, rng.choice([9201, 9202, 9203]), onset, onset + datetime.timedelta(days=rng.randrange(9)), 0))
        for value, at in p.creatinine:
            measured.append((len(measured) + 1, p.number, 3016723, at, 0, value, 8840, None, None, None))
    sql = OMOP_TABLES
    sql += copy_rows("concept", ["concept_id", "concept_name", "vocabulary_id", "concept_code"], concepts)
    sql += copy_rows("person", ["person_id", "gender_concept_id", "year_of_birth", "month_of_birth", "day_of_birth", "race_concept_id", "ethnicity_concept_id",
                                "person_source_value"],
                     [(p.number, {"F": 8532, "M": 8507}[p.sex], p.born.year, p.born.month, p.born.day, 0, 0, f"MRN\\{p.id}\t\n") for p in people])
    sql += copy_rows("death", ["person_id", "death_date"], [(p.number, p.died) for p in people if p.died])
    sql += copy_rows("visit_occurrence", ["visit_occurrence_id", "person_id", "visit_concept_id", "visit_start_date", "visit_end_date", "visit_type_concept_id"],
                     visits)
    sql += copy_rows("condition_occurrence", ["condition_occurrence_id", "person_id", "condition_concept_id", "condition_start_date", "condition_end_date",
                                              "condition_type_concept_id", "visit_occurrence_id", "condition_source_value", "condition_source_concept_id"], conditions)
    sql += copy_rows("measurement", ["measurement_id", "person_id", "measurement_concept_id", "measurement_date", "measurement_type_concept_id", "value_as_number",
                                     "unit_concept_id", "range_low", "range_high", "visit_occurrence_id"], measured)
    return sql


# --- annotated notes --------------------------------------------------------------------------------

def iob(people):
    """A document a patient, a sentence a diagnosis; what the tables have in columns stands in front of each sentence."""
    text = ""
    for p in people:
        text += f"# newdoc id = {p.id}\n# sex = {p.sex}\n# birth_date = {p.born}\n# deceased = {str(p.died is not None).lower()}\n"
        for (icd, _, name), onset in p.rows:
            words = name.split()
            text += f"# age = {years(p.born, onset)}\n# code = {icd}\n# onset = {onset}\n"
            text += "Diagnosed\tO\nwith\tO\n" + "".join(f"{w}\t{'IB'[i == 0]}-Disease\n" for i, w in enumerate(words)) + ".\tO\n\n"
    return text
