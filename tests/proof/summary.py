"""What the comparisons of gate_proof.sh have shown so far: FOLDER, wanted numbers of (a), (b), (c)."""
import json
import pathlib
import statistics
import sys

NOISY = 1.035  # (b): a comparison that could only have found more is no test of finding 5 %


def kernels(folder, part):
    for path in sorted((folder / part).glob("*.json")):
        yield from json.loads(path.read_text())["kernels"]


def main():
    folder = pathlib.Path(sys.argv[1])
    want = dict(zip(("aa", "five", "one"), map(int, sys.argv[2:5])))
    done, refuted = {}, False
    for part, title in (("aa", "A against itself"), ("five", "5 % slower"), ("one", "1 % slower")):
        rows = list(kernels(folder, part))
        noisy = [r for r in rows if part == "five" and not (r["detectable"] or 9) <= NOISY]
        counted = [r for r in rows if part != "five" or (r["detectable"] or 9) <= NOISY]
        regressed = sum(r["verdict"] == "REGRESSED" for r in counted)
        done[part] = len(counted)
        left = max(0, want[part] - len(counted))
        print(f"{part}: {title}: {len(counted)} comparisons, {regressed} REGRESSED, {left} to go", end="")
        print(f", {len(noisy)} too noisy" if part == "five" else "")
        verdicts = {}
        for r in rows:
            verdicts[r["verdict"]] = verdicts.get(r["verdict"], 0) + 1
        if rows:
            print("    " + ", ".join(f"{n} {v}" for v, n in sorted(verdicts.items())))
            found = sorted(100 * (r["detectable"] - 1) for r in rows if r["detectable"])
            if found:
                print(f"    a slowdown of {statistics.median(found):.1f} % would have been found (median; "
                      f"{found[0]:.1f} to {found[-1]:.1f})")
        if any(r["verdict"] == "WRONG" for r in rows):
            refuted = True
        if part == "five":
            refuted = refuted or regressed < len(counted)
            for r in counted:
                if r["verdict"] != "REGRESSED":
                    print(f"    not found: {r['name']}: {r['verdict']}, {r['why']}")
        elif regressed:
            refuted = True
            for r in counted:
                if r["verdict"] == "REGRESSED":
                    print(f"    false alarm: {r['name']}: {r['why']}")
    if done["aa"] > 0:
        print(f"without a false alarm the rate is below {100 * (1 - 0.05 ** (1 / done['aa'])):.2g} % with 95 % confidence")
    finished = all(done[part] >= want[part] for part in want)
    print("refuted" if refuted else "proven" if finished else "unfinished")


main()
