"""summary.py on made OUT folders: what is shown, what each kind of bad news makes of it, what is said of a part that is older.
Usage: check_summary.py; exit status 1 with what differs."""
import copy
import json
import pathlib
import subprocess
import sys
import tempfile

SUMMARY = pathlib.Path(__file__).with_name("summary.py")
KERNELS = 5
ORIGIN = {"program_sha256": "c0ffee" + 58 * "0", "machine": {"cpu": "Abacus", "cores_online": 2}, "system": {"os": "Debian"},
          "build": {"revision": "1234567890abcdef", "dirty": False, "compiler": "GNU 12"}, "libraries": {"products": "oneDNN 2"}}
OLDER = dict(ORIGIN, build=dict(ORIGIN["build"], revision="fedcba0987654321"))


def name(i):
    return f"minilm/op{i}/8 x 8/f32"


def count(i, more, verdict):
    return {"name": name(i), "verdict": verdict, "then": 100000, "now": 100000 + more, "ratio": 1 + more / 1e5}


def timed(i, verdict="UNCLEAR", median=1e-4):
    return {"name": name(i), "verdict": verdict, "why": "because", "samples": 60, "spread": 0.01 if median else None,
            "detectable": 1.04 if median else None, "a": {"median_s": median}}


def comparison(kernels):
    return {"kernels": kernels, "a_environment": dict(ORIGIN, threads=1), "machine_state": {"others_cpus": 0.1}, "budget_s": 9}


def good():
    """What a finished OUT holds: {path: content}."""
    files = {"origin.json": ORIGIN, "pilot.json": comparison([timed(i) for i in range(KERNELS)]),
             "callgrind/base.json": {"gauge": "callgrind-3", "isa": "avx2", "compiler": "GNU 12",
                                     "instructions": {"vector": {name(i): 100000 for i in range(KERNELS)}}}}
    for i in range(599):  # 2995 comparisons
        files[f"callgrind/aa-{i:04d}.json"] = {"kernels": [count(k, 0, "SAME") for k in range(KERNELS)]}
    for i in range(59):
        files[f"callgrind/five-{i:04d}.json"] = {"kernels": [count(i % KERNELS, 5000, "MORE_WORK")]}
        files[f"callgrind/one-{i:04d}.json"] = {"kernels": [count(i % KERNELS, 996, "SAME")]}
    for i in range(3):
        files[f"sets/{i}.json"] = comparison([timed(k, "REGRESSED" if (i + k) % 3 == 0 else "UNCLEAR") for k in range(KERNELS)])
        files[f"sets/{i}.roles"] = "".join(f"{(5, 1, 0)[(i + k) % 3]}\t{name(k)}\n" for k in range(KERNELS))
    return files


GOOD = good()
failures = 0


def told(files, want, *words, comparisons=2995, planted=59, part="both", beside=None, absent=()):
    """Status and text of the summary of a folder with these files."""
    global failures
    with tempfile.TemporaryDirectory() as where:
        out = pathlib.Path(where)
        for path, content in files.items():
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (out / path).write_text(content if isinstance(content, str) else json.dumps(content))
        args = [sys.executable, str(SUMMARY), where, str(comparisons), str(planted), part]
        if beside:
            (out / "older.json").write_text(json.dumps(beside))
            args.append(str(out / "older.json"))
        run = subprocess.run(args, capture_output=True, text=True)
        bad = [f"no '{w}'" for w in words if w not in run.stdout] + [f"'{w}' is there" for w in absent if w in run.stdout]
        if run.returncode != want or bad:
            failures += 1
            line = sys._getframe(1).f_lineno
            print(f"line {line}: exit status {run.returncode}, expected {want}; {bad}\n{run.stdout}{run.stderr}", file=sys.stderr)
        made = out / "gate-proof.json"
        return json.loads(made.read_text()) if made.exists() else {}


def with_(changes, without=()):
    files = {path: content for path, content in GOOD.items() if not any(path.startswith(w) for w in without)}
    return files | changes


def in_set(i, kernel, verdict, median=1e-4):
    changed = copy.deepcopy(GOOD[f"sets/{i}.json"])
    changed["kernels"][kernel] = timed(kernel, verdict, median)
    return {f"sets/{i}.json": changed}


