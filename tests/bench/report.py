"""What every bench says and how: bench.py describes the lines."""
import os
import sys

TOP = os.environ.get("top_builddir", ".")
SRC = os.environ.get("top_srcdir", ".")
sys.path.insert(0, os.path.join(SRC, "tests/proc"))
sys.dont_write_bytecode = True

TMP = os.environ.get("TMPDIR") or "/tmp"


def say(text):
    print(f"# {text}", flush=True)


def load():
    with open("/proc/loadavg", encoding="ascii") as file:
        return file.read().split()[0]


def result(name, ours, rival, unit, rival_name):
    """Less is better for everything that is measured here."""
    print(f"bench {name} ours={ours:.4g} rival={rival:.4g} ratio={rival / ours:.2f} unit={unit} rival_name={rival_name}",
          flush=True)


def better(name, ours, rival, unit, rival_name):
    """More is better."""
    print(f"bench {name} ours={ours:.4g} rival={rival:.4g} ratio={ours / rival:.2f} unit={unit} rival_name={rival_name}",
          flush=True)


def skipped(rival, why):
    print(f"bench - skipped rival_name={rival}: {why}", flush=True)


def program(name):
    return os.path.join(TOP, "tests/bench", name)
