#include "proto/operation.h"
#include "proto/nearest.h"
#include "proto/time.h"

#include <stdio.h>
#include <stdlib.h>
#include <math.h>

/* --- the table --------------------------------------------------------------------------------- */

#define POSITIONAL(name_, type_, help_)                                                            \
    {                                                                                              \
        .name = name_, .type = type_, .required = true, .value_name = name_, .help = help_         \
    }
#define POSITIONAL_OPTIONAL(name_, type_, help_)                                                   \
    {                                                                                              \
        .name = name_, .type = type_, .value_name = name_, .help = help_                           \
    }
#define OPTION(name_, type_, value_, help_)                                                        \
    {                                                                                              \
        .name = name_, .type = type_, .value_name = value_, .help = help_                          \
    }
#define OPTION_REQUIRED(name_, type_, value_, help_)                                               \
    {                                                                                              \
        .name = name_, .type = type_, .required = true, .value_name = value_, .help = help_        \
    }
#define OPTION_REPEATED(name_, type_, value_, help_)                                               \
    {                                                                                              \
        .name = name_, .type = type_, .repeated = true, .value_name = value_, .help = help_        \
    }
#define FLAG(name_, help_)                                                                         \
    {                                                                                              \
        .name = name_, .type = PROTO_ARG_FLAG, .help = help_                                       \
    }
#define END                                                                                        \
    {                                                                                              \
        .name = NULL                                                                               \
    }

/* What a person states as purpose, for everything that asks for data. */
#define PURPOSE_OPTIONS                                                                            \
    OPTION("--project", PROTO_ARG_TEXT, "NAME", "the project it belongs to"),                      \
        OPTION_REPEATED("--disease", PROTO_ARG_TEXT, "CURIE",                                      \
                        "a disease under study, such as MONDO:0004992"),                           \
        OPTION("--research", PROTO_ARG_LIST, "TYPES",                                              \
               "what kind of research it is: methods, ancestry, genetic, drugdev, control-set,\n"  \
               "ageCat, sexCat, popGroup, sensitive; several with commas"),                        \
        OPTION("--ethics", PROTO_ARG_TEXT, "REF", "the ethics approval's reference"),              \
        OPTION("--ethics-until", PROTO_ARG_TIME, "DATE", "until when that approval holds"),        \
        OPTION("--accept", PROTO_ARG_LIST, "DUTIES",                                               \
               "obligations that you promise to keep, with commas: publish, collaborate,\n"        \
               "return-results")

static const struct proto_argument no_arguments[] = {END};

static const struct proto_argument sandbox_create_arguments[] = {
    POSITIONAL("DIR", PROTO_ARG_FILE_OUT, "where the homes go; it must not exist or be empty"),
    OPTION("--nodes", PROTO_ARG_WHOLE, "N", "how many nodes, 1 to 64 (default 3)"),
    OPTION("--names", PROTO_ARG_LIST, "A,B,C", "their names, in place of alpha, beta, gamma, ..."),
    FLAG("--passphrase", "lock the keys with the passphrase in CONCORDAT_PASSPHRASE (Argon2id)"),
    END};
static const struct proto_argument sandbox_dir_arguments[] = {
    POSITIONAL("DIR", PROTO_ARG_FILE_OUT, "the sandbox"), END};
static const struct proto_argument sandbox_start_arguments[] = {
    POSITIONAL("DIR", PROTO_ARG_FILE_OUT, "the sandbox"),
    OPTION("--timeout", PROTO_ARG_DURATION, "TIME", "how long to wait for the mesh (default 60s)"),
    END};
static const struct proto_argument sandbox_stop_arguments[] = {
    POSITIONAL("DIR", PROTO_ARG_FILE_OUT, "the sandbox"),
    OPTION("--kill", PROTO_ARG_TEXT, "NAME", "send SIGKILL to this one node, leave the others"),
    END};
static const struct proto_argument sandbox_split_arguments[] = {
    POSITIONAL("FILE", PROTO_ARG_FILE_IN, "a CSV file with a header line"),
    OPTION_REQUIRED("--into", PROTO_ARG_FILE_OUT, "DIR",
                    "a sandbox: one file per node, DIR/<node>.csv"),
    OPTION("--by", PROTO_ARG_TEXT, "hash|label:COLUMN",
           "hash of the row number (default), or skewed by the values of a column"),
    OPTION("--alpha", PROTO_ARG_NUMBER, "A",
           "concentration of the Dirichlet skew with label:COLUMN (default 0.5); small is skewed"),
    END};
static const struct proto_argument init_arguments[] = {
    OPTION("--name", PROTO_ARG_TEXT, "NAME",
           "the node's name: small letters, digits and -, at most 32, - not first"),
    OPTION("--org", PROTO_ARG_TEXT, "ORG", "the organisation that runs it"),
    OPTION("--org-type", PROTO_ARG_TEXT, "nonprofit|forprofit|government",
           "what kind of organisation it is"),
    OPTION("--country", PROTO_ARG_TEXT, "CC", "its country, ISO 3166-1 alpha-2"),
    OPTION("--listen", PROTO_ARG_TEXT, "URL",
           "tls+tcp://HOST:PORT where the others reach this node, or none for a site that\n"
           "only dials out"),
    OPTION("--token-file", PROTO_ARG_FILE_IN, "FILE",
           "join: the invitation's token; - reads it from standard input"),
    OPTION("--found", PROTO_ARG_TEXT, "FEDERATION", "found a new federation of this name"),
    OPTION("--unlock", PROTO_ARG_TEXT, "HOW",
           "keyfile:PATH (default keyfile:unlock.key), passphrase, credential:NAME, or\n"
           "pkcs11:token=LABEL;object=LABEL?module-path=/FILE&pin-source=file:PATH"),
    FLAG("--prepare", "only make the keys and print the fingerprint that an invitation may name"),
    END};
static const struct proto_argument invite_arguments[] = {
    OPTION_REQUIRED("--node", PROTO_ARG_TEXT, "NAME", "the name of the node that is invited"),
    OPTION_REQUIRED("--org", PROTO_ARG_TEXT, "ORG", "the organisation that runs it"),
    OPTION("--org-type", PROTO_ARG_TEXT, "nonprofit|forprofit|government",
           "what the council attests about it (default nonprofit)"),
    OPTION("--country", PROTO_ARG_TEXT, "CC", "its country (default: that of this node)"),
    OPTION("--role", PROTO_ARG_TEXT, "node|coordinator|analyst", "its role (default node)"),
    OPTION("--valid", PROTO_ARG_DURATION, "TIME", "how long the token is good for (default 24h)"),
    OPTION("--key", PROTO_ARG_TEXT, "FINGERPRINT",
           "the key that `concordat init --prepare` printed on the new node"),
    END};
static const struct proto_argument admit_arguments[] = {
    POSITIONAL("NODE", PROTO_ARG_TEXT, "the name of the node that waits"),
    OPTION_REQUIRED("--key", PROTO_ARG_TEXT, "FINGERPRINT",
                    "its fingerprint, compared by another channel"),
    END};
static const struct proto_argument revoke_arguments[] = {
    POSITIONAL("NODE", PROTO_ARG_TEXT, "the node to expel"),
    OPTION_REQUIRED("--reason", PROTO_ARG_TEXT, "TEXT", "why; the federation reads it"), END};
static const struct proto_argument endorse_arguments[] = {
    POSITIONAL("RECORD", PROTO_ARG_TEXT, "the proposal, or the beginning of its id"), END};
static const struct proto_argument seat_arguments[] = {
    POSITIONAL("NODE", PROTO_ARG_TEXT, "the member"), END};
static const struct proto_argument import_arguments[] = {
    POSITIONAL("MANIFEST", PROTO_ARG_FILE_IN, "the dataset's manifest, YAML"),
    OPTION_REPEATED("--data", PROTO_ARG_FILE_IN, "FILE",
                    "the rows, plain or packed with gzip or zstd; several files of FHIR data,\n"
                    "as one for each resource type; none when they come from a database"),
    OPTION("--format", PROTO_ARG_TEXT, "csv|ndjson|fhir|conll",
           "their format (default: the manifest's or its mapping's, else by the name's end,\n"
           "else csv)"),
    FLAG("--append", "add the rows to what is stored; without it they replace it"),
    OPTION("--key", PROTO_ARG_TEXT, "COLUMN",
           "with --append: a stored row gives way to a new one with the same value there"),
    FLAG("--dry-run", "check everything, keep nothing"),
    OPTION("--max-rejects", PROTO_ARG_WHOLE, "N", "rows that may be rejected (default 0)"),
    END};
static const struct proto_argument draft_arguments[] = {
    POSITIONAL("FILE", PROTO_ARG_FILE_IN,
               "Croissant (JSON-LD), or a data set card of Hugging Face (README.md)"),
    OPTION("--out", PROTO_ARG_FILE_OUT, "FILE", "write into this new file"), END};
static const struct proto_argument mapping_arguments[] = {
    POSITIONAL_OPTIONAL("NAME", PROTO_ARG_TEXT, "the mapping to print"), END};
static const struct proto_argument dataset_arguments[] = {
    POSITIONAL("NAME", PROTO_ARG_TEXT, "the dataset"), END};
static const struct proto_argument dataset_risk_arguments[] = {
    POSITIONAL("NAME", PROTO_ARG_TEXT, "the dataset"),
    OPTION("--quasi", PROTO_ARG_LIST, "A,B",
           "columns that others may know of a person (default: those with quasi: true)"),
    OPTION("--sensitive", PROTO_ARG_LIST, "C,D",
           "columns that must not be learnt (default: those with sensitive: true)"),
    OPTION("--k", PROTO_ARG_WHOLE, "K", "people a class should have (default 5; to release: 11)"),
    OPTION("--l", PROTO_ARG_WHOLE, "L", "values a sensitive column should have there (default 2)"),
    OPTION("--t", PROTO_ARG_NUMBER, "T",
           "how far it may differ there from all rows, 0 to 1 (default 0.2)"),
    END};
static const struct proto_argument dataset_update_arguments[] = {
    POSITIONAL("MANIFEST", PROTO_ARG_FILE_IN, "the manifest with the new licence or texts"), END};
static const struct proto_argument dataset_forget_arguments[] = {
    POSITIONAL("NAME", PROTO_ARG_TEXT, "the dataset"),
    OPTION_REQUIRED("--units", PROTO_ARG_FILE_IN, "FILE",
                    "identifiers of the people to forget, one a line, as they stood in the data"),
    END};
static const struct proto_argument dataset_remove_arguments[] = {
    POSITIONAL("NAME", PROTO_ARG_TEXT, "the dataset"),
    {.name = "--shred",
     .type = PROTO_ARG_FLAG,
     .required = true,
     .help = "destroy its key: nobody can read it again, backups neither"},
    END};
