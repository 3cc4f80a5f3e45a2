"""Makes the table of `make bench` from the output of the programs.

table.py WORK OUT [EARLIER]: reads the results in WORK, writes OUT, prints the table.
"""

import json
import os
import sys
from pathlib import Path
from statistics import median


def main(work, out, earlier):
    lines = lambda name: [json.loads(line) for line in (work / name).read_text().splitlines()]
    ours, peer = lines("ours.jsonl"), lines("peer.jsonl")
    # The first step of a process allocates memory, so it is not a sample.
    rates = lambda runs: [run["studies"] / second for run in runs for second in run["seconds"][1:]]
    best = lines("best.jsonl")
    # The best that the machine's rate of matrix products, measured along with the steps, allows.
    floor = median(run["matrix_rate"] / run["operations"] * run["studies"] for run in ours)
    gib = lambda runs: [run["peak_bytes"] / 2**30 for run in runs]
    compiled = []
    if (work / "compiled.jsonl").exists():
        compiled.append(row("the same against it with torch.compile", "studies/s", rates(ours), rates(lines("compiled.jsonl")), ">= 1", floor))
    rows = [
        row("pre-training step, full size, float32", "studies/s", rates(ours), rates(peer), ">= 2", floor),
        row("the same against PyTorch without waste", "studies/s", rates(ours), rates(best), ">= 1", floor),
        *compiled,
        row("its peak memory", "GiB", gib(ours), gib(peer), "<= 0.55"),
        row("the same against PyTorch without waste", "GiB", gib(ours), gib(best), "-"),
    ]
    loader = json.loads((work / "loader.json").read_text())["studies_per_second"]
    rows.append(row("loading training batches, one thread", "studies/s", loader, None, ">= 2000 studies/s"))
    jpeg, opencv = lines("jpeg.jsonl"), lines("peer_jpeg.jsonl")
    each = lambda runs, key: [run[key] for run in runs]
    rows.append(row("3056x2544 JPEG to the corpus, one core", "images/s", each(jpeg, "fast_per_s"), each(opencv, "per_s"), ">= 1.8"))
    rows.append(row("the same, every pixel decoded", "images/s", each(jpeg, "exact_per_s"), each(opencv, "per_s"), "-"))
    rows.append(row("their largest difference", "grey levels", each(jpeg, "largest_difference"), None, "<= 2"))
    prepare = json.loads((work / "prepare.json").read_text())
    rows.append(row("prepare, all cores", "images/s", [prepare["per_s"]], None, "-"))
    rows.append(row("share of the cores it uses", "", [prepare["cores_used"]], None, ">= 0.95"))
    rows.append(row("its peak memory", "GiB", [prepare["peak_gib"]], None, "flat"))
    embed = json.loads((work / "embed.json").read_text())
    for way, name in [("large", "embed 3056x2544 JPEG, one view"), ("two", "embed 256x256 PNG, two views"), ("corpus", "embed a corpus; the peer 256x256 PNG")]:
        rows.append(row(name, "images/s", embed[way]["ours"], embed[way]["peer"], ">= 1.3"))
    rows.append(row("embed one JPEG, from start to end", "s", [embed["start_s"]], None, "< 1 + weights"))
    for which, name in [("small", "fine-tuning the shipped model, one core"), ("full", "fine-tuning at full size")]:
        tuned = json.loads((work / f"finetune-{which}.json").read_text())
        rows.append(row(name, "studies/s", tuned["studies_per_second, medst"], tuned["studies_per_second, torch"], ">= 1"))
        if which == "small":
            rows.append(row("its AUROC on test patients", "", tuned["test, medst"], tuned["test, torch"], "alike"))
    metadata = json.loads((work / "metadata.json").read_text())
    rows.append(row("tables and reports of 400,000 studies", "s", [metadata["seconds"]], None, "< 60"))
    rows.append(row("their peak memory", "GiB", [metadata["peak_gib"]], None, "< 4"))
    evaluation = json.loads((work / "evaluation.json").read_text())
    rows.append(row("1,326 pairs: SVM, folds, bootstrap", "s", [evaluation["temporal_image_strict_s"]], None, "seconds"))
    rows.append(row("retrieval, 100,000 x 100,000 of 512", "s", [evaluation["retrieval_s"]], None, "-"))
    rows.append(row("its speed", "GFlop/s", [evaluation["retrieval_gflops"]], None, "-"))
    rows.append(row("its peak memory over the vectors", "MiB", [evaluation["mib_peak"] - evaluation["mib_before"]], None, "no matrix"))
    before = {r["name"]: r["ours"] for r in json.loads(Path(earlier).read_text())["rows"]} if earlier else {}
    machine = f"{processor()}, {os.cpu_count()} cores"
    print(machine)
    print(f"{'what':42} {'unit':10} {'ours':>9} {'peer':>9} {'ratio':>7} {'floor':>9} {'share':>6}  asked for{'      before' if before else ''}")
    for r in rows:
        peer_text = f"{r['peer']:9.3f}" if r["peer"] is not None else f"{'-':>9}"
        ratio = f"{r['ratio']:7.2f}" if r["ratio"] is not None else f"{'-':>7}"
        floor_text = f"{r['floor']:9.3f} {r['floor_share']:6.2f}" if r["floor"] else f"{'-':>9} {'-':>6}"
        was = f"{before[r['name']]:12.3f}" if r["name"] in before else ""
        print(f"{r['name']:42} {r['unit']:10} {r['ours']:9.3f} {peer_text} {ratio} {floor_text}  {r.pop('goal')}{was}")
    out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


def processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))


def row(name, unit, ours, peer, goal, floor=None):
    ratio = median(ours) / median(peer) if peer else None
    return {
        "name": name, "unit": unit, "ours": median(ours), "peer": median(peer) if peer else None, "ratio": ratio,
        "floor": floor, "floor_share": median(ours) / floor if floor else None, "samples": {"ours": ours, "peer": peer or []}, "goal": goal,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
