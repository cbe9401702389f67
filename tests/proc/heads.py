#!/usr/bin/env python3
"""Personal heads: two sites whose classes mean the opposite, which one shared head cannot fit and two of their own can. Heads never
leave: updates are shorter by them, the model predicts where a head is, and a site killed in the job finds its head again."""
import os
import time

from harness import Refused, Sandbox, done, note, ok
from notes import BASE, KINDS, MANIFEST, NOISY, OPEN, TEXTS, job

HEAD = 128 * 128 + 128 + 2 * 128 + 2  # pooler and classifier of the base model
LICENCES = {"letters": OPEN, "quiet": NOISY}


def body(name, dataset, rounds, head, privacy="", tune="full"):
    text = job(name, dataset, tune, privacy=privacy).replace("token-classification", "sequence-classification").replace("rounds: 2", f"rounds: {rounds}")
    text = text.replace(f"tune: {tune}", f"tune: {tune}, personal_head: {str(head).lower()}").replace("epochs: 1", "epochs: 2").replace("min_sites: 2, round_timeout: 60s", "min_sites: 1, round_timeout: 10s")
    return text + "features: [note]\ntarget: kind\n"


def blobs(box, name):
    return sum(len(files) for _, _, files in os.walk(os.path.join(box.home(name), "models")))


def sent(box, name, shown):
    """Bytes of the largest update that the site sent for the job."""
    return max(e["bytes"] for e in box.run(name, "audit", "egress") if e["kind"] == "update" and e["id"] == shown["job"])


def labels(box, name, shown):
    lines = "".join(texts[0] + "\n" for texts in KINDS.values())
    return [r["label"] for r in box.run(name, "model", "predict", shown["model"], "--data", box.write("new.txt", lines))["rows"]]


def accuracy(shown):
    return shown["history"][-1]["metrics"]["accuracy"]


def import_data(box):
    kinds = list(KINDS)
    for name, order in (("beta", kinds), ("gamma", kinds[::-1])):
        rows = "".join(f"\"{text}, number {i}\",{kind}\n" for i in range(15) for kind, texts in zip(order, KINDS.values()) for text in texts)
        for dataset, licence in LICENCES.items():
            box.run(name, "dataset", "import", box.write("texts.yaml", TEXTS.replace("letters", dataset) + licence), "--data", box.write("texts.csv", "note,kind\n" + rows))


def run(box, *args):
    path = box.write(f"{args[0]}.yaml", body(*args))
    return box.run("alpha", "train", "run", path, timeout=300)


def killed(box):
    """A site is killed after a round, and the coordinator, so that rounds wait for both to be back."""
    path = box.write("own.yaml", body("own", "letters", 8, True))
    started = box.run("alpha", "train", "start", path)["job"]

    def shown():
        return box.run("alpha", "train", "show", started)
    box.wait("a round", lambda: shown()["round"] >= 2, 60)
    box.kill("gamma")
    box.kill("alpha")
    box.start()
    box.wait("both sites", lambda: box.permitted("alpha", path), 30)
    at = shown()
    if at["state"] == "waiting":
        box.run("alpha", "train", "resume", started)
    box.wait("the job", lambda: shown()["state"] not in ("running", "waiting"), 120)
    note(f"killed at round {at['round']}, {at['state']}; took part: {[len(r['participants']) for r in shown()['history']]}")
    return shown()


def small(box, name):
    """Blobs of a home that are no vector of the encoder: heads."""
    paths = [os.path.join(path, file) for path, _, files in os.walk(os.path.join(box.home(name), "models")) for file in files]
    return {path for path in paths if os.path.exists(path) and os.path.getsize(path) < 100_000}