static const struct proto_argument catalog_arguments[] = {
    POSITIONAL_OPTIONAL(
        "TERM", PROTO_ARG_TEXT,
        "only what contains these words, in name, title, columns, licence or disease"),
    OPTION("--node", PROTO_ARG_TEXT, "NODE", "only what this node publishes"),
    OPTION("--column", PROTO_ARG_LIST, "A,B", "only what has these columns"),
    OPTION("--licence", PROTO_ARG_TEXT, "SPDX", "only what stands under this licence"),
    OPTION("--permission", PROTO_ARG_TEXT, "DUO", "only what has a grant of this permission"),
    OPTION("--size", PROTO_ARG_NUMBER, "N", "only what declares at least so many units"),
    OPTION("--since", PROTO_ARG_TIME, "TIME", "only what was published from then on"),
    FLAG("--mine", "say what this node could do with each, and why not"),
    OPTION("--purpose", PROTO_ARG_TEXT, "DUO",
           "with --mine: for this purpose (default: for each that can be stated)"),
    PURPOSE_OPTIONS,
    END};
static const struct proto_argument licence_show_arguments[] = {
    POSITIONAL("NAME", PROTO_ARG_TEXT, "the dataset"),
    OPTION("--as", PROTO_ARG_TEXT, "json|odrl|croissant|dcat|record",
           "the vocabulary (default json); record: the signed body, hexadecimal"),
    OPTION("--node", PROTO_ARG_TEXT, "NODE", "only the licence of this node"), END};
static const struct proto_argument licence_check_arguments[] = {
    POSITIONAL("NAME", PROTO_ARG_TEXT, "the dataset, or a model's id or name"),
    OPTION_REQUIRED("--purpose", PROTO_ARG_TEXT, "DUO", "the purpose, such as DUO:0000042"),
    OPTION_REQUIRED("--action", PROTO_ARG_LIST, "ACTION",
                    "count, sum, mean, variance, quantile, histogram, regression, survival,\n"
                    "finetune, evaluate; several with commas"),
    PURPOSE_OPTIONS,
    OPTION("--columns", PROTO_ARG_LIST, "A,B", "the columns that are read"),
    OPTION("--epsilon", PROTO_ARG_NUMBER, "E", "the privacy loss that is asked for"),
    OPTION("--delta", PROTO_ARG_NUMBER, "D", "its delta"),
    OPTION("--rounds", PROTO_ARG_WHOLE, "N", "of training: how many rounds"),
    FLAG("--without-privacy", "of training: without noise"),
    END};
static const struct proto_argument licence_explain_arguments[] = {
    POSITIONAL("NAME", PROTO_ARG_TEXT,
               "a manifest, a file with `licence:` alone, a dataset or a model"),
    OPTION("--node", PROTO_ARG_TEXT, "NODE", "only the licence of this node"),
    OPTION("--ontology", PROTO_ARG_TEXT, "FILE",
           "where diseases get their names from (default: the shipped hierarchy)"),
    END};
static const struct proto_argument licence_new_arguments[] = {
    OPTION("--answers", PROTO_ARG_FILE_IN, "FILE",
           "\"key: value\" lines in place of a terminal, by the keys above"),
    OPTION("--out", PROTO_ARG_FILE_OUT, "FILE", "write into this new file"), END};
static const struct proto_argument licence_diff_arguments[] = {
    POSITIONAL("OLD", PROTO_ARG_TEXT, "a manifest, a file with `licence:` alone, or a dataset"),
    POSITIONAL("NEW", PROTO_ARG_TEXT, "the same"),
    OPTION("--node", PROTO_ARG_TEXT, "NODE", "of a dataset, the licence of this node"),
    OPTION("--ontology", PROTO_ARG_TEXT, "FILE",
           "which diseases lie below which (default: the shipped hierarchy)"),
    END};
static const struct proto_argument licence_compat_arguments[] = {
    OPTION("--release", PROTO_ARG_TEXT, "LICENCE", "the licence that the model shall carry"),
    {.name = "LICENCE",
     .type = PROTO_ARG_TEXT,
     .required = true,
     .repeated = true,
     .value_name = "LICENCE",
     .help = "of each training set: an SPDX expression, a manifest, or a dataset"},
    OPTION("--node", PROTO_ARG_TEXT, "NODE", "of a dataset, the licence of this node"),
    OPTION("--ontology", PROTO_ARG_TEXT, "FILE",
           "which diseases lie below which (default: the shipped hierarchy)"),
    END};
static const struct proto_argument licence_withdraw_arguments[] = {
    POSITIONAL("NAME", PROTO_ARG_TEXT, "the dataset"),
    OPTION_REQUIRED("--reason", PROTO_ARG_TEXT, "TEXT", "why; the federation reads it"), END};
static const struct proto_argument query_arguments[] = {
    POSITIONAL("SQL", PROTO_ARG_TEXT, "the question, quoted; or @FILE, or - for standard input"),
    OPTION("--purpose", PROTO_ARG_TEXT, "DUO",
           "what the answer is for: DUO:0000042 (general research), DUO:0000006 (health),\n"
           "DUO:0000007 (the --disease), ...; `concordat licence explain` says what is permitted"),
    PURPOSE_OPTIONS,
    OPTION("--epsilon", PROTO_ARG_NUMBER, "E",
           "the privacy loss to spend at each site (default: 0.5, or what the licences allow\n"
           "for a question where that is less); more of it means less noise"),
    OPTION("--delta", PROTO_ARG_NUMBER, "D",
           "how likely a greater loss may be (default: the least of the licences', else 1e-6)"),
    OPTION("--error", PROTO_ARG_TEXT, "50|5%",
           "spend what brings every 95 % margin down to this, in place of --epsilon"),
    OPTION("--assume-n", PROTO_ARG_NUMBER, "N",
           "the rows of a group that --error reckons with (default: the declared size)"),
    OPTION("--rows-per-unit", PROTO_ARG_WHOLE, "N",
           "count at most N rows of a person in a group: less noise, some bias"),
    OPTION("--groups-per-unit", PROTO_ARG_WHOLE, "N", "count a person in at most N groups"),
    OPTION("--sites", PROTO_ARG_LIST, "A,B", "ask only these nodes"),
    OPTION("--min-sites", PROTO_ARG_WHOLE, "K",
           "how many institutions must answer (default 1); where fewer hold the dataset,\n"
           "nobody is asked"),
    OPTION("--mode", PROTO_ARG_TEXT, "per-node|secure",
           "how the answers are put together (default per-node; this version refuses secure)"),
    FLAG("--explain", "show cost, margins and each site's verdict; spend nothing"),
    OPTION("--timeout", PROTO_ARG_DURATION, "TIME", "how long to wait for sites (default 30s)"),
    FLAG("--plot", "draw the answer as bars or curves in the terminal"),
    OPTION("--svg", PROTO_ARG_FILE_OUT, "FILE", "draw the answer into FILE, as an SVG picture"),
    FLAG("--csv", "print the rows as CSV, margins beside them"),
    END};
static const struct proto_argument project_create_arguments[] = {
    POSITIONAL("FILE", PROTO_ARG_FILE_IN, "the project, YAML"), END};
static const struct proto_argument project_arguments[] = {
    POSITIONAL("NAME", PROTO_ARG_TEXT, "the project"), END};
static const struct proto_argument project_end_arguments[] = {
    POSITIONAL("NAME", PROTO_ARG_TEXT, "the project"),
    OPTION_REQUIRED("--reason", PROTO_ARG_TEXT, "TEXT", "why"), END};
static const struct proto_argument visa_issue_arguments[] = {
    POSITIONAL("TYPE", PROTO_ARG_TEXT,
               "AffiliationAndRole, AcceptedTermsAndPolicies, ResearcherStatus or\n"
               "ControlledAccessGrants"),
    POSITIONAL("VALUE", PROTO_ARG_TEXT, "what is attested, as licences spell it"),
    OPTION_REQUIRED("--node", PROTO_ARG_TEXT, "NODE", "the member whose person or project it is"),
    OPTION("--person", PROTO_ARG_TEXT, "ID", "about this person there"),
    OPTION("--project", PROTO_ARG_TEXT, "NAME", "about this project there, whoever asks for it"),
    OPTION_REQUIRED("--expires", PROTO_ARG_TIME, "TIME", "no new use from then on"),
    OPTION("--source", PROTO_ARG_TEXT, "URL",
           "the organisation that says it (default: this institution)"),
    OPTION("--by", PROTO_ARG_TEXT, "WHO", "on whose word: self, peer, system, so or dac"),
    OPTION("--conditions", PROTO_ARG_TEXT, "JSON",
           "it counts only beside other visas, as GA4GH writes that:\n"
           "[[{\"type\", \"value\", \"source\", \"by\"}]]"),
    END};
static const struct proto_argument visa_list_arguments[] = {
    OPTION("--node", PROTO_ARG_TEXT, "NODE", "only about people and projects of this member"),
    OPTION("--issuer", PROTO_ARG_TEXT, "NODE", "only those that this member issued"),
    OPTION("--person", PROTO_ARG_TEXT, "ID", "only about this person"), END};
static const struct proto_argument visa_revoke_arguments[] = {
    POSITIONAL("ID", PROTO_ARG_TEXT, "the visa's id"),
    OPTION_REQUIRED("--reason", PROTO_ARG_TEXT, "TEXT",
                    "why; it stands in this node's audit chain"),
    END};
static const struct proto_argument agreement_request_arguments[] = {
    POSITIONAL("DATASET", PROTO_ARG_TEXT, "the dataset, or a model's id"),
    OPTION("--node", PROTO_ARG_TEXT, "NODE", "who publishes it, when several do"),
    OPTION("--purpose", PROTO_ARG_TEXT, "DUO", "the purpose, such as DUO:0000042"),
    PURPOSE_OPTIONS,
    OPTION("--action", PROTO_ARG_LIST, "A,B",
           "count, sum, mean, variance, quantile, histogram, regression, survival,\n"
           "finetune, evaluate (default: all)"),
    OPTION("--recipient", PROTO_ARG_LIST, "A,B", "institutions that get results as well"),
    END};
static const struct proto_argument agreement_arguments[] = {
    POSITIONAL("ID", PROTO_ARG_TEXT, "the agreement's id or its beginning"), END};
static const struct proto_argument agreement_accept_arguments[] = {
    POSITIONAL("ID", PROTO_ARG_TEXT, "the agreement's id or its beginning"),
    OPTION("--accept", PROTO_ARG_LIST, "A,B",
           "the duties that are accepted (default: those that the project promises)"),
    END};
static const struct proto_argument agreement_terminate_arguments[] = {
    POSITIONAL("ID", PROTO_ARG_TEXT, "the agreement's id or its beginning"),
    OPTION_REQUIRED("--reason", PROTO_ARG_TEXT, "TEXT", "why; the other side reads it"), END};
static const struct proto_argument queries_arguments[] = {
    OPTION("--since", PROTO_ARG_TIME, "TIME", "only from then on"), END};
static const struct proto_argument queries_show_arguments[] = {
    POSITIONAL("ID", PROTO_ARG_TEXT, "the question's id"), END};
static const struct proto_argument budget_arguments[] = {
    POSITIONAL_OPTIONAL("DATASET", PROTO_ARG_TEXT, "only of this dataset"),
    OPTION("--since", PROTO_ARG_TIME, "TIME", "history only from then on"), END};
static const struct proto_argument train_start_arguments[] = {
    POSITIONAL("JOB", PROTO_ARG_FILE_IN, "the job, YAML"),
    OPTION_REPEATED("--set", PROTO_ARG_TEXT, "KEY=VALUE", "change a key of the job: rounds=3"),
    FLAG("--local", "with this node's own rows alone, whatever the job's sites are"),
    FLAG("--explain", "show cost, noise and verdicts; spend nothing"), END};
