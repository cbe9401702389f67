"""Real daemons for tests: a sandbox in a temporary folder, the command as a function, TAP on standard output.

    with Sandbox("alpha,beta,gamma") as box:
        answer = box.run("alpha", "query", "SELECT COUNT(*) FROM t")     # parsed JSON; raises Refused on another exit code
        ok(answer["rows"], "an answer came")
    done()
"""
import http.client
import json
import os
import pty
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

TOP = os.environ.get("top_builddir", ".")
SRC = os.environ.get("top_srcdir", ".")
SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))
rng = random.Random(SEED)

if os.environ.get("CONCORDAT_PROC") == "no":
    print("1..0 # SKIP without processes (CONCORDAT_PROC=no)")
    sys.exit(0)
print(f"# SEED={SEED}", flush=True)

_count = 0
_failed = 0


def ok(good, name):
    """One TAP line; GOOD decides."""
    global _count, _failed
    _count += 1
    _failed += not good
    print(f"{'ok' if good else 'not ok'} {_count} - {name}", flush=True)
    return bool(good)


def skip(name, why):
    """A line for what this machine cannot show."""
    global _count
    _count += 1
    print(f"ok {_count} - {name} # SKIP {why}", flush=True)


def skip_all(why):
    """In place of everything."""
    print(f"1..0 # SKIP {why}")
    sys.exit(0)


def terminal():
    """A new pseudo-terminal's two ends, or None where the system has none (a bare chroot)."""
    try:
        return pty.openpty()
    except OSError:
        return None


