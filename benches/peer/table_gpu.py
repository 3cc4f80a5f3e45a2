"""Makes the table of `make bench-gpu` from what the programs printed. Needs nothing but Python.

table_gpu.py WORK OUT: reads WORK/{ours,ours16,best,compiled}.jsonl and WORK/{precision,autocast}.json, writes OUT, prints the table. A program that
failed (memory) has `null` for its line.
"""

import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, median


def main(work, out):
    lines = lambda name: [json.loads(line) for line in (work / name).read_text().splitlines()]
    # The first steps of a process compile and allocate.
    rates = lambda run: [run["studies"] / second for second in run["seconds"][2:]] if run else []
    taped = lambda run: f", the tape of {run['chunk']} at a time" if run["chunk"] else ""
    rows = []
    for ours, ours16, best, compiled in zip(*map(lines, ("ours.jsonl", "ours16.jsonl", "best.jsonl", "compiled.jsonl"))):
        studies = ours["studies"]
        floor = ours["matrix_rate"] / ours["operations"] * studies
        step = f"step of {studies} studies, bfloat16{taped(ours)}"
        rows.append(row(f"{step}, against PyTorch without waste", "studies/s", rates(ours), rates(best), floor, ">= 1"))
        rows.append(row(f"{step}, with torch.compile", "studies/s", rates(ours), rates(compiled), floor, ">= 1, aim 1.2; share >= 0.5"))
        memory = lambda run: [run["peak_bytes"] / studies / 2**20] if run else []
        rows.append(row("its memory a study", "MiB", memory(ours), memory(best), None, "stated"))
        finer_floor = ours16["matrix_rate"] / ours16["operations"] * studies
        rows.append(row(f"step of {studies} studies, float16{taped(ours16)}, against that in bfloat16", "studies/s", rates(ours16), rates(ours), finer_floor, "stated"))
        rows.append(row("rate of matrix products, bfloat16", "TFLOP/s", [ours["matrix_rate"] / 1e12], [], None, "-"))
    precision, autocast = (json.loads((work / name).read_text()) for name in ("precision.json", "autocast.json"))
    exact = precision["losses"].pop("float32")
    for kind, cosines in precision["cosine"].items():
        for part, own in cosines.items():
            theirs = [autocast[part]] if kind == "bfloat16" and part in autocast else []
            rows.append(row(f"cosine of gradients, {kind}, {part}; PyTorch's autocast", "", [own], theirs, None, "> 0.999"))
    for kind, losses in precision["losses"].items():
        drifts = [abs(mean(losses[n:n + 20]) / mean(exact[n:n + 20]) - 1) for n in range(0, len(exact), 20)]
        rows.append(row(f"largest difference of losses, {kind}, {len(exact)} steps, means of 20", "", [max(drifts, default=0)], [], None, "tracks"))
    try:
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        print(subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip())
    except (OSError, subprocess.CalledProcessError):
        print("no nvidia-smi: not a GPU's table")
    text = lambda value, width: f"{value:{width}.4g}" if value is not None else f"{'-':>{width}}"
    print(f"{'what':66} {'unit':9} {'ours':>9} {'peer':>9} {'ratio':>7} {'share':>6}  asked for")
    for r in rows:
        print(f"{r['name']:66} {r['unit']:9} {text(r['ours'], 9)} {text(r['peer'], 9)} {text(r['ratio'], 7)} {text(r['floor_share'], 6)}  {r.pop('goal')}")
    out.write_text(json.dumps(rows, indent=1) + "\n")


def row(name, unit, ours, peer, floor, goal):
    own, theirs = median(ours) if ours else None, median(peer) if peer else None
    return {
        "name": name, "unit": unit, "ours": own, "peer": theirs, "ratio": own / theirs if own is not None and theirs else None,
        "floor": floor, "floor_share": own / floor if floor and own else None, "samples": {"ours": ours, "peer": peer}, "goal": goal,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