static const struct proto_argument train_compare_arguments[] = {
    POSITIONAL("JOB", PROTO_ARG_FILE_IN, "the job, YAML"),
    OPTION_REPEATED("--set", PROTO_ARG_TEXT, "KEY=VALUE", "change a key of the job: rounds=3"),
    END};
static const struct proto_argument train_id_arguments[] = {
    POSITIONAL("ID", PROTO_ARG_TEXT, "the job's id"), END};
static const struct proto_argument train_history_arguments[] = {
    POSITIONAL("ID", PROTO_ARG_TEXT, "the job's id"),
    FLAG("--csv", "as CSV"),
    FLAG("--plot", "draw the learning curves in the terminal"),
    OPTION("--svg", PROTO_ARG_FILE_OUT, "FILE", "draw them into a picture"),
    OPTION("--tensorboard", PROTO_ARG_FILE_OUT, "DIR", "write an event file into this folder"),
    END};
static const struct proto_argument model_id_arguments[] = {
    POSITIONAL("ID", PROTO_ARG_TEXT, "the model's id"), END};
static const struct proto_argument model_fetch_arguments[] = {
    POSITIONAL("ID", PROTO_ARG_TEXT, "the model's id or its beginning"),
    OPTION("--node", PROTO_ARG_TEXT, "NODE", "from whom (default: its issuer, then its sites)"),
    OPTION("--purpose", PROTO_ARG_TEXT, "DUO",
           "what for, such as DUO:0000042 (default: what is on record)"),
    PURPOSE_OPTIONS, END};
static const struct proto_argument model_publish_arguments[] = {
    POSITIONAL("ID", PROTO_ARG_TEXT, "the model's id, or the name of an imported model"), END};
static const struct proto_argument model_export_arguments[] = {
    POSITIONAL("ID", PROTO_ARG_TEXT, "the model's id"),
    OPTION("--as", PROTO_ARG_TEXT, "safetensors|peft|onnx|int8|json",
           "the format (default safetensors; tables: json)"),
    OPTION("--prune", PROTO_ARG_NUMBER, "SHARE",
           "set that share of each layer's smallest numbers to zero"),
    OPTION("--purpose", PROTO_ARG_TEXT, "DUO",
           "what for, such as DUO:0000042 (default: what is on record)"),
    PURPOSE_OPTIONS,
    OPTION_REQUIRED("--out", PROTO_ARG_FILE_OUT, "DIR", "the folder to write into, new or empty"),
    END};
static const struct proto_argument model_predict_arguments[] = {
    POSITIONAL("ID", PROTO_ARG_TEXT, "the model's id, or a base model's name"),
    OPTION_REQUIRED("--data", PROTO_ARG_FILE_IN, "FILE", "texts, or rows of a table with a header"),
    OPTION("--format", PROTO_ARG_TEXT, "text|conll",
           "one sentence a line, or one word a line (default: by the file's name)"),
    OPTION("--purpose", PROTO_ARG_TEXT, "DUO",
           "what for, such as DUO:0000042 (default: what is on record)"),
    PURPOSE_OPTIONS,
    END};
static const struct proto_argument tokenize_arguments[] = {
    OPTION_REQUIRED("--model", PROTO_ARG_FILE_IN, "DIR",
                    "a folder with vocab.txt or tokenizer.json"),
    END};
static const struct proto_argument report_arguments[] = {
    OPTION("--mode", PROTO_ARG_TEXT, "conlleval|strict", "rules of entities (default conlleval)"),
    END};
static const struct proto_argument model_import_arguments[] = {
    POSITIONAL("DIR", PROTO_ARG_FILE_IN, "a folder in the layout of Hugging Face"),
    OPTION_REQUIRED("--name", PROTO_ARG_TEXT, "NAME", "what jobs call it: model: {base: NAME}"),
    OPTION("--base", PROTO_ARG_TEXT, "NAME", "of adapters: the imported model they belong to"),
    OPTION_REQUIRED("--licence", PROTO_ARG_TEXT, "SPDX", "the licence it came with"), END};
static const struct proto_argument approvals_arguments[] = {
    FLAG("--all", "decided and expired ones too"), END};
static const struct proto_argument approve_arguments[] = {
    POSITIONAL("ID", PROTO_ARG_TEXT, "the approval's id or its beginning"),
    FLAG("--project", "approve all that the project asks of the dataset for this purpose"),
    OPTION("--valid", PROTO_ARG_DURATION, "TIME",
           "how long the approval stands (default: approvals: valid: of node.yaml, 30d)"),
    OPTION("--reason", PROTO_ARG_TEXT, "TEXT", "a note for the audit chain and the requester"),
    END};
static const struct proto_argument deny_arguments[] = {
    POSITIONAL("ID", PROTO_ARG_TEXT, "the approval's id or its beginning"),
    OPTION_REQUIRED("--reason", PROTO_ARG_TEXT, "TEXT", "why; the requester reads it"), END};
static const struct proto_argument audit_list_arguments[] = {
    OPTION("--since", PROTO_ARG_TIME, "TIME", "only from then on"),
    OPTION("--kind", PROTO_ARG_TEXT, "KIND", "only this kind; \"query.\" takes all of queries"),
    END};
static const struct proto_argument audit_egress_arguments[] = {
    OPTION("--since", PROTO_ARG_TIME, "TIME", "only from then on"), END};
static const struct proto_argument audit_verify_arguments[] = {
    OPTION("--file", PROTO_ARG_FILE_IN, "EXPORT", "an export in place of this home's chain"), END};
static const struct proto_argument audit_export_arguments[] = {
    POSITIONAL("FILE", PROTO_ARG_FILE_OUT, "the file to write"), END};
static const struct proto_argument accountant_arguments[] = {
    OPTION("--sigma", PROTO_ARG_NUMBER, "S", "noise multiplier; give this or --epsilon"),
    OPTION("--epsilon", PROTO_ARG_NUMBER, "E", "find the noise multiplier for this loss"),
    OPTION_REQUIRED("--rate", PROTO_ARG_NUMBER, "Q", "sampling rate of one step, 0 to 1"),
    OPTION_REQUIRED("--steps", PROTO_ARG_WHOLE, "T", "number of steps"),
    OPTION_REQUIRED("--delta", PROTO_ARG_NUMBER, "D", "delta"),
    END};
static const struct proto_argument licence_decide_arguments[] = {
    OPTION_REQUIRED("--record", PROTO_ARG_FILE_IN, "FILE", "the licence as JSON"),
    OPTION_REQUIRED("--request", PROTO_ARG_FILE_IN, "FILE", "the request as JSON"),
    OPTION("--ontology", PROTO_ARG_TEXT, "FILE",
           "the disease hierarchy (default: the shipped one; none: no hierarchy)"),
    END};
static const struct proto_argument completion_arguments[] = {
    POSITIONAL("SHELL", PROTO_ARG_TEXT, "bash or zsh"), END};
static const struct proto_argument key_add_arguments[] = {
    OPTION("--unlock", PROTO_ARG_TEXT, "HOW",
           "keyfile:PATH (made when absent), credential:NAME, passphrase, or a key in a token\n"
           "(made when absent): pkcs11:token=LABEL;object=LABEL?module-path=/FILE&\n"
           "pin-source=file:PATH"),
    OPTION("--recovery", PROTO_ARG_TEXT, "K/N", "N shares, any K of which open the keyring"),
    OPTION("--passphrase-file", PROTO_ARG_FILE_IN, "FILE",
           "its first line is the passphrase, or a token's PIN"),
    END};
static const struct proto_argument key_remove_arguments[] = {
    POSITIONAL("SLOT", PROTO_ARG_WHOLE, "the slot's number, from `concordat key list`"), END};
static const struct proto_argument key_rotate_arguments[] = {
    FLAG("--dek", "new keys for all datasets, in the background"),
    FLAG("--passphrase", "another passphrase, from --passphrase-file"),
    FLAG("--identity", "not in this version"),
    FLAG("--drop-slots",
         "drop the slots that a new key-encryption key cannot be sealed for, as their\n"
         "secrets are not at hand: recovery shares, other passphrases, tokens"),
    OPTION("--passphrase-file", PROTO_ARG_FILE_IN, "FILE",
           "its first line is the new passphrase, or without --passphrase the present one\n"
           "(of a token: its PIN)"),
    END};
static const struct proto_argument key_recover_arguments[] = {
    OPTION_REQUIRED("--shares", PROTO_ARG_FILE_IN, "FILE", "recovery shares, one a line"),
    OPTION("--unlock", PROTO_ARG_TEXT, "HOW",
           "the new way in: keyfile:PATH, credential:NAME, passphrase (from\n"
           "CONCORDAT_PASSPHRASE) or pkcs11:...; default: what node.yaml says"),
    END};
static const struct proto_argument backup_arguments[] = {
    POSITIONAL("DIR", PROTO_ARG_FILE_OUT, "a folder that does not exist or is empty"), END};
static const struct proto_argument fsck_arguments[] = {
    OPTION("--unlock", PROTO_ARG_TEXT, "HOW",
           "without a daemon: keyfile:PATH, credential:NAME, passphrase (from\n"
           "CONCORDAT_PASSPHRASE) or pkcs11:...; default: what node.yaml says"),
    END};
static const struct proto_argument restore_arguments[] = {
    POSITIONAL("DIR", PROTO_ARG_FILE_IN, "what `concordat backup` wrote"),
    OPTION("--unlock", PROTO_ARG_TEXT, "HOW",
           "keyfile:PATH, credential:NAME, passphrase (from CONCORDAT_PASSPHRASE) or\n"
           "pkcs11:...; default: what the backup's node.yaml says"),
    END};
static const struct proto_argument restore_accept_arguments[] = {
    FLAG("--unwitnessed", "nobody could be asked what this node had spent; nothing is charged"),
    END};
static const struct proto_argument man_arguments[] = {
    POSITIONAL_OPTIONAL("PAGE", PROTO_ARG_TEXT, "concordat (default) or concordatd"), END};
static const struct proto_argument help_arguments[] = {
    {.name = "COMMAND",
     .type = PROTO_ARG_TEXT,
     .repeated = true,
     .value_name = "COMMAND",
     .help = "the command to explain; none: the list of all"},
    END};

/* Shapes that more than one operation answers. */
#define SITES_ANSWER                                                                               \
    "[{\"node\",\"status\":\"answered|refused|unreachable|unavailable|waiting\",\"reason\",\n"     \
    "  \"detail\",\"epsilon_per_query\",\"version\",\"withheld\",\"replayed\",\"approval\",\n"     \
    "  \"verdict\",\"clauses\":[]}]"
#define BUDGET_ANSWER                                                                              \
    "[{\"node\",\"dataset\",\"epsilon_total\",\"epsilon_left\",\"delta\",\"rho_total\",\"rho_"     \
    "left\"}]"
#define PROJECT_ANSWER                                                                             \
    "{\"project\",\"node\",\"state\":\"open|ended\",\"purpose\",\"diseases\":[],\"research\":[],"  \
    "\n"                                                                                           \
    " \"commercial\",\"ethics\":{\"ref\",\"expires\"},\"recipients\":[],\"obligations\":[],\n"     \
    " \"people\":[],\"ends\",\"record\"}"
