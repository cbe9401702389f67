"""BENCH=scan and BENCH=import: the encounter table sealed on disk against rivals, each side in a process of its own on this machine.

Cells are compared one by one wherever a rival answers. All times are CPU time of one thread unless the line says otherwise.
"""
import os
import shutil
import subprocess
import tempfile

from report import SRC, TMP, load, program, result, say, skipped

ROWS = int(os.environ.get("ROWS") or 5000000)
LARGE = int(os.environ.get("LARGE") or 10 * ROWS)
LARGE_BYTES = 130  # of disk a row, for the text, the partition and what is beside it for a moment
QUESTIONS = ["Q1", "Q2", "Q3", "Q4", "Q5"]
# The ratios that we are after, on one core unless the name says otherwise.
GOALS = {"duckdb-enum": {"Q2": 2, "Q3": 2, "Q4": 2, "Q5": 2}, "sqlcipher": {"Q2": 100, "Q3": 600, "Q4": 100, "Q5": 600}}
GOAL_SIZE = 1 / 0.55
GOAL_THREADS2 = 1.6
GOAL_COLD = 9
GOAL_ROW = 1 / 1.2
GOAL_IMPORT = 1.5


# --- our side ----------------------------------------------------------------------------------------

def read_side(text):
    """Tab-separated lines of one side: times and cells by question, everything else by its first word."""
    times, cells, other = {}, {}, {}
    for line in text.splitlines():
        field = line.split("\t")
        if field[0] == "time":
            times[field[1]] = float(field[2])
        elif field[0] == "cell":
            cells.setdefault(field[1], []).append(field[2:])
        elif field[0] in ("wall", "share"):
            other.setdefault(field[0], {})[field[1]] = [float(v) for v in field[2:]]
        else:
            other[field[0]] = field[1:]
    return times, cells, other


def ours(*arguments):
    run = subprocess.run([program("scan_bench"), *arguments], stdout=subprocess.PIPE, check=True)
    return read_side(run.stdout.decode())


def table(rows, missing=0):
    csv = os.path.join(TMP, f"concordat-encounters-{rows}{'-gaps' if missing else ''}.csv")
    if not os.path.exists(csv):
        subprocess.run([program("encounters_csv"), csv + ".new", str(rows), str(missing)], check=True)
        os.rename(csv + ".new", csv)
    return csv


def evict(folder):
    """What is synced of every file in FOLDER leaves the page cache; a later reader fetches it from the disk."""
    for path, _, names in os.walk(folder):
        for name in names:
            file = os.path.join(path, name)
            if os.path.isfile(file):
                fd = os.open(file, os.O_RDONLY)
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)


def same_cells(mine_all, theirs, rival):
    """Counts exactly, means within half the grid; a group that has no row may be absent on the other side."""
    good = True
    for name, rows in theirs.items():
        groups = {tuple(r[:-2]): (int(r[-2]), float(r[-1])) for r in rows}
        mine = {tuple(r[:-3]): (int(r[-3]), float(r[-2]), float(r[-1])) for r in mine_all[name]}
        wrong = [g for g, (n, _, _) in mine.items() if n and g not in groups]
        for group, (count, mean) in groups.items():
            n, m, tolerance = mine.get(group, (-1, 0, 0))
            if n != count or abs(m - mean) > tolerance + 1e-6:
                wrong.append(group)
        if wrong:
            good = False
            say(f"{name}: {len(wrong)} cells differ from {rival}, first {wrong[0]}")
    if good:
        say(f"all cells agree with {rival}")
    return good


# --- rivals ------------------------------------------------------------------------------------------