def tokens(box):
    """What one site calls a disease is a place at the other. gamma is killed as soon as a new head of its own lies on disk, before the round's answer; the
    job is stopped and goes on; heads are there all the same."""
    for name, disease in (("beta", "fever"), ("gamma", "clinic")):
        text = ""
        for i in range(30):
            text += f"-DOCSTART- {name}-{i}\n\n"
            for words in (f"she came with fever to the clinic on day {i}", f"no fever was seen in our clinic since {i} days"):
                text += "".join(f"{word}\t{'B-Disease' if word == disease else 'O'}\n" for word in words.split()) + "\n"
        box.run(name, "dataset", "import", box.write("words.yaml", MANIFEST.replace("NAME", "words") + OPEN), "--data", box.write(f"{name}.conll", text), "--format", "conll")
    body = job("words", "words").replace("tune: full", "tune: full, personal_head: true").replace("rounds: 2", "rounds: 8").replace("epochs: 1", "epochs: 3")
    path = box.write("words-job.yaml", body.replace("min_sites: 2, round_timeout: 60s", "min_sites: 1, round_timeout: 10s"))
    box.wait("words of both", lambda: len([s for s in box.run("alpha", "catalog")["datasets"] if s["dataset"] == "words"]) == 2)
    before = small(box, "gamma")
    started = box.run("alpha", "train", "start", path)["job"]

    def shown():
        return box.run("alpha", "train", "show", started)
    box.wait("a round", lambda: shown()["round"] >= 1, 60)
    held = small(box, "gamma")
    until = time.monotonic() + 20
    while small(box, "gamma") <= held and time.monotonic() < until:
        time.sleep(0.0005)
    box.kill("gamma")
    left = small(box, "gamma")
    at = shown()["round"]
    cut = os.path.join(box.home("gamma"), "models", "0" * 64 + ".part")
    with open(cut, "wb") as file:
        file.write(bytes(1000))
    os.utime(cut, (time.time() - 100_000,) * 2)
    box.start()
    swept = [line for line in box.log("gamma").splitlines() if "files that nothing names any more" in line]
    ok(len(swept) >= 1 and not os.path.exists(cut), f"what nobody went on fetching for a day goes when gamma starts again: {swept[-1:]}")
    box.run("alpha", "train", "stop", started)
    stopped = shown()
    box.wait("gamma", lambda: box.permitted("alpha", path), 30)
    box.run("alpha", "train", "resume", started)
    box.wait("the end", lambda: shown()["state"] == "done", 120)
    last = shown()
    ok(stopped["state"] == "stopped" and last["state"] == "done" and last["round"] == 8 and "gamma" in last["history"][-1]["participants"],
       f"gamma was killed in round {at + 1} with {len(left - before)} heads on disk, the job stopped at {stopped['round']}; it ends: {last['state']}, {[len(r['participants']) for r in last['history']]}")
    said = {name: [t for r in box.run(name, "model", "predict", last["model"], "--data", box.write("new.txt", "she came with fever to the clinic\n"))["rows"] for t in zip(r["words"], r["tags"])]
            for name in ("beta", "gamma")}
    tagged = {name: [word for word, tag in rows if tag != "O"] for name, rows in said.items()}
    ok(tagged == {"beta": ["fever"], "gamma": ["clinic"]}, f"each site tags as it learned to: {tagged}")
    ok(len(small(box, "gamma") - before) == 1 and len(small(box, "beta")) >= 1, f"one head of the job is kept at gamma: {len(small(box, 'gamma') - before)}")


def main():
    with Sandbox("alpha,beta,gamma") as box:
        import_data(box)
        box.run("alpha", "model", "import", BASE, "--name", "tiny", "--licence", "CC-BY-4.0")
        for dataset in LICENCES:
            box.wait(f"{dataset} of both", lambda d=dataset: len([s for s in box.run("alpha", "catalog")["datasets"] if s["dataset"] == d]) == 2)
        before = blobs(box, "alpha")
        box.run("alpha", "train", "start", box.write("asked.yaml", body("asked", "letters", 2, False)), "--explain")
        ok(blobs(box, "alpha") == before, f"to ask what a job would cost leaves nothing on disk: {before} blobs, {blobs(box, 'alpha')} after")
        shared = run(box, "shared", "letters", 2, False)
        held = blobs(box, "gamma")
        own = killed(box)
        ok(own["state"] == "done" and own["round"] == 8 and "gamma" in own["history"][-1]["participants"], f"a job with personal heads ends, the killed site in it: {own['state']}")
        ok(accuracy(own) > 0.9 and accuracy(shared) < 0.8, f"opposite labels are learned by heads of their own: {accuracy(own)}; by one head for all: {accuracy(shared)}")
        shorter = sent(box, "beta", shared) - sent(box, "beta", own)
        ok(abs(shorter - 4 * HEAD) < 64, f"an update is shorter by the head: {shorter} bytes, {4 * HEAD} expected")
        ok(box.run("alpha", "train", "verify", own["job"])["ok"], "the model is what its rounds make it")
        kinds = list(KINDS)
        ok(labels(box, "beta", own) == kinds and labels(box, "gamma", own) == kinds[::-1], "each site predicts by its own head")
        code, error = box.refusal("alpha", "model", "predict", own["model"], "--data", box.write("new.txt", "a visit\n"))
        ok(code == 4 and "personal" in error.get("detail", ""), f"a node without a head predicts nothing: exit {code}, {error.get('detail', '')[:60]}")
        code, _ = box.refusal("alpha", "model", "export", own["model"], "--out", os.path.join(box.folder, "none"))
        ok(code == 4 and not os.path.exists(os.path.join(box.folder, "none")), f"and exports nothing: exit {code}")
        ok("personal" in box.run("alpha", "model", "card", own["model"])["card"], "the card says so")
        out = os.path.join(box.folder, "ours")
        box.run("gamma", "model", "export", own["model"], "--out", out)
        with open(os.path.join(out, "README.md"), encoding="utf-8") as file:
            ok("this node's own head" in file.read(), "an export at a site holds its head, and says so")
        tokens(box)
        noisy = run(box, "noisy", "quiet", 1, True, "privacy: {epsilon: 8, delta: 1e-5, clip: 1.0}", "ffa-lora")
        ok(noisy["state"] == "done" and noisy["history"][-1]["epsilon"] <= 8 and sent(box, "beta", noisy) < 4 * HEAD, f"adapters with noise, too: {sent(box, 'beta', noisy)} bytes, less than a head")
        ok(len(labels(box, "beta", noisy)) == 2, "and they predict")
        kept = blobs(box, "gamma")
        box.run("gamma", "dataset", "remove", "letters", "--shred")
        ok(blobs(box, "gamma") < kept, f"a head goes with its dataset: {held} blobs before the job, {kept} with heads, {blobs(box, 'gamma')} after")
        code, _ = box.refusal("gamma", "model", "predict", own["model"], "--data", box.write("new.txt", "a visit\n"))
        ok(code == 4, f"and predicts no more: exit {code}")
    done()


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        ok(False, f"unexpected refusal: {error}")
        done()
