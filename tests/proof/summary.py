"""What gate_proof.sh has shown so far: summary.py OUT COMPARISONS PLANTED [both|instructions|time [BESIDE]] writes
OUT/gate-proof.json and OUT/gate-proof.md and prints the latter. A part that was not asked for is shown from BESIDE, a
gate-proof.json from before, as of the revision and machine that it was taken on. Exit status: 0 shown, 1 refuted, 3 not
finished. Test: check_summary.py."""
import json
import pathlib
import statistics
import sys

SLACK = 64  # instructions that are no work of a kernel: harness/kernel_count.h
ROLES = {"0": "A itself", "1": "1 % slower", "5": "5 % slower"}
COMPARISONS, PLANTED = 2995, 59  # fewer are a trial


def read(path):
    return json.loads(path.read_text())


def tally(verdicts):
    return {v: verdicts.count(v) for v in sorted(set(verdicts))}


# ---- instructions ----


def counted(folder, want_aa, want_planted, origin):
    """One gauge."""
    base = read(folder / "base.json")
    names = {n: count for group in base["instructions"].values() for n, count in group.items()}
    result = {"gauge": base["gauge"], "isa": base["isa"], "compiler": base["compiler"], "kernels": len(names), "origin": origin,
              "wanted": {"comparisons": want_aa, "planted": want_planted}}
    tables = [read(p) for p in sorted(folder.glob("aa-*.json"))]
    rows = [k for t in tables for k in t["kernels"]]
    result["aa"] = {"processes": len(tables), "whole_tables": sum(len(t["kernels"]) == len(names) for t in tables),
                    "comparisons": len(rows), "alarms": [k["name"] for k in rows if k["verdict"] != "SAME"],
                    "identical": sum(k["then"] == k["now"] for k in rows),
                    "largest_difference": max((abs(k["now"] / k["then"] - 1) for k in rows if k["then"]), default=None)}
    for part, percent, want in (("five", 5, "MORE_WORK"), ("one", 1, "SAME")):
        # A file is of one planted kernel; others whose names hold its name are in it too.
        found = [max(read(path)["kernels"], key=lambda k: k["now"] / k["then"] if k["then"] else float("inf"))
                 for path in sorted(folder.glob(part + "-*.json"))]
        ratios = [k["now"] / k["then"] for k in found if k["then"]]
        result[part] = {"percent": percent, "comparisons": len(found), "verdicts": tally([k["verdict"] for k in found]),
                        "unexpected": [f"{k['name']}: {k['verdict']}" for k in found if k["verdict"] != want],
                        "not_planted": [k["name"] for k in found if k["now"] <= k["then"]],
                        "within_slack": sum(abs(k["now"] - k["then"]) <= SLACK for k in found),
                        "ratios": [min(ratios, default=None), max(ratios, default=None)]}
    result["too_small_for_5_percent"] = sorted(n for n, count in names.items() if 0.05 * count <= SLACK + 2)
    aa, five, one = result["aa"], result["five"], result["one"]
    refuted = aa["alarms"] or any(p["unexpected"] or p["not_planted"] for p in (five, one))
    finished = aa["comparisons"] >= want_aa and min(five["comparisons"], one["comparisons"]) >= want_planted
    result["shown"] = False if refuted else True if finished else None
    return result


# ---- time ----


def median(values):
    return statistics.median(values) if values else None


def timed(out, origin):
    sets, pilot, rows, wrong = [], None, [], []
    if (out / "pilot.json").exists():
        kernels = read(out / "pilot.json")["kernels"]
        pilot = {"kernels": len(kernels), "regressed": [k["name"] for k in kernels if k["verdict"] == "REGRESSED"],
                 "detectable": {k["name"]: k["detectable"] for k in kernels}}
        wrong += [f"{k['name']}: {k['why']}" for k in kernels if k["verdict"] in ("WRONG", "INCOMPARABLE")]
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
        row = {"name": name, "median_s": median([k["a"]["median_s"] for k in mine if k.get("a") and k["a"]["median_s"]]),
               "spread": median([k["spread"] for k in mine if k["spread"] is not None]),
               "detectable": median([k["detectable"] for k in mine if k["detectable"]]),
               "least_samples": min(k["samples"] or 0 for k in mine)}
        for role in ROLES:
            own = [k["verdict"] for k in mine if k["role"] == role]
            row[role] = {"comparisons": len(own), "regressed": own.count("REGRESSED"), "verdicts": tally(own)}
        table.append(row)
    total = {role: {"comparisons": sum(r[role]["comparisons"] for r in table),
                    "regressed": sum(r[role]["regressed"] for r in table)} for role in ROLES}
    # Of the slowdowns of 5 %: what the comparison's own spread says that it could have found, against what it found.
    fives = [k for k in rows if k["role"] == "5"]
    able = [k for k in fives if k["detectable"] and k["detectable"] <= 1.05]
    total["5"]["able"] = {"comparisons": len(able), "regressed": sum(k["verdict"] == "REGRESSED" for k in able)}
    alarms = [f"{ROLES[k['role']]}: {k['name']}: {k['why']}" for k in rows if k["verdict"] == "REGRESSED" and k["role"] != "5"]
    missed = [f"{k['name']}: {k['verdict']}, {k['why']}" for k in fives if k["verdict"] != "REGRESSED"]
    return {"sets": len(sets), "pilot": pilot, "kernels": table, "total": total, "false_alarms": alarms, "not_found": missed,
            "wrong": wrong, "environment": sets[0]["a_environment"] if sets else None, "origin": origin,
            "noise": [s["machine_state"] for s in sets], "budget_s": sets[0]["budget_s"] if sets else None}


