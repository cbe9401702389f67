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


_goals = []


def result(name, ours, rival, unit, rival_name, goal=None):
    """Less is better for everything that is measured here. GOAL: the ratio that it should have."""
    wanted = "" if goal is None else f" goal={goal:.2f}"
    print(f"bench {name} ours={ours:.4g} rival={rival:.4g} ratio={rival / ours:.2f} unit={unit} rival_name={rival_name}{wanted}",
          flush=True)
    if goal is not None:
        _goals.append((name, rival_name, rival / ours, goal))


def say_goals():
    """The end of a run: which ratios are below what they should be."""
    missed = [f"{name} against {rival} {ratio:.2f} of {goal:.2f}" for name, rival, ratio, goal in _goals if ratio < goal]
    if _goals:
        say(f"{len(_goals) - len(missed)} of {len(_goals)} goals are reached{'; missed: ' if missed else ''}{', '.join(missed)}")


def better(name, ours, rival, unit, rival_name, goal=None):
    """More is better."""
    wanted = "" if goal is None else f" goal={goal:.2f}"
    print(f"bench {name} ours={ours:.4g} rival={rival:.4g} ratio={ours / rival:.2f} unit={unit} rival_name={rival_name}{wanted}",
          flush=True)
    if goal is not None:
        _goals.append((name, rival_name, ours / rival, goal))


def skipped(rival, why):
    print(f"bench - skipped rival_name={rival}: {why}", flush=True)


def program(name):
    return os.path.join(TOP, "tests/bench", name)