def running(pid):
    """Whether it lives: one that has ended does not, even where nobody has waited for it. Its first thread may have ended while
    others still hold its files."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def note(text):
    for line in str(text).splitlines():
        print(f"# {line}", flush=True)


def done():
    print(f"1..{_count}", flush=True)
    sys.exit(1 if _failed or not _count else 0)


class Refused(Exception):
    """The command ended with another exit code than 0."""

    def __init__(self, code, answer, text):
        super().__init__(f"exit {code}: {text[-600:]}")
        self.code = code
        self.error = answer.get("error", {}) if isinstance(answer, dict) else {}


def concordat(*args, timeout=120):
    """Runs the command with --json; returns (exit code, parsed answer, standard error)."""
    done_ = subprocess.run([os.path.join(TOP, "concordat"), "--json", *map(str, args)], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, check=False)
    try:
        answer = json.loads(done_.stdout)
    except ValueError:
        answer = None
    return done_.returncode, answer, (done_.stderr + done_.stdout).decode(errors="replace")


PUBLISHING = {("dataset", "import"), ("dataset", "update"), ("project", "create"), ("train", "run")}


class Sandbox:
    """A federation on loopback; every daemon is ended by its own pid, also when the test fails."""

    def __init__(self, names, start=True, create=()):
        self.folder = tempfile.mkdtemp(prefix="concordat-test.")
        self.dir = os.path.join(self.folder, "box")
        self.names = names.split(",")
        code, _, text = concordat("sandbox", "create", self.dir, "--names", names, *create)
        if code:
            raise Refused(code, None, text)
        if start:
            self.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind:
            for name in self.names:
                note(f"log of {name}:")
                note("\n".join(self.log(name).splitlines()[-15:]))
        self.close()

    def close(self):
        concordat("sandbox", "stop", self.dir)
        for name in self.names:
            self.kill(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def home(self, name):
        return os.path.join(self.dir, name)

    def pid(self, name):
        try:
            with open(os.path.join(self.home(name), "pid"), encoding="ascii") as file:
                pid = int(file.read())
            exe = os.readlink(f"/proc/{pid}/exe")
        except (OSError, ValueError):
            return None
        return pid if "concordatd" in exe else None

    def kill(self, name):
        """SIGKILL, at once."""
        pid = self.pid(name)
        if pid:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            for _ in range(2000):
                if not running(pid):
                    break
                time.sleep(0.01)
        return pid

    def start(self, timeout=90):
        code, answer, text = concordat("sandbox", "start", self.dir, timeout=timeout)
        if code:
            raise Refused(code, answer, text)
        return answer

    def log(self, name):
        for place in ("log", "log/concordatd.log"):
            path = os.path.join(self.home(name), place)
            if os.path.isfile(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    return file.read()
        return ""

    def try_run(self, name, *args, timeout=120):
        return concordat("--home", self.home(name), *args, timeout=timeout)

    def run(self, name, *args, timeout=120):
        code, answer, text = self.try_run(name, *args, timeout=timeout)
        if code:
            raise Refused(code, answer, text)
        if args[:2] in PUBLISHING:
            self.settle()
        return answer

    def published(self, name):
        """What a node knows of all datasets and models; None: it does not answer."""
        try:
            code, answer, _ = self.try_run(name, "catalog", timeout=5)
        except subprocess.TimeoutExpired:
            return None
        models = sorted(m["model"] for m in answer["models"]) if not code else []
        return None if code else (sorted(json.dumps(d, sort_keys=True) for d in answer["datasets"]), models)

    def settle(self, seconds=10):
        """Waits until the nodes that are up know the same: gossip takes a moment, and more on a busy machine."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            known = [self.published(name) for name in self.names if self.pid(name)]
            known = [k for k in known if k is not None]
            if all(k == known[0] for k in known):
                return
            time.sleep(0.05)

    def refusal(self, name, *args):
        """Exit code and error of a command that should fail."""
        code, answer, _ = self.try_run(name, *args)
        return code, (answer or {}).get("error", {})

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def agreed(self, job, seconds=30):
        """Waits until every node knows the licences that a job file relies on: gossip takes a moment after an import."""
        return self.wait("all licences known everywhere", lambda: all(self.permitted(n, job) for n in self.names), seconds)

    def permitted(self, name, job):
        code, answer, _ = self.try_run(name, "train", "start", job, "--explain")
        return code == 0 and all(site["verdict"] == "permit" for site in answer["sites"])

    def wait(self, what, condition, seconds=15):
        """Polls until CONDITION() is true; returns the seconds it took, or None."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if condition():
                return time.monotonic() - began
            time.sleep(0.1)
        note(f"{what}: not within {seconds} s")
        return None


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def console_on(box, name, listen, predict=False):
    """Adds the HTTP console to a node.yaml, for the next start; returns what the file said before."""
    path = os.path.join(box.home(name), "node.yaml")
    with open(path, encoding="utf-8") as file:
        kept = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(kept + f'console:\n  listen: "{listen}"\n' + ("  predict: true\n" if predict else ""))
    return kept


def http_ask(port, path, method="GET", headers=None, body=None):
    """Status, text and headers of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace"), dict(answer.getheaders())
    finally:
        connection.close()


def predict(box, name, port, model, body):
    """What the inference service of a node says: status, and the JSON or text."""
    with open(os.path.join(box.home(name), "predict.token"), encoding="ascii") as file:
        token = file.read().strip()
    status, text, _ = http_ask(port, f"/api/v1/model/predict/{model}", "POST",
                               {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}, json.dumps(body).encode())
    return status, json.loads(text) if text.startswith("{") else text


def licence(epsilon_total=8, per_query=2, per_job=4, delta="1e-6", extra="", actions="count, sum, mean, variance, quantile, histogram, regression, survival, finetune, evaluate", cohort=2):
    return f"""
licence:
  spdx: CC-BY-4.0
  expires: 2031-12-31
  grants:
    - permission: "DUO:0000006"
      actions: [{actions}]
      min_cohort: {cohort}
      privacy: {{epsilon_total: {epsilon_total}, epsilon_per_query: {per_query}, epsilon_per_job: {min(per_job, epsilon_total)}, delta: {delta}}}
      finetune: {{max_rounds: 200, release: federation}}
{extra}"""


def flchain():
    """The medical table as rows of texts, header first."""
    with open(os.path.join(SRC, "deploy/demo-files/data/flchain.csv"), encoding="utf-8") as file:
        return [line.rstrip("\n").split(",") for line in file]