def pilot_alarms(t):
    """The candidates are A against itself as well: what is REGRESSED there was a false alarm, chosen or not."""
    return t["pilot"]["regressed"] if t["pilot"] else []


def shown_by_time(t):
    if t["false_alarms"] or t["wrong"] or pilot_alarms(t):
        return False
    return True if t["sets"] else None


# ---- the page ----


def percent(x):
    return "-" if x is None else f"{100 * x:.1f} %"


def of_what(origin, also):
    """Machine and revision of a part; an older summary does not have all of it."""
    if not origin:
        return "Revision, program and machine of this part were not written down."
    build = origin["build"]
    sha = origin.get("program_sha256")
    return (f"{origin['machine'].get('cpu', '?')}, {origin['machine']['cores_online']} cores, {origin['system'].get('os', '?')}, "
            f"{build['compiler']}, {origin['libraries']['products']}{also}, revision {build['revision'][:12]}{'+' if build['dirty'] else ''}"
            + (f", program {sha[:12]} (SHA-256)." if sha else "."))


def of_planted(part, what, want):
    line = f"- {what} in one kernel, {part['comparisons']} times: " + (", ".join(f"{n} {v}" for v, n in part["verdicts"].items()) or "nothing yet")
    if part["ratios"][0]:
        line += (f"; each must be {want}. Ratios {part['ratios'][0]:.5f} to {part['ratios'][1]:.5f}"
                 + (f"; {part['within_slack']} differ by no more than the slack of {SLACK} instructions" if part.get("within_slack") else ""))
    return line + "."


def of_counts(r, lines):
    aa = r["aa"]
    lines += [f"## Instructions, {r['gauge']} ({r['isa']}, {r['compiler']})", "", of_what(r.get("origin"), ""), "",
              f"- A against itself: {aa['comparisons']} kernels judged in {aa['processes']} processes ({aa['whole_tables']} of them over "
              f"the whole table of {r['kernels']}, the others without the ops that execute most), {len(aa['alarms'])} other than SAME; {aa['identical']} counts equal to the last digit"
              + (f", the largest difference {1e6 * aa['largest_difference']:.2g} parts in a million."
                 if aa["largest_difference"] is not None else "."),
              of_planted(r["five"], "5 % more", "MORE_WORK"), of_planted(r["one"], "Up to 1 % more", "SAME"),
              "- MORE_WORK begins above a ratio of 1.01."]
    if r["too_small_for_5_percent"]:
        lines.append(f"- Not planted, since 5 % of them are less than the slack of {SLACK} instructions: " +
                     ", ".join(r["too_small_for_5_percent"]) + ".")
    lines += [f"- not SAME: {name}" for name in aa["alarms"]]
    for part in (r["five"], r["one"]):
        lines += [f"- {part['percent']} %: {line}" for line in part.get("unexpected", [])]
        lines += [f"- {part['percent']} %: nothing was planted into {name}" for name in part.get("not_planted", [])]
    lines.append("")