#define VISA_ANSWER                                                                                \
    "{\"visa\",\"state\":\"valid|expired|revoked|void\",\"issuer\",\"institution\",\"node\","      \
    "\"person\",\"project\",\n"                                                                    \
    " \"type\",\"value\",\"source\",\"by\",\"asserted\",\"expires\",\"record\",\n"                 \
    " \"conditions\":[[{\"type\",\"value\",\"source\",\"by\"}]]}"
#define AGREEMENT_ANSWER                                                                           \
    "{\"agreement\",\"state\":\"REQUESTED|OFFERED|ACCEPTED|AGREED|VERIFIED|FINALIZED|"             \
    "TERMINATED\",\n"                                                                              \
    " \"side\":\"consumer|provider\",\"node\",\"dataset\",\"in_force\",\"reason\",\"waits\",\n"    \
    " \"institution\",\"org_type\",\"person\",\"project\",\"purpose\",\"diseases\":[],\"ethics\"," \
    "\n"                                                                                           \
    " \"recipients\":[],\"licence\",\"actions\":[],\"accepted\":[],\"starts\",\"ends\",\n"         \
    " \"duties\":[{\"id\",\"when\",\"text\",\"promise\"}]}"
#define TRAIN_ANSWER                                                                               \
    "{\"job\",\"state\":\"running|done|failed|stopped|waiting\",\"round\",\"rounds\",\n"           \
    " \"coordinator\",\"sites\":[{\"node\",\"state\",\"reason\"}],\n"                              \
    " \"history\":[{\"round\",\"train_loss\",\"eval_loss\",\"metrics\",\"epsilon\",\n"             \
    "  \"participants\":[],\"bytes_up\",\"bytes_down\",\"seconds\"}],\"model\"}"

#define ROW(id_, path_, where_, roles_, long_, arguments_, summary_, help_, answer_)               \
    [PROTO_OP_##id_] = {PROTO_OP_##id_, path_,    where_, roles_, long_,                           \
                        arguments_,     summary_, help_,  answer_}
#define ANALYST     (PROTO_ROLE_ANALYST | PROTO_ROLE_COORDINATOR | PROTO_ROLE_OPERATOR)
#define COORDINATOR (PROTO_ROLE_COORDINATOR | PROTO_ROLE_OPERATOR)
#define OPERATOR    PROTO_ROLE_OPERATOR
#define AUDITOR     (PROTO_ROLE_AUDITOR | PROTO_ROLE_OPERATOR)
#define LOCAL       PROTO_WHERE_LOCAL
#define DAEMON      PROTO_WHERE_DAEMON
#define BOTH        PROTO_WHERE_BOTH