def main():
    whole = told(GOOD, 0, "Result: shown.", "revision 1234567890ab", "program c0ffee", "Abacus, 2 cores", "59 times: 59 SAME", "59 MORE_WORK")
    # The part by instructions, each way.
    one, five, aa = "callgrind/one-0007.json", "callgrind/five-0007.json", "callgrind/aa-0123.json"
    for verdict in ("MORE_WORK", "LESS_WORK", "REGRESSED", "WRONG", "INCOMPARABLE", "UNCLEAR"):
        told(with_({one: {"kernels": [count(2, 1009, verdict)]}}), 1, "Result: refuted", f"1 %: {name(2)}: {verdict}")
    told(with_({f"callgrind/one-{i:04d}.json": {"kernels": [count(2, 1009, "MORE_WORK")]} for i in range(59)}), 1, "Result: refuted")
    told(with_({one: {"kernels": [count(2, 0, "SAME")]}}), 1, f"1 %: nothing was planted into {name(2)}")
    told(with_({five: {"kernels": [count(2, 5000, "SAME")]}}), 1, f"5 %: {name(2)}: SAME")
    for verdict in ("MORE_WORK", "LESS_WORK"):
        told(with_({aa: {"kernels": [count(2, 0, verdict)]}}), 1, f"not SAME: {name(2)}")
    told(with_({one: {"kernels": [dict(count(2, 0, "INCOMPARABLE"), then=0, ratio=None)]}}), 1, "INCOMPARABLE")
    told(with_({}, without=[one]), 3, "Result: not finished")
    told(with_({}, without=[five]), 3, "Result: not finished")
    told(with_({}, without=[aa]), 3, "Result: not finished")
    told(with_({}, without=["callgrind/"]), 3, "Result: not finished")
    # The part by time.
    told(with_(in_set(0, 2, "REGRESSED")), 1, "false alarm: A itself", "Result: refuted")
    told(with_(in_set(0, 1, "REGRESSED")), 1, "false alarm: 1 % slower", "Result: refuted")
    told(with_(in_set(0, 0, "UNCLEAR")), 0, "not found: " + name(0), "Result: shown.")
    told(with_(in_set(0, 4, "WRONG")), 1, "because", "Result: refuted")
    told(with_(in_set(0, 3, "WRONG", None) | in_set(1, 3, "WRONG", None) | in_set(2, 3, "WRONG", None)), 1,
         f"| {name(3)} | - | - | - |", "Result: refuted")
    told(with_({"pilot.json": comparison([timed(0, "REGRESSED"), timed(1)])}), 1, f"false alarm: among the candidates: {name(0)}")
    told(with_({}, without=["sets/"]), 3, "Result: not finished")
    # One part alone, and beside it an older one.
    alone = with_({}, without=["sets/", "pilot"])
    told(alone, 0, "Result: shown; this is of the part by instructions alone.", part="instructions", absent=["## Time"])
    before = dict(whole, time=dict(whole["time"], origin=OLDER))
    merged = told(alone, 0, "## Time", "revision fedcba098765", "revision 1234567890ab", "an earlier run's", part="instructions", beside=before)
    assert merged.get("from_before") == "time" and merged["time"]["sets"] == 3
    # A part from before stays what it was when it is carried on once more.
    told(alone, 0, "revision fedcba098765", part="instructions", beside=merged)
    # A summary from before that names its revision in the environment only, with a candidate that was REGRESSED.
    old = dict(before, time={k: v for k, v in before["time"].items() if k != "origin"})
    told(alone, 0, "## Time", part="instructions", beside=old)
    old = dict(old, time=dict(old["time"], pilot={"kernels": 2, "regressed": [name(0)], "detectable": {}}))
    told(alone, 1, "among the candidates", part="instructions", beside=old)
    told(with_({}, without=["callgrind/"]), 0, "## Instructions", "the one by instructions is an earlier run's", part="time", beside=whole)
    lax = copy.deepcopy(whole)
    lax["instructions"][0]["one"]["verdicts"] = {"SAME": 31, "MORE_WORK": 28}
    told(with_({}, without=["callgrind/"]), 1, "Result: refuted", part="time", beside=lax)
    # Fewer than the proof asks for is no proof.
    trial = told(alone, 0, "a trial of 5 comparisons and 3 planted kernels: no proof", comparisons=5, planted=3, part="instructions")
    assert trial.get("result") == "trial" and whole.get("result") == "shown"
    print("ok" if not failures else f"{failures} of the cases failed")
    sys.exit(1 if failures else 0)


main()
