"""Makes the table of `make bench-gpu` from the output of the programs. Needs only Python.

table_gpu.py WORK OUT: reads whichever exist of WORK/{ours,ours16,best,compiled}.jsonl and
WORK/{embed,precision,autocast}.json, writes OUT, prints the table. The line of a program that
failed (for lack of memory) is `null`.
"""

import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, median


def main(work, out):
    lines = lambda name: [json.loads(line) for line in (work / name).read_text().splitlines()] if (work / name).exists() else []
    steps = list(zip(*map(lines, ("ours.jsonl", "ours16.jsonl", "best.jsonl", "compiled.jsonl"))))
    rows = [row for own in steps for row in step(*own)]
    if (work / "embed.json").exists():
        rows += embedding(json.loads((work / "embed.json").read_text()), rates(steps[-1][0]) if steps else [])
    if (work / "precision.json").exists():
        rows += precision(*(json.loads((work / name).read_text()) for name in ("precision.json", "autocast.json")))
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


def rates(run):
    """Studies per second. The first steps of a process compile and allocate."""
    return [run["studies"] / second for second in run["seconds"][2:]] if run else []


def step(ours, ours16, best, compiled):
    studies = ours["studies"]
    taped = lambda run: f", the tape of {run['chunk']} at a time" if run["chunk"] else ""
    floor = lambda run: run["matrix_rate"] / run["operations"] * studies
    memory = lambda run: [run["peak_bytes"] / studies / 2**20] if run else []
    name = f"step of {studies} studies, bfloat16{taped(ours)}"
    finer = f"step of {studies} studies, float16{taped(ours16)}, against that in bfloat16"
    return [
        row(f"{name}, against PyTorch without waste", "studies/s", rates(ours), rates(best), floor(ours), ">= 1"),
        row(f"{name}, with torch.compile", "studies/s", rates(ours), rates(compiled), floor(ours), ">= 1, aim 1.2; share >= 0.5"),
        row("its memory a study", "MiB", memory(ours), memory(best), None, "stated"),
        row(finer, "studies/s", rates(ours16), rates(ours), floor(ours16), "stated"),
        row("rate of matrix products, bfloat16", "TFLOP/s", [ours["matrix_rate"] / 1e12], [], None, "-"),
    ]


def embedding(run, steps):
    """Of a corpus; and whether training batches are read as fast as steps take them."""
    rows = []
    for name, own in run["embedded"].items():
        floor = own["matrix_rate"] / run["operations"] * run["pictures"]
        pictures = [run["pictures"] / second for second in own["seconds"]]
        rows.append(row(f"embedding a corpus, {name}, batches of {run['batch']}", "pictures/s", pictures, [], floor, "share >= 0.6"))
    return rows + [row("training batches from a corpus, 4 threads; the last step above", "studies/s", [run["loaded"][-1]], steps, None, ">= 1")]


def precision(found, autocast):
    rows, exact = [], found["losses"].pop("float32")
    for kind, cosines in found["cosine"].items():
        for part, own in cosines.items():
            theirs = [autocast[part]] if kind == "bfloat16" and part in autocast else []
            rows.append(row(f"cosine of gradients, {kind}, {part}; PyTorch's autocast", "", [own], theirs, None, "> 0.999"))
    for kind, losses in found["losses"].items() if exact else ():
        drifts = [abs(mean(losses[n:n + 20]) / mean(exact[n:n + 20]) - 1) for n in range(0, len(exact), 20)]
        rows.append(row(f"largest difference of losses, {kind}, {len(exact)} steps, means of 20", "", [max(drifts, default=0)], [], None, "tracks"))
    return rows


def row(name, unit, ours, peer, floor, goal):
    own, theirs = median(ours) if ours else None, median(peer) if peer else None
    return {
        "name": name, "unit": unit, "ours": own, "peer": theirs, "ratio": own / theirs if own is not None and theirs else None,
        "floor": floor, "floor_share": own / floor if floor and own else None, "samples": {"ours": ours, "peer": peer}, "goal": goal,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