const struct proto_operation proto_operations[] = {
    ROW(SANDBOX_CREATE, "sandbox create", LOCAL, 0, false, sandbox_create_arguments,
        "make a whole federation on this machine",
        "Makes one home DIR/<name> for each node: real keys, a charter, certificates and free\n"
        "ports on 127.0.0.1. Each node is an organisation of its own name (nonprofit, DE); its\n"
        "keys are unlocked by a key file of mode 0600. Nothing is simulated: the nodes are real\n"
        "daemons that speak mutual TLS over loopback. Start them with `concordat sandbox start`.",
        "[{\"node\",\"home\",\"listen\"}]"),
    ROW(SANDBOX_START, "sandbox start", LOCAL, 0, true, sandbox_start_arguments,
        "start a sandbox's daemons and wait until they are meshed",
        "Starts one concordatd for each home and returns when every node sees all others up.\n"
        "Exit 6 when they are not meshed in time; log/concordatd.log in each home says why.",
        "[{\"node\",\"pid\",\"home\",\"listen\",\"state\":\"up|down|starting\"}]"),
    ROW(SANDBOX_STATUS, "sandbox status", LOCAL, 0, false, sandbox_dir_arguments,
        "show which daemons of a sandbox run", "Lists the nodes with their process and state.",
        "[{\"node\",\"pid\",\"home\",\"listen\",\"state\":\"up|down|starting\"}]"),
    ROW(SANDBOX_STOP, "sandbox stop", LOCAL, 0, false, sandbox_stop_arguments,
        "stop a sandbox's daemons",
        "Asks every daemon to drain and end (SIGTERM) and waits for it. With --kill one daemon\n"
        "is killed at once (SIGKILL), as a crash would; `concordat sandbox start` brings it back.",
        "[{\"node\",\"pid\",\"home\",\"listen\",\"state\"}]"),
    ROW(SANDBOX_REMOVE, "sandbox remove", LOCAL, 0, false, sandbox_dir_arguments,
        "delete a sandbox",
        "Deletes the homes that `sandbox create` made, and the files of `sandbox split` that were\n"
        "not changed since. Other files stay. Refuses while one of its daemons runs.",
        "{\"removed\"}"),
    ROW(SANDBOX_SPLIT, "sandbox split", LOCAL, 0, false, sandbox_split_arguments,
        "split a CSV file into one file per node",
        "Writes DIR/<node>.csv for each node of the sandbox DIR, each with the header. By hash,\n"
        "a row goes where the hash of its number says, evenly; with label:COLUMN each value of\n"
        "the column is spread over the nodes in proportions drawn from a Dirichlet distribution.\n"
        "The same file and options give the same split.",
        "{\"file\",\"rows\",\"parts\":[{\"node\",\"file\",\"rows\"}]}"),
    ROW(INIT, "init", LOCAL, 0, false, init_arguments,
        "make this node's home and join a federation",
        "With --found: makes the federation's root, its charter and the first member, this node.\n"
        "With --token-file: makes the keys here, asks the inviting node for a certificate and\n"
        "keeps it; private keys never leave this machine. Name, organisation, type and country\n"
        "are those of the token, which the inviter signed. With --prepare: makes the keys only\n"
        "and prints their fingerprint, which an invitation may name with --key; where it names\n"
        "none, init waits until the inviting node's operator has compared the fingerprint and\n"
        "admitted it. With --unlock passphrase it is asked for on the terminal, or taken from\n"
        "CONCORDAT_PASSPHRASE. For example:\n"
        "\n"
        "  concordat --home /srv/node init --found trials --name alpha --org \"Clinic A\" \\\n"
        "      --org-type nonprofit --country DE --listen tls+tcp://alpha.example:7400\n"
        "  concordat --home /srv/node init --token-file token --listen none",
        "{\"node\",\"node_id\",\"home\",\"federation\",\"federation_id\",\"fingerprint\","
        "\"state\":\"founded|member|pending|prepared\"}"),
    ROW(DOCTOR, "doctor", BOTH, 0, false, no_arguments, "check this node before trouble comes",
        "Checks configuration, keys, clock, ports, disk, and, when the daemon runs, peers and\n"
        "versions. Each line is ok, warn or fail, and says what cures it. Exit 1 on a fail.",
        "{\"checks\":[{\"check\",\"result\":\"ok|warn|fail\",\"text\",\"cure\"}]}"),
    ROW(CLOCK_ACCEPT, "clock accept", DAEMON, OPERATOR, false, no_arguments,
        "confirm that this machine's clock is right",
        "A node never goes by a time earlier than the latest that it has kept, and refuses what\n"
        "depends on time (exit 9, CLOCK) while its clock is more than 5 minutes behind that. When\n"
        "it ran ahead then and is right now, this command makes the node go by it again. Peers'\n"
        "clocks must not contradict.",
        "{\"time\"}"),
    ROW(STATUS, "status", DAEMON, 0, false, no_arguments, "show what this node is and does",
        "Shows node, federation, peers, datasets, jobs, budgets and versions.",
        "{\"node\",\"node_id\",\"org\",\"federation\",\"federation_id\",\"fingerprint\",\"listen\","
        "\n"
        " \"state\":\"starting|serving|draining\",\"since\",\"version\",\"wire\",\n"
        " \"peers\":[{\"node\",\"org\",\"state\",\"address\",\"last_seen\",\"root_equal\"}],\n"
        " \"datasets\":[{\"dataset\",\"version\",\"title\"}],\n"
        " \"jobs\":[{\"job\",\"name\",\"state\",\"round\",\"rounds\"}],\n"
        " \"reminders\":[{\"what\",\"id\",\"name\",\"node\",\"due\",\"days\",\"text\"}],\n"
        " \"budgets\":" BUDGET_ANSWER "}"),
    ROW(PEERS, "peers", DAEMON, 0, false, no_arguments, "list the members and who is reachable",
        "Lists every member of the federation as this node sees it.",
        "[{\"node\",\"org\",\"state\":\"self|up|connecting|down|revoked\",\"address\","
        "\"last_seen\",\"root_equal\"}]"),
    ROW(FEDERATION_INVITE, "federation invite", DAEMON, OPERATOR, false, invite_arguments,
        "make a one-time token for a new node",
        "Prints a token for `concordat init --token-file` on the new node. It carries the\n"
        "address of this node and the root's fingerprint and is good once. Without --key the\n"
        "node stays pending until `concordat federation admit` names its fingerprint. While an\n"
        "invitation is outstanding, this node listens on the port above its own as well: open\n"
        "both in the firewall.",
        "{\"token\",\"node\",\"org\",\"org_type\",\"country\",\"role\",\"expires\",\"address\","
        "\"key\"}"),
    ROW(FEDERATION_ADMIT, "federation admit", DAEMON, OPERATOR, false, admit_arguments,
        "admit a pending node after comparing its fingerprint",
        "The new node shows its fingerprint while it waits. Compare it with the other institution\n"
        "by telephone or on paper first: whoever has the token may have sent another.",
        "{\"node\",\"node_id\",\"state\":\"member\"}"),
    ROW(FEDERATION_COUNCIL, "federation council", DAEMON, 0, false, no_arguments,
        "list the council that admits and expels",
        "Lists the nodes that sign for the federation, how many of them it takes, and what waits\n"
        "for their signatures.",
        "{\"federation\",\"threshold\",\"epoch\",\"council\":[{\"node\",\"node_id\"}],\n"
        " \"proposals\":[{\"record\",\"what\",\"endorsed\",\"threshold\",\"by\":[],\"ours\"}]}"),
    ROW(FEDERATION_COUNCIL_ADD, "federation council add", DAEMON, OPERATOR, false, seat_arguments,
        "propose a member for the council",
        "As many seats as today's council asks for have to endorse it, and as many of the new\n"
        "one. With n seats k must sign: 1 of 1, 2 of 2, 2 of 3, then two thirds and one.",
        "{\"node\",\"record\",\"state\":\"in force|endorsing\",\"endorsed\",\"threshold\"}"),
    ROW(FEDERATION_COUNCIL_REMOVE, "federation council remove", DAEMON, OPERATOR, false,
        seat_arguments, "propose to take a seat from a member",
        "The member stays a member; see `concordat revoke` to expel it.",
        "{\"node\",\"record\",\"state\":\"in force|endorsing\",\"endorsed\",\"threshold\"}"),
    ROW(ENDORSE, "endorse", DAEMON, OPERATOR, false, endorse_arguments,
        "sign what another seat of the council proposed",
        "`concordat federation council` lists the proposals. Signing cannot be taken back; a\n"
        "proposal without enough signatures lapses after 30 days.",
        "{\"record\",\"state\":\"in force|endorsing\",\"endorsed\",\"threshold\"}"),
    ROW(REVOKE, "revoke", DAEMON, OPERATOR, false, revoke_arguments, "expel a node for good",
        "Collects the council's endorsements; once there are enough, every member closes its\n"
        "links to the node and accepts nothing more from it.",
        "{\"node\",\"record\",\"state\":\"revoked|endorsing\",\"endorsed\",\"threshold\"}"),
    ROW(DATASET_IMPORT, "dataset import", DAEMON, OPERATOR, true, import_arguments,
        "import rows under a manifest, de-identified and sealed",
        "Reads the rows, checks each against the manifest, de-identifies and seals them. Either\n"
        "all of it is imported or nothing. Rows that do not fit are named by line, column and\n"
        "reason; more of them than --max-rejects: exit 7, nothing imported. Numbers outside their\n"
        "bounds become the nearer bound and are counted. Until the new version is whole, "
        "questions\n"
        "are answered from the old one. Try it first with --dry-run. For example:\n"
        "\n"
        "  concordat dataset import manifest.yaml --data rows.csv --dry-run",
        "{\"dataset\",\"rows\",\"total\",\"replaced\",\"excluded\",\"rejected\",\n"
        " \"rejects\":[{\"line\",\"column\",\"reason\"}],\n"
        " \"bytes_raw\",\"bytes_stored\",\"deidentified\":{\"column\":\"operation\"},\n"
        " \"safe_harbor\":{\"column\":{\"operation\",\"safe_harbor\":\"yes|no|depends\",\"why\"}},"
        "\n"
        " \"clamped\":{\"column\":count},\"blanked\":{},\"redacted\":{},\"absent\":[\"column\"],\n"
        " \"unjoined\",\"tables\":\"sha256\",\"mapping\":\"sha256\"}"),
    ROW(DATASET_DRAFT, "dataset draft", LOCAL, 0, false, draft_arguments,
        "draft a manifest out of Croissant or a data set card",
        "Takes names, types, labels and the licence from the description; what it leaves open\n"
        "stands in the draft as a comment. Licences of descriptions are often wrong: the draft\n"
        "permits counts alone, for health research, and each use waits for the holder's yes.",
        "{\"manifest\":\"YAML\",\"needs\":\"what a manifest still lacks, with its place\" or null,"
        "\"notes\":count}"),
    ROW(DATASET_MAPPING, "dataset mapping", LOCAL, 0, false, mapping_arguments,
        "list the ready mappings of FHIR and OMOP, or print one",
        "A mapping says how resources or a database become rows (`mapping:` in the manifest).\n"
        "Print one into a file of yours, edit it, and name the file there. A file NAME.yaml in\n"
        "the folder mappings of the node's home is used for a bare NAME before a ready one.",
        "[{\"mapping\",\"title\"}] or {\"mapping\",\"text\"}"),
    ROW(DATASET_LIST, "dataset list", DAEMON, 0, false, no_arguments,
        "list the datasets that this node holds", "Lists this node's own datasets.",
        "[{\"dataset\",\"version\",\"title\",\"columns\",\"bytes_stored\",\"imported\",\"licence\","
        "\n"
        "  \"damaged\"}]"),
    ROW(DATASET_SHOW, "dataset show", DAEMON, 0, false, dataset_arguments,
        "show a dataset's columns, licence and budget",
        "Shows the schema as peers see it; the operator of this node also sees the row count.",
        "{\"dataset\",\"version\",\"title\",\"unit\",\"max_rows_per_unit\",\"size\",\"schema_"
        "hash\",\n"
        " \"rows\",\"columns\":[{\"name\",\"type\",\"min\",\"max\",\"values\",\"deidentify\"}],\n"
        " \"licence\":{...},\"budget\":{...},\"damaged\"}"),
    ROW(DATASET_RISK, "dataset risk", DAEMON, OPERATOR, true, dataset_risk_arguments,
        "measure how well stored rows hide a person",
        "Groups the stored rows by what others may know of a person, and tells how few people\n"
        "share a group, how varied the sensitive columns are in it, how far they differ from\n"
        "all rows (earth mover's distance), and how many rows would have to go. A missing value\n"
        "is a value. The figures are exact: they are for this node's operator and leave it in\n"
        "no other way.",
        "{\"dataset\",\"quasi\":[],\"k_anonymity\",\"classes\",\"unique\",\"rows\",\n"
        " \"suppression\":{\"k\",\"classes\",\"rows\",\"share\"},\n"
        " \"sensitive\":[{\"column\",\"distinct_l\",\"entropy_l\",\"recursive_c\",\n"
        "  \"below_l\":{\"l\",\"classes\",\"rows\"},\n"
        "  \"t_closeness\",\"above_t\":{\"t\",\"classes\",\"rows\"}}]}"),
    ROW(DATASET_UPDATE, "dataset update", DAEMON, OPERATOR, false, dataset_update_arguments,
        "publish a changed licence or description",
        "The columns must stay as they are; changed columns need a new import. Budget that was\n"
        "spent stays spent.",
        "{\"dataset\",\"version\",\"licence\"}"),
    ROW(DATASET_FORGET, "dataset forget", DAEMON, OPERATOR, true, dataset_forget_arguments,
        "forget people: their rows, their pseudonyms, and the old key",
        "Writes the stored rows anew without these people, under a new key, and destroys the old\n"
        "key, so that no copy of the old file can be read again. Later imports give them new\n"
        "pseudonyms: name them in the manifest's `exclude:` file to keep them out. Budget that\n"
        "was spent stays spent; answers and models that were given stay given.",
        "{\"dataset\",\"rows\",\"total\"}"),
    ROW(DATASET_REMOVE, "dataset remove", DAEMON, OPERATOR, false, dataset_remove_arguments,
        "remove a dataset and destroy its key",
        "Withdraws the licence, deletes the partition and shreds its key, so that no copy can\n"
        "be read again. The ledger keeps what was spent.",
        "{\"dataset\",\"removed\":true}"),
    ROW(CATALOG, "catalog", DAEMON, 0, false, catalog_arguments,
        "list every dataset and model of the federation",
        "Lists what the members publish, with licence and budget, as this node has heard it.\n"
        "--disease alone keeps what may be used for that disease. --mine decides as each site\n"
        "would, spending nothing. For example:\n"
        "\n"
        "  concordat catalog creatinine --mine --purpose DUO:0000006",
        "{\"datasets\":[{\"dataset\",\"node\",\"org\",\"version\",\"title\",\"size\",\"licence\":\n"
        "  {\"id\",\"spdx\",\"expires\",\"state\":\"valid|expired|withdrawn|forked|none\",\n"
        "   \"permissions\":[],\"diseases\":[],\"actions\":[]},\n"
        "  \"column_names\":[],\"size_class\",\"published\",\n"
        "  "
        "\"you\":[{\"purpose\",\"permit\":[],\"hold\":[],\"deny\":[{\"action\",\"reason\",\"text\"}"
        "]}],\n"
        "  \"budget\":{\"epsilon_total\",\"epsilon_per_query\",\"epsilon_per_job\",\"delta\"}}],\n"
        " \"models\":[{\"model\",\"job\",\"task\",\"dataset\",\"node\",\"epsilon\",\"created\"}]}"),
    ROW(LICENCE_SHOW, "licence show", DAEMON, 0, false, licence_show_arguments,
        "show the terms of a dataset", "Shows the signed terms of every node that publishes it.",
        "{\"dataset\",\"licences\":[{\"node\",\"id\",\"seq\",\"state\",\"spdx\",\"expires\",\n"
        "  \"geography\",\"recipients\",\"obligations\",\"hold\",\"grants\":[...]}]}"),
    ROW(LICENCE_CHECK, "licence check", DAEMON, 0, false, licence_check_arguments,
        "tell whether a use would be permitted, clause by clause",
        "Decides as each site would decide, without asking or spending anything. NAME may be a\n"
        "model, too: its licence comes from those of the data that taught it.",
        "{\"dataset\",\"sites\":[{\"node\",\"verdict\":\"permit|hold|deny\",\"reason\",\"text\",\n"
        "  \"grant\",\"clauses\":[{\"clause\",\"expected\",\"result\":\"pass|fail|needed\","
        "\"reason\",\"grant\"}]}]}"),
    ROW(LICENCE_EXPLAIN, "licence explain", LOCAL, 0, false, licence_explain_arguments,
        "say in plain words what a licence permits and forbids",
        "For each alternative: what it permits, what it is not for, and what the one who asks\n"
        "must be, state or promise. For example:\n"
        "\n"
        "  concordat licence explain flchain\n"
        "  concordat licence explain manifest.yaml",
        "{\"licences\":[{\"source\",\"state\",\"about\":[],\n"
        "  \"grants\":[{\"title\",\"permits\":[],\"forbids\":[],\"needs\":[]}]}]}"),
    ROW(LICENCE_NEW, "licence new", LOCAL, 0, false, licence_new_arguments,
        "ask what a licence needs and write it",
        "Asks on the terminal and prints the manifest's `licence:` block. Keys of --answers:\n"
        "spdx and expires (needed), permission, disease, use (any|nonprofit|noncommercial|both),\n"
        "geography, institutions, visa, visa_value, visa_issuers, visa_by, ethics, publish,\n"
        "collaborate, embargo, actions, min_cohort, epsilon_total, epsilon_per_query, delta,\n"
        "training, max_rounds, epsilon_per_job, release, approval, contact. A grant may ask for\n"
        "more visas than one; write the others into the block.",
        "{\"licence\":\"the block, YAML\"}"),
    ROW(LICENCE_DIFF, "licence diff", LOCAL, 0, false, licence_diff_arguments,
        "tell what became wider or narrower, clause by clause",
        "Compares two licences; alternatives are matched by what they permit.",
        "{\"summary\":\"same|wider|narrower|mixed\",\"wider\",\"narrower\",\"old\",\"new\",\n"
        " \"changes\":[{\"change\":\"wider|narrower|changed\",\"clause\",\"from\",\"to\"}]}"),
    ROW(LICENCE_COMPAT, "licence compat", LOCAL, 0, false, licence_compat_arguments,
        "tell whether a model may be trained on A and B and released under C",
        "Answers in two readings: conservative (a model is an adaptation of its data; what\n"
        "decisions use) and text (only what the licences say). Each verdict names the licence\n"
        "and the clause that decides. Where manifests or datasets are named, it also says what\n"
        "the model may be used for. This is a table read by engineers, not legal advice. For\n"
        "example:\n"
        "\n"
        "  concordat licence compat --release Apache-2.0 CC-BY-SA-4.0 CC-BY-4.0\n"
        "  concordat licence compat flchain tumours",
        "{\"data\":[],\"release\",\"readings\":[{\"reading\",\"train\":\"yes|a person "
        "decides|no\",\n"
        "  "
        "\"train_decides\":{\"licence\",\"clause\"},\"release\",\"release_decides\",\"outbound\",\n"
        "  \"clash\",\"elected\":[],\"duties\":[{\"id\",\"meaning\",\"from\":[]}]}],\n"
        " \"licences\":[the model's, as explain tells it],\"model_release\",\"model_capped\"} or "
        "\"model_refused\""),
    ROW(LICENCE_WITHDRAW, "licence withdraw", DAEMON, OPERATOR, false, licence_withdraw_arguments,
        "withdraw a licence for good",
        "Every node that hears of it refuses new work at once. What was answered stays answered.",
        "{\"dataset\",\"record\",\"state\":\"withdrawn\"}"),
    ROW(QUERY, "query", DAEMON, ANALYST, true, query_arguments,
        "ask the sites that hold a dataset a question in SQL",
        "SELECT aggregates and group columns FROM dataset [WHERE ...] [GROUP BY columns], with\n"
        "COUNT(*), COUNT(DISTINCT unit), COUNT(column), SUM, AVG, VAR, STDDEV (of a sample),\n"
        "CORR(a, b), MIN, MAX, MEDIAN, QUANTILE(column, q); and, each alone but for group "
        "columns,\n"
        "HISTOGRAM(column, n), LINREG(y, x1, ...), SURVIVAL(time, event, bins). Every site "
        "decides\n"
        "for itself, adds noise to its answer and charges its own budget; the margins are 95 %\n"
        "intervals of that noise. Of a private category only groups that stand out of the noise "
        "are\n"
        "told. Noise goes by the columns' bounds, and by what WHERE leaves of them: creatinine < "
        "3\n"
        "makes less. The same question again costs nothing and gives the same numbers. --explain\n"
        "spends nothing. For example:\n"
        "\n"
        "  concordat query \"SELECT sex, COUNT(*), AVG(creatinine) FROM flchain GROUP BY sex\" \\\n"
        "      --purpose DUO:0000042 --epsilon 0.5",
        "{\"query_id\",\"dataset\",\"mode\",\"shape\":\"cells|histogram|linreg|survival\",\n"
        " \"columns\":[],\"groups\":[],\"rows\":[[]],\"margin95\":[[]],\n"
        " \"hidden\":[[row,column]],\"sites\":" SITES_ANSWER ",\n"
        " \"cost\":{\"epsilon\",\"delta\",\"rho\"},\n"
        " \"budget\":" BUDGET_ANSWER ",\n"
        " \"privacy\":{\"unit\",\"relation\",\"scope\",\"mechanism\",\"rows_per_unit\",\n"
        "  "
        "\"rows_per_group\",\"groups_per_unit\"},\"comparison\",\"fit\",\"threshold\",\n"
        " \"row_sites\",\"replayed\",\"explain\",\"warnings\":[]}"),
    ROW(QUERIES, "queries", DAEMON, 0, false, queries_arguments,
        "list the questions that were asked here",
        "Lists your own questions, newest first; operators and auditors see all that this node\n"
        "asked.",
        "[{\"query_id\",\"time\",\"person\",\"project\",\"dataset\",\"sql\",\"state\",\"epsilon\"}"
        "]"),
    ROW(QUERIES_SHOW, "queries show", DAEMON, 0, false, queries_show_arguments,
        "show a question's answer again",
        "Shows the question and the stored answer, or why each site refused; nothing is asked or\n"
        "spent.",
        "the answer of `query`, and "
        "{\"question\":{\"sql\",\"person\",\"project\",\"state\",\"time\","
        "\"epsilon\"}}"),
    ROW(QUERIES_COLLECT, "queries collect", DAEMON, ANALYST, true, queries_show_arguments,
        "ask again what waited for a person's approval",
        "Asks the same question with the same options. Sites whose people have approved it answer\n"
        "now; what was answered before comes again and costs nothing.",
        "the answer of `query`"),
    ROW(BUDGET, "budget", DAEMON, 0, false, budget_arguments,
        "show how much privacy budget is left",
        "Shows this node's accounts and domains, and what the others said with their last\n"
        "answers. With a dataset of this node also who spent what (operators and auditors see\n"
        "everybody, others themselves), and about how many more questions like the last one\n"
        "are left.",
        "{\"budget\":[{\"node\",\"dataset\",\"epsilon_total\",\"epsilon_left\",\"delta\","
        "\"rho_total\",\"rho_left\",\n"
        " \"domain\",\"epsilon_spent\",\"epsilon_spent_tight\",\"thresholds\",\"window\","
        "\n"
        " \"questions_left\":{\"epsilon\",\"count\",\"like\",\"margin95\",\"relative\"}}],\n"
        " \"others\":[{\"node\",\"dataset\",...,\"as_of\"}],\n"
        " \"domains\":[{\"domain\",\"declared\",\"epsilon_total\",\"epsilon_left\",...}],\n"
        " \"history\":[{\"time\",\"kind\",\"state\",\"institution\",\"person\",\"rho\",\"id\",...}]"
        ",\n"
        " \"forecast\":{\"rho\",\"questions\"}}"),
    ROW(TRAIN_START, "train start", DAEMON, COORDINATOR, false, train_start_arguments,
        "start a training job, print its id",
        "This node coordinates; every site decides for itself, and charges all planned steps to\n"
        "its ledger before the first. Watch it with `concordat train watch`. epsilon_tight is the\n"
        "loss of the whole plan by privacy-loss distributions, for reports: the ledger goes by "
        "rho.",
        "{\"job\",\"name\",\"state\"}; with --explain\n"
        "{\"job\":null,\"explain\":true,\"sigma\",\"steps\",\"rate\",\"rounds\","
        "\"cost\":{\"epsilon\",\"delta\",\"rho\",\"epsilon_tight\"},\n"
        "\"sites\":[{\"node\",\"status\",\"reason\",\"detail\",\"verdict\":\"permit|deny\",\n"
        " \"clauses\":[],\"sigma\",\"cost\"}]}"),
    ROW(TRAIN_WATCH, "train watch", DAEMON, 0, true, train_id_arguments, "follow a job to its end",
        "Shows one line a round. Ctrl-C ends the watching, not the job.", TRAIN_ANSWER),
    ROW(TRAIN_RUN, "train run", LOCAL, 0, true, train_start_arguments,
        "start a job and follow it to its end",
        "The same as `train start` and `train watch`. Ctrl-C ends the watching, not the job:\n"
        "`concordat train stop` ends that.",
        TRAIN_ANSWER),
    ROW(TRAIN_COMPARE, "train compare", LOCAL, 0, true, train_compare_arguments,
        "train at this site alone and federated, side by side",
        "Runs the job with this node's own rows alone (`train run --local`), then as it is. Each\n"
        "model is judged on the held-out rows of those who trained it. These are two jobs: this\n"
        "site's budget pays for both.",
        "{\"local\":JOB,\"federated\":JOB}, each as `train show` has it"),
    ROW(TRAIN_LIST, "train list", DAEMON, 0, false, no_arguments,
        "list the jobs that this node knows",
        "Lists jobs that this node coordinates or takes part in.",
        "[{\"job\",\"name\",\"state\",\"round\",\"rounds\",\"coordinator\",\"dataset\",\"started\"}"
        "]"),
    ROW(TRAIN_SHOW, "train show", DAEMON, 0, false, train_id_arguments,
        "show a job's rounds, sites and model", "Shows what is known of the job so far.",
        TRAIN_ANSWER),
    ROW(TRAIN_STOP, "train stop", DAEMON, COORDINATOR, false, train_id_arguments, "stop a job",
        "Steps that never started go back to the budgets; `train resume` takes them again.",
        "{\"job\",\"state\"}"),
    ROW(TRAIN_RESUME, "train resume", DAEMON, COORDINATOR, false, train_id_arguments,
        "go on with a job from its last round",
        "After a crash of the coordinator: what was charged is not charged again. After\n"
        "`train stop`: its sites decide anew, and are charged what the stop gave back.",
        "{\"job\",\"state\",\"round\"}"),
    ROW(TRAIN_VERIFY, "train verify", DAEMON, 0, false, train_id_arguments,
        "compute a job's model again from its recorded rounds",
        "Takes the first weights that the plan names and the recorded mean of each round, and\n"
        "compares the result of every round. Exit 8 when one leads elsewhere.",
        "{\"job\",\"ok\",\"rounds\",\"weights\"}"),
    ROW(TRAIN_HISTORY, "train history", DAEMON, 0, false, train_history_arguments,
        "show a job's rounds: figures, who was missing and why",
        "--plot and --svg draw the learning curves, --csv is for spreadsheets, and --tensorboard\n"
        "writes an event file for the field's tools. Only released figures are in it.",
        TRAIN_ANSWER),
    ROW(TRAIN_PAUSE, "train pause", DAEMON, OPERATOR, false, no_arguments,
        "let this site take no part in training for now",
        "A round under way here leaves off; coordinators name the site with the reason PAUSED and\n"
        "ask again in each round. Stays over restarts. See also training: hours: of node.yaml.",
        "{\"paused\"}"),
    ROW(TRAIN_UNPAUSE, "train unpause", DAEMON, OPERATOR, false, no_arguments,
        "let this site train again", "Ends `train pause`.", "{\"paused\"}"),
    ROW(MODEL_LIST, "model list", DAEMON, 0, false, no_arguments, "list the federation's models",
        "Lists the models whose records this node has heard of.",
        "[{\"model\",\"job\",\"task\",\"dataset\",\"node\",\"epsilon\",\"delta\",\"created\","
        "\"here\",\n"
        "  \"spdx\",\"release\",\"tainted\",\"tainted_by\",\"usable\",\"reason\"}]"),
    ROW(MODEL_SHOW, "model show", DAEMON, 0, false, model_id_arguments,
        "show a model's lineage, privacy and obligations",
        "Shows where it comes from, who took part, what it cost and what its licences ask.",
        "{\"model\",\"job\",\"task\",\"dataset\",\"round\",\"weights\",\"size\",\"epsilon\","
        "\"delta\",\"unit\",\n"
        " \"participants\":[{\"node\",\"org\",\"epsilon\"}],\"licences\":[],\"obligations\":[{"
        "\"id\","
        "\"when\",\"text\"}],\n"
        " \"spdx\",\"release\",\"metrics\",\"created\",\"here\",\"tainted\",\"tainted_by\","
        "\"usable\",\"reason\",\n"
        " \"lineage\":{\"statement\":{},\"signed_by\":[],\"invalid\":[],\"keys\":{}}}"),
    ROW(MODEL_FETCH, "model fetch", DAEMON, COORDINATOR, true, model_fetch_arguments,
        "bring a model of the federation here",
        "Fetches weights and lineage statement from another node in chunks, goes on where\n"
        "it was cut off, and verifies both. Decided like `licence check ID --action evaluate`, "
        "for\n"
        "what is stated; who took part in its job needs to state nothing.",
        "{\"model\",\"weights\",\"size\",\"fetched\",\"was_here\"}"),
    ROW(MODEL_PUBLISH, "model publish", DAEMON, OPERATOR, false, model_publish_arguments,
        "list an imported model for the federation",
        "Publishes the record of a model that `model import` brought here, under its licence, so\n"
        "that others list and fetch it. A trained model was published when its job ended; one "
        "that\n"
        "was trained without privacy stays with its participants.",
        "{\"model\",\"record\",\"spdx\",\"release\"}"),
    ROW(MODEL_EXPORT, "model export", DAEMON, COORDINATOR, false, model_export_arguments,
        "write a model into a folder",
        "Writes the model with its card (README.md) and its record. safetensors: a folder in the\n"
        "layout of Hugging Face, adapters merged; peft: adapters alone; onnx: model.onnx, opset "
        "14;\n"
        "int8: the same with eight-bit weights; json: tabular models, which onnx writes as well,\n"
        "with a raw value, 0 or 1, or a value's number in the document's list for each feature.\n"
        "ID may be the name of a base model. The card names what int8 and --prune changed; what\n"
        "they cost in quality must be measured. sparsity: the share of zeros in the layers'\n"
        "matrices; a pruned file is as long as before, but compresses. Decided like\n"
        "`model fetch`.",
        "{\"model\",\"format\",\"bytes\",\"sparsity\",\"files\":[{\"file\",\"bytes\"}]}"),
    ROW(MODEL_IMPORT, "model import", DAEMON, COORDINATOR, false, model_import_arguments,
        "bring in a base model for training jobs",
        "Reads config.json, model.safetensors and vocab.txt or tokenizer.json of a BERT-family\n"
        "model (BERT, DistilBERT, RoBERTa layouts with a WordPiece vocabulary), or PEFT adapters "
        "of\n"
        "one, checks all that training will need, and keeps it under its hash. Sites of a job\n"
        "that lack it fetch it from the coordinator by that hash.",
        "{\"name\",\"hash\",\"size\",\"parameters\",\"licence\"}"),
    ROW(MODEL_CARD, "model card", DAEMON, 0, false, model_id_arguments, "print a model's card",
        "Markdown with YAML front matter, as the field's hubs read it: lineage, participants,\n"
        "privacy, released figures, duties.",
        "{\"model\",\"card\"}"),
    ROW(MODEL_PREDICT, "model predict", DAEMON, ANALYST, false, model_predict_arguments,
        "apply a model to texts or rows of this node's own",
        "Token classification: the tag of each word; sequence classification: the class of each\n"
        "line; tabular models: a probability, a value or (Cox) a hazard ratio a row, null\n"
        "where one is missing. Nothing leaves the node. Decided like `model fetch`.",
        "{\"model\",\"rows\":[{\"words\":[],\"tags\":[]} | {\"label\",\"probabilities\":{}} | "
        "number]}"),
    ROW(MODEL_REPORT, "model report", DAEMON, 0, false, model_id_arguments,
        "print a model's classification report",
        "Precision, recall and F1 of each entity type or class over the held-out notes of all\n"
        "sites, as far as they were released; by the definitions of seqeval.",
        "{\"model\",\"exact\",\"sigma\",\"report\":{\"types\",\"micro\",\"macro\",\"weighted\"},"
        "\"text\"}"),
    ROW(PROJECT_CREATE, "project create", DAEMON, COORDINATOR, false, project_create_arguments,
        "publish a project: purpose, people, ethics approval, promises",
        "Questions and jobs then name it with --project; what they leave open is the project's,\n"
        "and what they state may only narrow it. Every site checks that against the record.\n"
        "Creating it again replaces it. Keys of the file: project, purpose, diseases, research,\n"
        "commercial, ethics: {ref, expires}, recipients, obligations, people, ends.",
        PROJECT_ANSWER),
    ROW(PROJECT_LIST, "project list", DAEMON, 0, false, no_arguments,
        "list the projects that members have published", "Lists this node's and the others'.",
        "[" PROJECT_ANSWER "]"),
    ROW(PROJECT_SHOW, "project show", DAEMON, 0, false, project_arguments,
        "show a project of this node", "Shows what every site reads of it.", PROJECT_ANSWER),
    ROW(PROJECT_END, "project end", DAEMON, COORDINATOR, false, project_end_arguments,
        "end a project for good", "Sites refuse what names it from then on.",
        "{\"project\",\"state\",\"record\"}"),
    ROW(VISA_ISSUE, "visa issue", DAEMON, OPERATOR, false, visa_issue_arguments,
        "attest something about a person or project of a member",
        "Signs a visa in the shape of GA4GH passports, and all members see it. Licences that ask\n"
        "for it (`visas:` in a grant) name type, value and the institutions whose word counts.\n"
        "It holds until --expires; another one renews it.",
        VISA_ANSWER),
    ROW(VISA_LIST, "visa list", DAEMON, 0, false, visa_list_arguments,
        "list visas, issued here and by others",
        "The state is valid, expired, revoked by its issuer, or void where its issuer is no\n"
        "member any more.",
        "[" VISA_ANSWER "]"),
    ROW(VISA_REVOKE, "visa revoke", DAEMON, OPERATOR, false, visa_revoke_arguments,
        "take back a visa that this node issued",
        "For good. What runs on its strength stops at its next step, at every site.",
        "{\"visa\",\"state\",\"record\"}"),
    ROW(AGREEMENT_REQUEST, "agreement request", DAEMON, ANALYST, true, agreement_request_arguments,
        "ask a data holder for an agreement",
        "Sends a signed request: who, which institution, for what. The data holder answers with\n"
        "its offer, the terms of its licence, or leaves it to a person there; `agreement show`\n"
        "asks again. Time limits of a licence count from an agreement's start.",
        AGREEMENT_ANSWER),
    ROW(AGREEMENT_LIST, "agreement list", DAEMON, 0, false, no_arguments,
        "list agreements, those asked for and those given",
        "Lists this node's agreements of both sides and whether they are in force.",
        "[" AGREEMENT_ANSWER "]"),
    ROW(AGREEMENT_SHOW, "agreement show", DAEMON, 0, false, agreement_arguments,
        "show an agreement's parties, terms and state",
        "Asks the data holder again where a person there had not decided.", AGREEMENT_ANSWER),
    ROW(AGREEMENT_ACCEPT, "agreement accept", DAEMON, COORDINATOR, true, agreement_accept_arguments,
        "accept the terms that were offered",
        "Signs them; the data holder countersigns, and both sides keep the document. Questions "
        "and\n"
        "rounds of the project carry its number from then on. It ends with the licence: when that\n"
        "expires, is withdrawn or replaced.",
        AGREEMENT_ANSWER),
    ROW(AGREEMENT_TERMINATE, "agreement terminate", DAEMON, COORDINATOR, true,
        agreement_terminate_arguments, "end an agreement",
        "Either side may. What runs under it stops at its next step; what was answered stays so.",
        AGREEMENT_ANSWER),
    ROW(APPROVALS, "approvals", DAEMON, AUDITOR, false, approvals_arguments,
        "list the requests that wait for a person here",
        "Shows who asks what for which purpose, the shape of the result and what it costs. A\n"
        "request is here when the licence says `approval: manual`, or the research is sensitive.",
        "[{\"approval\",\"state\":\"pending|approved|denied|expired\",\"kind\":\"query|job|"
        "agreement\",\n"
        "  \"dataset\",\"node\",\"institution\",\"person\",\"project\",\"purpose\",\"operations\","
        "\n"
        "  \"question\",\"shape\",\"why\",\"cost\":{\"epsilon\",\"delta\",\"rho\"},\"requested\","
        "\n"
        "  \"expires\",\"scope\":\"request|project\",\"decided\",\"decided_by\",\"reason\"}]"),
    ROW(APPROVE, "approve", DAEMON, OPERATOR, false, approve_arguments,
        "approve a request that waits",
        "The requester's node is told and fetches its answer. An approval is for this very\n"
        "request (a job: for all its rounds), or with --project for all that the project asks of\n"
        "this dataset for this purpose. `concordat deny` takes it back.",
        "{\"approval\",\"state\",\"scope\",\"expires\",\"told\"}"),
    ROW(DENY, "deny", DAEMON, OPERATOR, false, deny_arguments,
        "refuse a request that waits, or take an approval back",
        "The requester reads the reason. Work that is under way stops at its next step.",
        "{\"approval\",\"state\",\"scope\",\"expires\",\"told\"}"),
    ROW(AUDIT_LIST, "audit list", DAEMON, AUDITOR, false, audit_list_arguments,
        "list what was decided, asked, answered and changed here",
        "Lists the entries of this node's audit chain, oldest first: who did or asked what, when,\n"
        "and what was decided.",
        "[{\"seq\",\"time\",\"kind\",\"hash\",\"body\":{...}}]"),
    ROW(AUDIT_EGRESS, "audit egress", DAEMON, AUDITOR, false, audit_egress_arguments,
        "list everything that ever left this node",
        "Lists every answer, update, model and the sums of protocol traffic, by peer, in bytes.",
        "[{\"time\",\"peer\",\"kind\",\"id\",\"bytes\"}]"),
    ROW(AUDIT_VERIFY, "audit verify", LOCAL, 0, false, audit_verify_arguments,
        "verify the audit chain, without daemon and keys",
        "Checks every link of the chain, the signature of its head and those of its witnesses.\n"
        "Works beside a running daemon. Exit 8 when it is broken, or the home is of a newer\n"
        "program and was not verified.",
        "{\"entries\",\"ok\",\"head\",\"witnessed_by\":[],\"first_bad\",\n"
        " \"node_id\",\"federation_id\",\"fingerprint\",\"reason\"}"),
    ROW(AUDIT_EXPORT, "audit export", DAEMON, AUDITOR, false, audit_export_arguments,
        "write the audit chain into a file that anybody can verify",
        "The file holds the chain (bodies stay sealed) and the records its signatures need.",
        "{\"file\",\"entries\",\"bytes\"}"),
    ROW(KEY_LIST, "key list", DAEMON, OPERATOR, false, no_arguments, "list what opens the keyring",
        "Lists the slots, the one by which this daemon was unlocked, and the datasets whose new\n"
        "key is under way.",
        "{\"slots\":[{\"slot\",\"kind\":\"keyfile|passphrase|credential|recovery|pkcs11\",\n"
        " \"opened\",\"shares\",\"token\",\"key\"}],\"rotating\":[]}"),
    ROW(KEY_ADD, "key add", DAEMON, OPERATOR, false, key_add_arguments,
        "add a way to open the keyring",
        "Adds a slot. Recovery shares are printed once and kept nowhere: give each to another\n"
        "person. A key in an HSM or on a card seals a slot by its own PKCS #11 module and never\n"
        "leaves it. `unlock:` in node.yaml says which slot the daemon uses.",
        "{\"slot\",\"slots\":[...],\"shares\":[]}"),
    ROW(KEY_REMOVE, "key remove", DAEMON, OPERATOR, false, key_remove_arguments,
        "remove a way to open the keyring",
        "Removes a slot, but neither the last one nor the one that opened this daemon.",
        "{\"slots\":[...],\"rotating\":[]}"),
    ROW(KEY_ROTATE, "key rotate", DAEMON, OPERATOR, false, key_rotate_arguments, "replace keys",
        "Without an option: a new key-encryption key, which wraps all others anew. With --dek:\n"
        "each dataset is sealed anew under a new key while questions go on; a restart continues\n"
        "it. With --passphrase: another passphrase for the slot that opened this daemon.",
        "{\"slots\":[...],\"rotating\":[]}"),
    ROW(KEY_RECOVER, "key recover", LOCAL, 0, false, key_recover_arguments,
        "open a keyring with recovery shares and add a new way in",
        "For a home whose key file or passphrase is lost. The daemon must not run.",
        "{\"slot\",\"unlock\"}"),
    ROW(BACKUP, "backup", DAEMON, OPERATOR, true, backup_arguments,
        "copy this home while it serves",
        "Writes node.mdb, keyring, identity, partitions and models so that they fit each other,\n"
        "reads them back and lists their hashes. The key file is not in it: keep it elsewhere.",
        "{\"folder\",\"files\",\"bytes\",\"audit_seq\",\"time\",\"verified\"}"),
    ROW(RESTORE, "restore", LOCAL, 0, true, restore_arguments, "make a home out of a backup",
        "Verifies the backup and copies it to --home, which must hold no node; a key file may\n"
        "stand there. The node then serves only when others confirm that they saw nothing newer,\n"
        "or after `concordat restore accept`.",
        "{\"home\",\"files\",\"bytes\",\"audit_seq\",\"time\"}"),
    ROW(RESTORE_ACCEPT, "restore accept", DAEMON, OPERATOR, false, restore_accept_arguments,
        "go on with a home that is older than what others saw",
        "Charges what was spent since to every dataset, and numbers the audit chain on above\n"
        "what others witnessed. It cannot be taken back.",
        "{\"accepted\",\"missing_entries\",\"charged_rho\"}"),
    ROW(FSCK, "fsck", BOTH, OPERATOR, true, fsck_arguments,
        "open and check everything this home keeps",
        "Audit chain, keyring, ledger, each value of each dataset, each model. Exit 8 when one is\n"
        "damaged. Without a daemon the home is opened for reading alone, and nothing is changed.",
        "{\"ok\",\"checked\":[{\"what\",\"ok\",\"code\",\"text\"}]}"),
    ROW(TOOL_TOKENIZE, "tool tokenize", LOCAL, 0, false, tokenize_arguments,
        "show the pieces of texts",
        "Each line of standard input becomes a line of numbers of pieces, without [CLS] and [SEP].",
        "[[id]]"),
    ROW(TOOL_REPORT, "tool report", LOCAL, 0, false, report_arguments, "judge tags by entities",
        "Reads lines of two columns, the right tag and the predicted one (further columns before\n"
        "them are ignored); an empty line ends a sentence. Prints precision, recall and F1 by\n"
        "type.",
        "{\"types\":{NAME:{\"precision\",\"recall\",\"f1\",\"support\"}},\"micro\",\"macro\","
        "\"weighted\"}"),
    ROW(TOOL_ACCOUNTANT, "tool accountant", LOCAL, 0, false, accountant_arguments,
        "compute what training steps cost",
        "Privacy loss of T steps of the subsampled Gaussian mechanism, sensitivity 1, by Renyi\n"
        "orders (`rdp`, what the ledger goes by) and by privacy-loss distributions (`pld`, tight,\n"
        "but only for plans that are fixed before they run). With --epsilon in place of --sigma\n"
        "each finds its noise multiplier. `pld` is null for a delta below 1e-10.",
        "{\"sigma\",\"rate\",\"steps\",\"delta\",\"rdp\":{\"sigma\",\"epsilon\"},"
        "\"pld\":{\"sigma\",\"epsilon\"},\"epsilon\"}"),
    ROW(TOOL_LICENCE_DECIDE, "tool licence-decide", LOCAL, 0, false, licence_decide_arguments,
        "decide a request under a licence, both given as JSON",
        "Runs the decision that every node runs. Keys of the licence are those of the manifest's\n"
        "`licence:`. Keys of the request: node, institution, org_type, commercial, country, "
        "person,\n"
        "project, purpose, diseases, research, ethics_ref, ethics_expires, accepted, actions,\n"
        "columns, epsilon, delta, rounds, clip, noise_multiplier, nonprivate, secure, sites (how\n"
        "many), site_countries, visas, now. Exit 0 whatever the verdict.",
        "{\"verdict\":\"permit|hold|deny\",\"reason\",\"text\",\"grant\",\n"
        " \"clauses\":[{\"clause\",\"expected\",\"result\",\"reason\",\"grant\"}],"
        "\"obligations\":[],\"min_cohort\",\"charge_rho\"}"),
    ROW(COMPLETION, "completion", LOCAL, 0, false, completion_arguments,
        "print the completion script of a shell",
        "For bash: source <(concordat completion bash). For zsh: put it into a file _concordat\n"
        "in a folder of $fpath.",
        "{\"text\"}"),
    ROW(MAN, "man", LOCAL, 0, false, man_arguments, "print the manual page",
        "For example: concordat man | man -l -", "{\"text\"}"),
    ROW(HELP, "help", LOCAL, 0, false, help_arguments, "explain a command",
        "`concordat help query` explains `query`; `concordat help train` lists what begins so.",
        "{\"text\"}"),
};
const size_t proto_operation_count = sizeof proto_operations / sizeof *proto_operations;

