"""What gate_proof.sh has shown so far: summary.py OUT WANT_AA WANT_PLANTED writes OUT/gate-proof.json and OUT/gate-proof.md and
prints the latter. Exit status: 0 shown, 1 refuted, 3 not finished."""
import json
import pathlib
import statistics
import sys

SLACK = 64  # instructions that are no work of a kernel: harness/kernel_count.h
ROLES = {"0": "A itself", "1": "1 % slower", "5": "5 % slower"}


def read(path):
    return json.loads(path.read_text())


def counted(folder, want_aa, want_planted):
    """One gauge of instructions."""
    base = read(folder / "base.json")
    names = {n: count for group in base["instructions"].values() for n, count in group.items()}
    result = {"gauge": base["gauge"], "isa": base["isa"], "compiler": base["compiler"], "kernels": len(names)}
    tables = [read(p) for p in sorted(folder.glob("aa-*.json"))]
    rows = [k for t in tables for k in t["kernels"]]
    alarms = [k["name"] for k in rows if k["verdict"] != "SAME"]
    result["aa"] = {"processes": len(tables), "whole_tables": sum(len(t["kernels"]) == len(names) for t in tables), "comparisons": len(rows), "alarms": alarms,
                    "identical": sum(k["then"] == k["now"] for k in rows),
                    "largest_difference": max((abs(k["now"] / k["then"] - 1) for k in rows), default=None)}
    for part, percent in (("five", 5), ("one", 1)):
        found = []
        # A file is of one planted kernel; others whose names hold its name are in it too.
        for path in sorted(folder.glob(part + "-*.json")):
            found.append(max(read(path)["kernels"], key=lambda k: k["ratio"]))
        verdicts = {}
        for k in found:
            verdicts[k["verdict"]] = verdicts.get(k["verdict"], 0) + 1
        result[part] = {"percent": percent, "comparisons": len(found), "verdicts": verdicts,
                        "not_more_work": [k["name"] for k in found if k["verdict"] != "MORE_WORK"],
                        "ratios": [min((k["ratio"] for k in found), default=None), max((k["ratio"] for k in found), default=None)]}
    result["too_small_for_5_percent"] = sorted(n for n, count in names.items() if 0.05 * count <= SLACK + 2)
    aa, five, one = result["aa"], result["five"], result["one"]
    refuted = bool(aa["alarms"] or five["not_more_work"] or one["verdicts"].get("REGRESSED") or
                   any(v in one["verdicts"] for v in ("WRONG", "INCOMPARABLE")))
    finished = aa["comparisons"] >= want_aa and min(five["comparisons"], one["comparisons"]) >= want_planted
    result["shown"] = False if refuted else True if finished else None
    return result


def timed(out):
    sets, pilot, rows, wrong = [], None, [], []
    if (out / "pilot.json").exists():
        kernels = read(out / "pilot.json")["kernels"]
        pilot = {"kernels": len(kernels), "regressed": [k["name"] for k in kernels if k["verdict"] == "REGRESSED"],
                 "detectable": {k["name"]: k["detectable"] for k in kernels}}
    for path in sorted((out / "sets").glob("*.json"), key=lambda p: int(p.stem)):
        roles = dict(reversed(line.split("\t")) for line in path.with_suffix(".roles").read_text().splitlines())
        sets.append(read(path))
        for k in sets[-1]["kernels"]:
            rows.append(dict(k, role=roles.get(k["name"], "0")))
            if k["verdict"] in ("WRONG", "INCOMPARABLE"):
                wrong.append(f"{k['name']}: {k['why']}")
    table = []
    for name in sorted({k["name"] for k in rows}):
        mine = [k for k in rows if k["name"] == name]
        row = {"name": name, "median_s": statistics.median(k["a"]["median_s"] for k in mine if k["a"]["median_s"]),
               "spread": statistics.median(k["spread"] for k in mine if k["spread"] is not None),
               "detectable": statistics.median(k["detectable"] for k in mine if k["detectable"]),
               "least_samples": min(k["samples"] or 0 for k in mine)}
        for role in ROLES:
            own = [k for k in mine if k["role"] == role]
            row[role] = {"comparisons": len(own), "regressed": sum(k["verdict"] == "REGRESSED" for k in own),
                         "verdicts": {v: sum(k["verdict"] == v for k in own) for v in sorted({k["verdict"] for k in own})}}
        table.append(row)
    total = {role: {"comparisons": sum(r[role]["comparisons"] for r in table),
                    "regressed": sum(r[role]["regressed"] for r in table)} for role in ROLES}
    # Of the slowdowns of 5 %: what the comparison's own spread says that it could have found, against what it found.
    fives = [k for k in rows if k["role"] == "5"]
    able = [k for k in fives if k["detectable"] and k["detectable"] <= 1.05]
    total["5"]["able"] = {"comparisons": len(able), "regressed": sum(k["verdict"] == "REGRESSED" for k in able)}
    alarms = [f"{ROLES[k['role']]}: {k['name']}: {k['why']}" for k in rows if k["verdict"] == "REGRESSED" and k["role"] != "5"]
    missed = [f"{k['name']}: {k['verdict']}, {k['why']}" for k in fives if k["verdict"] != "REGRESSED"]
    environment = sets[0]["a_environment"] if sets else None
    return {"sets": len(sets), "pilot": pilot, "kernels": table, "total": total, "false_alarms": alarms, "not_found": missed,
            "wrong": wrong, "environment": environment,
            "noise": [s["machine_state"] for s in sets], "budget_s": sets[0]["budget_s"] if sets else None}