def node_modules():
    """Where DuckDB's package is, installed on the first call; or why not."""
    modules = program("duckdb")
    if not shutil.which("node") or not shutil.which("npm"):
        return None, "node and npm are not installed"
    if not os.path.isdir(os.path.join(modules, "node_modules/@duckdb/node-api")):
        os.makedirs(modules, exist_ok=True)
        got = subprocess.run(["npm", "install", "--silent", "--prefix", modules, "@duckdb/node-api"], check=False,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if got.returncode:
            return None, "npm cannot install @duckdb/node-api"
    return modules, None


def duckdb(*arguments):
    modules, why = node_modules()
    if not modules:
        return None, why
    run = subprocess.run(["node", os.path.join(SRC, "tests/bench/duckdb_bench.mjs"), modules, *arguments],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    return (run.stdout.decode(), None) if run.returncode == 0 else (None, run.stderr.decode()[-300:])


# What is timed, and what is compared.
SQL = {
    "Q1": ("SELECT count(*) FROM patients", "SELECT count(*), 0 FROM patients"),
    "Q2": ("SELECT avg(age) FROM patients WHERE diagnosis='E11.9'",
           "SELECT count(*), avg(age) FROM patients WHERE diagnosis='E11.9'"),
    "Q3": ("SELECT sex, site, count(*), avg(cost) FROM patients GROUP BY sex, site ORDER BY sex, site",) * 2,
    "Q4": ("SELECT count(*) FROM patients WHERE age BETWEEN 50 AND 60 AND los_days > 7",
           "SELECT count(*), 0 FROM patients WHERE age BETWEEN 50 AND 60 AND los_days > 7"),
    "Q5": ("SELECT diagnosis, count(*) AS n FROM patients GROUP BY diagnosis",
           "SELECT diagnosis, count(*), 0 FROM patients GROUP BY diagnosis"),
}
CREATE = ("CREATE TABLE patients(patient_id INTEGER, age INTEGER, sex TEXT, site TEXT, diagnosis TEXT, admit_date {date},"
          " los_days INTEGER, cost {real})")


def sqlcipher(csv, folder):
    """One process: loads, warms up, then each question twice; user and system time as its own timer says."""
    if not shutil.which("sqlcipher"):
        return None, "the command sqlcipher is not installed (Debian: sqlcipher)"
    file = os.path.join(folder, "bench.sqlcipher")
    script = ["PRAGMA key='bench';", "PRAGMA cipher_page_size=4096;", CREATE.format(date="TEXT", real="REAL") + ";",
              ".mode csv", f".import {csv} patients", "DELETE FROM patients WHERE rowid = 1;", '.separator "\\t"',
              ".mode tabs", "SELECT count(*) FROM patients;", ".timer on"]
    for name, (timed, _) in SQL.items():
        script += [f"SELECT 'question {name}';", timed + ";", timed + ";"]
    script += [".timer off"]
    for name, (_, full) in SQL.items():
        script += [f"SELECT 'cells {name}';", full + ";"]
    run = subprocess.run(["sqlcipher", file], input="\n".join(script).encode(), stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, check=False)
    lines, name, cells = [f"size\t0\t{os.path.getsize(file)}"], None, False
    best = {}
    for line in run.stdout.decode().splitlines():
        if line.startswith("question ") or line.startswith("cells "):
            cells, name, first = line.startswith("cells "), line.split()[1], True
        elif line.startswith("Run Time:") and name and not cells:
            word = line.split()
            spent = (float(word[5]) + float(word[7])) * 1000
            if first:  # the timer of the heading itself
                first = False
            else:
                best[name] = min(spent, best.get(name, spent))
        elif cells:
            lines.append(f"cell\t{name}\t{line}")
    lines += [f"time\t{name}\t{ms}" for name, ms in best.items()]
    return ("\n".join(lines), None) if len(best) == len(SQL) else (None, run.stderr.decode()[-300:])


def backend_ms(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        field = file.read().rpartition(")")[2].split()
    return (int(field[11]) + int(field[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def postgres(csv, _):
    """Debian's server in the clear without parallel workers; CPU time of the one backend, best of two."""
    from postgres import Postgres, programs
    if not programs() or not shutil.which("psql"):
        return None, "not installed (Debian: postgresql)"
    own = tempfile.mkdtemp(prefix="cb.", dir=TMP)  # another user must come through to it
    server = Postgres(own)
    try:
        env = {**os.environ, "PGPASSFILE": server.passfile}
        session = subprocess.Popen(["psql", "-X", "-q", "-t", "-A", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-h", server.dir, "-U", "omop", "-d", "postgres"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

        def ask(sql):
            session.stdin.write(sql + ";\nSELECT '--end--';\n")
            session.stdin.flush()
            lines = []
            for line in session.stdout:
                if line.strip() == "--end--":
                    return lines
                lines.append(line.rstrip("\n"))
            raise RuntimeError("psql ended")

        pid = int(ask("SELECT pg_backend_pid()")[0])
        ask("SET max_parallel_workers_per_gather = 0")
        ask(CREATE.format(date="DATE", real="DOUBLE PRECISION"))
        ask(f"\\copy patients FROM '{csv}' WITH (FORMAT csv, HEADER true)\nVACUUM ANALYZE patients")
        lines = [f"size\t0\t{ask('SELECT pg_table_size($$patients$$)')[0]}"]
        for name, (timed, full) in SQL.items():
            best = None
            ask(timed)
            for _ in range(2):
                before = backend_ms(pid)
                ask(timed)
                spent = backend_ms(pid) - before
                best = spent if best is None else min(best, spent)
            lines.append(f"time\t{name}\t{max(best, 5)}")
            lines += [f"cell\t{name}\t{line}" for line in ask(full)]
        session.stdin.close()
        session.wait(30)
        return "\n".join(lines), None
    finally:
        server.close()
        shutil.rmtree(own, ignore_errors=True)


# --- scan --------------------------------------------------------------------------------------------

def say_shares(other, rows):
    for name in QUESTIONS[1:]:
        opening, unpacking, kernels, cipher, size = other["share"][name]
        total = opening + unpacking + kernels
        say(f"{name}: {size / 1e6:.1f} MB; opening {opening:.2f} ms ({100 * opening / total:.0f} %), unpacking and filters {unpacking:.2f} ms "
            f"({100 * unpacking / total:.0f} %), kernels {kernels:.2f} ms ({100 * kernels / total:.0f} %); the cipher alone {cipher:.2f} ms "
            f"({size / cipher / 1e6:.2f} GB/s): the whole is {total / cipher:.2f} times that; {total * 1e6 / rows:.2f} ns a row")


def best_of(a, b):
    return {name: min(a[name], b[name]) for name in b} if a else b


def against(csv, home, times, cells, size, folder):
    """Our side runs again before and after each rival, so that a busy minute of the machine does not fall on one side alone."""
    good = True
    rivals = [("duckdb", lambda: duckdb("warm", csv, folder, "plain")), ("duckdb-enum", lambda: duckdb("warm", csv, folder, "enum")),
              ("sqlcipher", lambda: sqlcipher(csv, folder)), ("postgres", lambda: postgres(csv, folder))]
    for rival, run in rivals:
        text, why = run()
        if text is None:
            skipped(rival, why)
            continue
        rival_times, rival_cells, other = read_side(text)
        times.update(best_of(times, ours("ask", home)[0]))
        good = same_cells(cells, rival_cells, rival) and good
        for name in sorted(rival_times):
            result(f"scan-{name}", times[name], rival_times[name], "ms", rival, GOALS.get(rival, {}).get(name))
        result("scan-size", size / 1e6, int(other["size"][1]) / 1e6, "MB", rival)
    return good


def default_size(csv, folder, size):
    """What a user gets who changes no setting: as many threads as cores, and the file after it was closed."""
    text, why = duckdb("size", csv, folder)
    if text is None:
        skipped("duckdb-default", why)
    else:
        result("scan-size", size / 1e6, int(read_side(text)[2]["size"][1]) / 1e6, "MB", "duckdb-default", GOAL_SIZE)


def cold(csv, home, folder):
    say("cold: each question in a fresh process after the files left the page cache; CPU ms from opening the database, and wall")
    say("duckdb-encrypted: AES-256-GCM by the mbedTLS built into it, since its OpenSSL is an extension to be fetched from its makers")
    text, why = duckdb("make", csv, folder, "encrypted")
    if text is None:
        skipped("duckdb-encrypted", why)
        return
    for name in QUESTIONS[1:]:
        mine, theirs, walls = [], [], []
        for _ in range(3):
            evict(home)
            times, _, other = ours("cold", home, name)
            evict(folder)
            text, why = duckdb("cold", csv, folder, "encrypted", name)
            if text is None:
                skipped("duckdb-encrypted", why)
                return
            rival_times, _, rival_other = read_side(text)
            mine.append(times[name])
            theirs.append(rival_times[name])
            walls.append((other["wall"][name][0], rival_other["wall"][name][0]))
        result(f"scan-cold-{name}", min(mine), min(theirs), "ms", "duckdb-encrypted", GOAL_COLD)
        say(f"{name} cold, wall: ours {min(w[0] for w in walls):.0f} ms, duckdb-encrypted {min(w[1] for w in walls):.0f} ms")


def per_row(label, times, rows, base, base_rows):
    """How the cost of a row compares with the plain table's."""
    for name in QUESTIONS[1:]:
        mine = times[name] * 1e6 / rows
        plain = base[name] * 1e6 / base_rows
        result(f"scan-row-{label}-{name}", mine, plain, "ns", f"ours-{base_rows}-rows", GOAL_ROW)


def other_table(label, rows, missing, base_home, folder):
    home = os.path.join(folder, f"home-{label}")
    csv = table(rows, missing)
    ours("import", home, csv)
    times, base = None, None
    for _ in range(3):  # in turn, so that both have the same minute
        times = best_of(times, ours("ask", home)[0])
        base = best_of(base, ours("ask", base_home)[0])
    per_row(label, times, rows, base, ROWS)
    shutil.rmtree(home, ignore_errors=True)
    os.remove(csv)


def bench_scan():
    csv = table(ROWS)
    folder = tempfile.mkdtemp(prefix="cb.", dir=TMP)
    home = os.path.join(folder, "home")
    rival_folder = os.path.join(folder, "rivals")
    os.mkdir(rival_folder)
    say(f"scan: {ROWS} rows, no unit column; CPU ms of one thread, best of 15 warm runs, load {load()}")
    say("ours: from SQL text to exact sums by query_execute; every value that is read is decrypted and checked each time; Q1 from metadata")
    say("rivals: duckdb, duckdb-enum in the clear, warm, 1 thread, best of 15; sqlcipher encrypted, 4 KiB pages, best of 2; postgres in the")
    say("clear, no workers, 16 MB of buffers of its own over a warm page cache, best of 2")
    try:
        imported = ours("import", home, csv)[2]
        times, _, other = ours("ask", home)
        times = best_of(times, ours("ask", home)[0])
        cells = ours("cells", home)[1]
        size = int(imported["size"][1])
        say_shares(other, ROWS)
        good = against(csv, home, times, cells, size, rival_folder)
        default_size(csv, rival_folder, size)
        one, two = [], []
        for _ in range(3):  # in turn, so that both have the same minute
            one.append(ours("ask", home)[2]["wall"])
            two.append(ours("ask", home, "2")[2]["wall"])
        for name in QUESTIONS[1:]:
            result(f"scan-threads2-{name}", min(w[name][0] for w in two), min(w[name][0] for w in one), "ms-wall", "ours-1-thread", GOAL_THREADS2)
        cold(csv, home, rival_folder)
        other_table("gaps", ROWS, 10, home, folder)
        if shutil.disk_usage(TMP).free > LARGE * LARGE_BYTES:
            say(f"a table of {LARGE} rows, load {load()}")
            other_table("large", LARGE, 0, home, folder)
        else:
            skipped(f"ours-{LARGE}-rows", f"{LARGE * LARGE_BYTES >> 30} GiB are not free in {TMP}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say(f"load {load()}")
    return good


# --- import ------------------------------------------------------------------------------------------

def bench_import():
    csv = table(ROWS)
    folder = tempfile.mkdtemp(prefix="cb.", dir=TMP)
    say(f"import: {ROWS} rows, {os.path.getsize(csv) / 1e6:.0f} MB of CSV into a sealed and synced partition; CPU ms of one thread, best of 3, load {load()}")
    say("duckdb: CREATE TABLE AS SELECT * FROM read_csv into a file in the clear with one thread, and CHECKPOINT")
    try:
        mine, theirs = [], []
        for run in range(3):
            home = os.path.join(folder, f"home{run}")
            mine.append(float(ours("import", home, csv)[2]["import"][0]))
            shutil.rmtree(home)
            text, why = duckdb("import", csv, folder)
            if text:
                theirs.append(float(read_side(text)[2]["import"][0]))
        if theirs:
            result("import-csv", min(mine) / 1000, min(theirs) / 1000, "s", "duckdb", GOAL_IMPORT)
        else:
            say(f"ours {min(mine) / 1000:.2f} s")
            skipped("duckdb", why)
        say(f"{os.path.getsize(csv) / 1e3 / min(mine):.0f} MB of text a CPU second; load {load()}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return True