_Static_assert(sizeof proto_operations / sizeof *proto_operations == PROTO_OP_TOTAL,
               "one row for each operation");

/* --- looking rows up ---------------------------------------------------------------------------- */

bool proto_operation_permits(const struct proto_operation *op, unsigned roles)
{
    return roles && (op->roles == 0 || (op->roles & roles));
}

/* How many words of ARGV the path takes when it begins them; 0 when it does not. */
static int path_words(const char *path, int argc, char **argv)
{
    int words = 0;
    for (const char *at = path; *at; words++) {
        size_t len = strcspn(at, " ");
        if (words >= argc || strlen(argv[words]) != len || memcmp(argv[words], at, len) != 0) {
            return 0;
        }
        at += len;
        at += *at == ' ';
    }
    return words;
}

const struct proto_operation *proto_operation_find(int argc, char **argv, int *ret_words)
{
    const struct proto_operation *best = NULL;
    *ret_words = 0;
    for (size_t i = 0; i < proto_operation_count; i++) {
        int words = path_words(proto_operations[i].path, argc, argv);
        if (words > *ret_words) {
            *ret_words = words;
            best = &proto_operations[i];
        }
    }
    return best;
}

const struct proto_operation *proto_operation_by_path(struct span path)
{
    for (size_t i = 0; i < proto_operation_count; i++) {
        if (span_is(path, proto_operations[i].path)) {
            return &proto_operations[i];
        }
    }
    return NULL;
}