def percent(x):
    return "-" if x is None else f"{100 * x:.1f} %"


def of_counts(r, lines):
    aa, five, one = r["aa"], r["five"], r["one"]
    lines += [f"## Instructions, {r['gauge']} ({r['isa']}, {r['compiler']})", "",
              f"- A against itself: {aa['comparisons']} kernels judged in {aa['processes']} processes ({aa['whole_tables']} of them over "
              f"the whole table of {r['kernels']}, the others without the ops that execute most), {len(aa['alarms'])} other than SAME; {aa['identical']} counts equal to the last digit"
              + (f", the largest difference {1e6 * aa['largest_difference']:.2g} parts in a million."
                 if aa["largest_difference"] is not None else "."),
              f"- 5 % more in one kernel: found {five['comparisons'] - len(five['not_more_work'])} of {five['comparisons']}.",
              f"- 1 % more in one kernel, {one['comparisons']} times: " +
              (", ".join(f"{n} {v}" for v, n in sorted(one["verdicts"].items())) or "nothing yet") + "."]
    if one["ratios"][0]:
        lines.append(f"  Ratios {one['ratios'][0]:.5f} to {one['ratios'][1]:.5f}; MORE_WORK begins above 1.01.")
    if r["too_small_for_5_percent"]:
        lines.append(f"- Not planted, since 5 % of them are less than the slack of {SLACK} instructions: " +
                     ", ".join(r["too_small_for_5_percent"]) + ".")
    lines += [f"- not SAME: {name}" for name in aa["alarms"]] + [f"- not found: {name}" for name in five["not_more_work"]] + [""]


def of_times(t, lines):
    total = t["total"]
    lines += ["## Time", ""]
    if t["pilot"]:
        lines.append(f"Chosen before by a comparison of A with itself over {t['pilot']['kernels']} candidates, one of each op "
                     f"({len(t['pilot']['regressed'])} of them REGRESSED): those with the least spread.")
    lines += [f"{t['sets']} sets with a budget of {t['budget_s']} s each. All comparisons count; those of a set share their 20 to 40 "
              "processes, so that the sets, not the comparisons, are independent.", "",
              "| kernel | median | A's spread | finds | A itself: REGRESSED | 1 % slower: REGRESSED | 5 % slower: REGRESSED |",
              "| --- | --- | --- | --- | --- | --- | --- |"]
    for r in t["kernels"]:
        cells = [f"{r[role]['regressed']} of {r[role]['comparisons']}" for role in ROLES]
        lines.append(f"| {r['name']} | {1e6 * r['median_s']:.0f} us | {percent(r['spread'])} | {percent(r['detectable'] - 1)} | " +
                     " | ".join(cells) + " |")
    cells = [f"{total[role]['regressed']} of {total[role]['comparisons']}" for role in ROLES]
    lines += ["| all | | | | " + " | ".join(cells) + " |", "",
              "A's spread: of its processes within a comparison; finds: the slowdown that both stages find with probability 0.8 at that "
              "spread (medians over the sets).",
              f"Of the {total['5']['comparisons']} comparisons with 5 %, {total['5']['able']['comparisons']} could by their own spread find "
              f"5 % with that probability, and {total['5']['able']['regressed']} of these did."]
    lines += [f"- false alarm: {line}" for line in t["false_alarms"]] + [f"- not found: {line}" for line in t["not_found"]]
    lines += [f"- {line}" for line in t["wrong"]]
    for key, what in (("others_cpus", "other processes used"), ("steal", "the hypervisor took")):
        values = [n[key] for n in t["noise"] if n.get(key) is not None]
        if values:
            lines.append(f"- during a set {what} {percent(statistics.median(values))} (median; at most {percent(max(values))})"
                         + (" of a core." if key == "others_cpus" else " of all CPUs' time."))
    lines.append("")


def main():
    out, want_aa, want_planted = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    counts = [counted(out / g, want_aa, want_planted) for g in ("callgrind", "perf") if (out / g / "base.json").exists()]
    times = timed(out)
    steps = [line.split("\t") for line in (out / "times.tsv").read_text().splitlines()] if (out / "times.tsv").exists() else []
    seconds = {}
    for name, took in steps:
        name = "time: sets" if name.startswith("time: set ") else name
        seconds[name] = seconds.get(name, 0) + int(took)
    lines = ["# Proof of the regression gate of kernels", ""]
    if times["environment"]:
        e = times["environment"]
        lines += [f"{e['machine'].get('cpu', '?')}, {e['machine']['cores_online']} cores, {e['system'].get('os', '?')}, "
                  f"{e['build']['compiler']}, {e['libraries']['products']}, {e['threads']} thread(s), revision "
                  f"{e['build']['revision'][:12]}{'+' if e['build']['dirty'] else ''}.", ""]
    for r in counts:
        of_counts(r, lines)
    if times["sets"]:
        of_times(times, lines)
    refuted = any(r["shown"] is False for r in counts) or times["false_alarms"] or times["wrong"]
    finished = counts and all(r["shown"] for r in counts) and times["sets"] > 0
    verdict = "refuted" if refuted else "shown" if finished else "not finished"
    lines += ["## How long it took", "", "; ".join(f"{name} {took} s" for name, took in seconds.items()) + ".", "",
              f"Result: {verdict}."]
    (out / "gate-proof.json").write_text(json.dumps(
        {"schema": "peftbench-gate-proof-1", "result": verdict, "instructions": counts, "time": times, "seconds": seconds}, indent=1) + "\n")
    (out / "gate-proof.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    sys.exit(1 if refuted else 0 if finished else 3)


main()