def of_times(t, lines):
    total, e = t["total"], t["environment"]
    lines += ["## Time", "", of_what(t.get("origin") or e, f", {e['threads']} thread(s)"), ""]
    if t["pilot"]:
        lines.append(f"Chosen before by a comparison of A with itself over {t['pilot']['kernels']} candidates, one of each op "
                     f"({len(t['pilot']['regressed'])} of them REGRESSED): those with the least spread.")
    lines += [f"{t['sets']} sets with a budget of {t['budget_s']} s each. All comparisons count; those of a set share their 20 to 40 "
              "processes, so that the sets, not the comparisons, are independent.", "",
              "| kernel | median | A's spread | finds | A itself: REGRESSED | 1 % slower: REGRESSED | 5 % slower: REGRESSED |",
              "| --- | --- | --- | --- | --- | --- | --- |"]
    for r in t["kernels"]:
        cells = [f"{r[role]['regressed']} of {r[role]['comparisons']}" for role in ROLES]
        took = "-" if r["median_s"] is None else f"{1e6 * r['median_s']:.0f} us"
        finds = percent(None if r["detectable"] is None else r["detectable"] - 1)
        lines.append(f"| {r['name']} | {took} | {percent(r['spread'])} | {finds} | " + " | ".join(cells) + " |")
    cells = [f"{total[role]['regressed']} of {total[role]['comparisons']}" for role in ROLES]
    lines += ["| all | | | | " + " | ".join(cells) + " |", "",
              "A's spread: of its processes within a comparison; finds: the slowdown that both stages find with probability 0.8 at that "
              "spread (medians over the sets).",
              f"Of the {total['5']['comparisons']} comparisons with 5 %, {total['5']['able']['comparisons']} could by their own spread find "
              f"5 % with that probability, and {total['5']['able']['regressed']} of these did."]
    lines += [f"- false alarm: {line}" for line in t["false_alarms"]]
    lines += [f"- false alarm: among the candidates: {name}" for name in pilot_alarms(t)]
    lines += [f"- not found: {line}" for line in t["not_found"]] + [f"- {line}" for line in t["wrong"]]
    for key, what in (("others_cpus", "other processes used"), ("steal", "the hypervisor took")):
        values = [n[key] for n in t["noise"] if n.get(key) is not None]
        if values:
            lines.append(f"- during a set {what} {percent(statistics.median(values))} (median; at most {percent(max(values))})"
                         + (" of a core." if key == "others_cpus" else " of all CPUs' time."))
    lines.append("")


def main():
    out, want_aa, want_planted = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    part = sys.argv[4] if len(sys.argv) > 4 else "both"
    beside = read(pathlib.Path(sys.argv[5])) if len(sys.argv) > 5 else None
    origin = read(out / "origin.json") if (out / "origin.json").exists() else None
    seconds = {}
    for line in (out / "times.tsv").read_text().splitlines() if (out / "times.tsv").exists() else []:
        name, took = line.split("\t")
        name = "time: sets" if name.startswith("time: set ") else name
        seconds[name] = seconds.get(name, 0) + int(took)

    counts, times, parts = [], None, []
    if part != "time":
        counts = [counted(out / g, want_aa, want_planted, origin) for g in ("callgrind", "perf") if (out / g / "base.json").exists()]
        parts += [r["shown"] for r in counts] or [None]
    if part != "instructions":
        times = timed(out, origin)
        parts.append(shown_by_time(times))
    older, refuted_before = "", False
    if beside and part != "both":
        older = "time" if part == "instructions" else "instructions"
        if older == "time":
            times = beside["time"]
            refuted_before = bool(times) and shown_by_time(times) is False
        else:
            counts = beside["instructions"]
            refuted_before = any(r["shown"] is False or set(r["one"]["verdicts"]) - {"SAME"} for r in counts)
        seconds |= {name: took for name, took in beside["seconds"].items() if (older == "time") == name.startswith("time:")}

    refuted, finished = refuted_before or any(shown is False for shown in parts), all(parts)
    trial = part != "time" and (want_aa < COMPARISONS or want_planted < PLANTED)
    verdict = "refuted" if refuted else "not finished" if not finished else "trial" if trial else "shown"
    told = {"shown": "shown", "refuted": "refuted", "not finished": "not finished",
            "trial": f"as it should be, in a trial of {want_aa} comparisons and {want_planted} planted kernels: no proof"}[verdict]
    if part != "both":
        told += f"; this is of the part by {part} alone"
        told += f", the one by {older} is an earlier run's, of the revision named there" if older else ""
    lines = ["# Proof of the regression gate of kernels", ""]
    for r in counts:
        of_counts(r, lines)
    if times and times["sets"]:
        of_times(times, lines)
    lines += ["## How long it took", "", "; ".join(f"{name} {took} s" for name, took in seconds.items()) + ".", "", f"Result: {told}."]
    (out / "gate-proof.json").write_text(json.dumps(
        {"schema": "peftbench-gate-proof-1", "result": verdict, "parts": part, "from_before": older or None, "instructions": counts,
         "time": times, "seconds": seconds}, indent=1) + "\n")
    (out / "gate-proof.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    sys.exit(1 if refuted else 0 if finished else 3)


if __name__ == "__main__":
    main()