const struct proto_argument *proto_operation_argument(const struct proto_operation *op,
                                                      struct span name)
{
    for (const struct proto_argument *argument = op->arguments; argument->name; argument++) {
        if (span_is(name, argument->name)) {
            return argument;
        }
    }
    return NULL;
}

/* --- values ------------------------------------------------------------------------------------- */

#define WHOLE_MAX 1e15 /* a double below it counts in steps of one */

bool proto_number_parse(struct span text, double *ret)
{
    char copy[64];
    if (text.len == 0 || !span_to_cstr(text, copy, sizeof copy)) {
        return false;
    }
    /* strtod also takes "inf", "0x1p3" and blanks; people who mean a number write none of these. */
    if (strspn(copy, "0123456789.eE+-") != text.len) {
        return false;
    }
    char *end = NULL;
    double value = strtod(copy, &end);
    if (*end || !isfinite(value) || value < 0) {
        return false;
    }
    *ret = value;
    return true;
}

/* No text between two commas, before the first or behind the last. */
static bool has_gap(struct span list)
{
    bool empty = true;
    for (size_t i = 0; i < list.len; i++) {
        if (list.ptr[i] == ',' && empty) {
            return true;
        }
        empty = list.ptr[i] == ',' || (empty && list.ptr[i] == ' ');
    }
    return empty;
}

