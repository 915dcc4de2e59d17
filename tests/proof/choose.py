"""Which kernels gate_proof.sh times: choose.py candidates|pilot OUT N. Names for --filter go to standard output, the budget of a
comparison of them in seconds to OUT/candidates.budget or OUT/chosen.budget."""
import json
import pathlib
import sys

RUN_S = 40       # --budget of the run over all kernels
SAMPLES = 75     # wanted in a process: 60, 5 to warm up, and some room
PROCESSES = 20   # of a stage, which gets three quarters of the budget
SHORTEST_S, LONGEST_S = 30e-6, 5e-3


def costs(out):
    """{name: (op, median, seconds of a process with enough samples, seconds a sample)} of the run over all kernels."""
    stamps, names = [], []
    for line in (out / "candidates.log").read_text().splitlines():
        stamp, _, text = line.partition(" ")
        head, colon, name = text.partition(": ")
        if colon and " of " in head:
            stamps.append(float(stamp))
            names.append(name)
    walls = {name: later - now for name, now, later in zip(names, stamps, stamps[1:])}
    kernels = json.loads((out / "candidates.json").read_text())["kernels"]
    share = RUN_S / len(kernels)
    result = {}
    for k in kernels:
        if k["wrong"] or k["name"] not in walls:
            continue
        sampling = min(share, walls[k["name"]])
        sample = sampling / (len(k["samples_s"][0]) + 5)
        result[k["name"]] = (k["op"], k["median_s"], walls[k["name"]] - sampling + SAMPLES * sample, sample)
    return result


def tell(out, name, chosen, cost):
    share = SAMPLES * max(cost[n][3] for n in chosen)
    (out / f"{name}.budget").write_text(f"{share * len(chosen) * PROCESSES / 0.75:.1f}\n")
    print("|".join(chosen))


def main():
    what, out, wanted = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
    cost = costs(out)
    if what == "candidates":
        chosen, ops = [], set()
        for name, (op, median, _, _) in sorted(cost.items(), key=lambda item: item[1][2]):
            if op not in ops and SHORTEST_S <= median <= LONGEST_S and len(chosen) < wanted:
                chosen.append(name)
                ops.add(op)
        tell(out, "candidates", chosen, cost)
    else:
        rows = [k for k in json.loads((out / "pilot.json").read_text())["kernels"] if k["detectable"]]
        rows.sort(key=lambda k: k["detectable"])
        tell(out, "chosen", [k["name"] for k in rows[:wanted]], cost)


main()