bool proto_duration_parse(struct span text, uint64_t *ret_ms)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    const uint64_t most = UINT64_C(3650) * 86400000;
    uint64_t value = 0;
    size_t digits = 0;
    while (digits < text.len && text.ptr[digits] >= '0' && text.ptr[digits] <= '9') {
        value = value * 10 + (uint64_t)(text.ptr[digits++] - '0');
        if (value > most) {
            return false;
        }
    }
    struct span unit = {text.ptr + digits, text.len - digits};
    for (size_t i = 0; digits > 0 && i < sizeof units / sizeof *units; i++) {
        if (span_is(unit, units[i].unit) && value <= most / units[i].ms) {
            *ret_ms = value * units[i].ms;
            return true;
        }
    }
    return false;
}

/* A value name such as "csv|ndjson" lists the choices; with a ':' or capitals it only describes. */
static bool is_choice(const char *value_name)
{
    return value_name && strchr(value_name, '|') &&
           strspn(value_name, "abcdefghijklmnopqrstuvwxyz-|") == strlen(value_name);
}

static bool among_choices(const char *choices, struct span value)
{
    for (const char *at = choices; *at;) {
        size_t len = strcspn(at, "|");
        if (span_equal(value, span_of(at, len))) {
            return true;
        }
        at += len;
        at += *at == '|';
    }
    return false;
}

static bool is_time(struct span value)
{
    char text[64];
    int64_t unix_s;
    return span_to_cstr(value, text, sizeof text) && proto_time_parse_since(text, &unix_s);
}

enum err proto_operation_check(const struct proto_argument *argument, struct span value,
                               struct err_info *reterr)
{
    uint64_t ms = 0;
    double number = 0;
    switch (argument->type) {
    case PROTO_ARG_FLAG:
        if (value.len != 0) {
            return proto_err_set(reterr, E_USAGE, "%s takes no value", argument->name);
        }
        return E_OK;
    case PROTO_ARG_NUMBER:
        if (!proto_number_parse(value, &number)) {
            return proto_err_set(reterr, E_USAGE, "%s takes a number, at least 0", argument->name);
        }
        return E_OK;
    case PROTO_ARG_WHOLE:
        if (!proto_number_parse(value, &number) || number != floor(number) || number > WHOLE_MAX) {
            return proto_err_set(reterr, E_USAGE, "%s takes a whole number, at least 0",
                                 argument->name);
        }
        return E_OK;
    case PROTO_ARG_DURATION:
        if (!proto_duration_parse(value, &ms) || ms == 0) {
            return proto_err_set(reterr, E_USAGE,
                                 "%s takes a time such as 30s, 10m or 24h, longer than 0",
                                 argument->name);
        }
        return E_OK;
    case PROTO_ARG_LIST:
        if (has_gap(value)) {
            return proto_err_set(reterr, E_USAGE,
                                 "%s takes a list such as a,b: no part of it may be empty",
                                 argument->name);
        }
        return E_OK;
    case PROTO_ARG_TIME:
        if (!is_time(value)) {
            return proto_err_set(reterr, E_USAGE,
                                 "%s takes a date or a time in UTC, such as 2027-12-31 or "
                                 "2027-12-31T08:00:00Z",
                                 argument->name);
        }
        return E_OK;
    case PROTO_ARG_TEXT:
    case PROTO_ARG_FILE_IN:
    case PROTO_ARG_FILE_OUT:
        break;
    }
    if (value.len == 0) {
        return proto_err_set(reterr, E_USAGE, "%s is empty", argument->name);
    }
    if (argument->type == PROTO_ARG_TEXT && is_choice(argument->value_name) &&
        !among_choices(argument->value_name, value)) {
        return proto_err_set(reterr, E_USAGE, "%s takes one of %s", argument->name,
                             argument->value_name);
    }
    return E_OK;
}

/* --- suggestions -------------------------------------------------------------------------------- */

const char *proto_operation_suggest(const char *text)
{
    struct proto_nearest nearest = proto_nearest_to(span_str(text));
    for (size_t i = 0; i < proto_operation_count; i++) {
        proto_nearest_try(&nearest, span_str(proto_operations[i].path));
    }
    return (const char *)nearest.best.ptr;
}
