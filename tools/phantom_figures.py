"""The figures of the shipped model beside chance and what was asked for, as a Markdown table.

    python3 tools/phantom_figures.py OUT     # a folder of runs/phantom_model.sh
"""

import json
import pathlib
import sys

# Evaluation, task, group, figure; how it is called; what was asked for.
ROWS = [
    ("probe", "linear-probe", "100 %", "AUROC", "linear probe, AUROC, mean of seven findings", 0.95),
    ("cohort", "zero-shot", "mean", "AUROC", "zero-shot, AUROC, mean of seven findings", 0.92),
    ("cohort", "grounding", "all phrases", "AUROC of pixels", "grounding, AUROC of pixels", 0.85),
    ("cohort", "grounding", "all phrases", "contrast-to-noise ratio, signed", "grounding, signed contrast-to-noise", 1.0),
    ("cohort", "retrieval", "report to image", "recall@5", "report to image, recall@5", 0.30),
    ("pairs", "temporal-image", "mean", "macro accuracy", "change between two images, macro accuracy", 0.65),
    ("pairs", "temporal-image", "mean", "reversal consistency", "… exchanged pairs swap", 0.60),
    ("pairs", "temporal-image", "mean", "unchanged called stable", "… an image beside itself is stable", 0.90),
    ("pairs", "progression", "mean", "AUROC, worsening against improving", "progression by text, AUROC", 0.85),
    ("pairs", "temporal-sentence", "all", "AUROC", "sentence pairs, AUROC", 0.85),
    ("cohort", "sequence-order", "image to report", "forward mapping accuracy", "order of visits, forward mapping accuracy", 0.50),
    ("cohort", "sequence-order", "image to report", "right order preferred to a shuffled one", "… right order preferred", 0.85),
]


def figure(out, evaluation, task, group, name):
    corpora = json.load(open(out / f"figures-{evaluation}" / "results.json"))["corpora"]
    tasks = [found for found in corpora[0]["tasks"] if found["task"] == task]
    return next(f for f in tasks[0]["figures"] if (f["group"], f["name"]) == (group, name))


def shown(value):
    return "–" if value is None else f"{value:.3f}"


def main():
    out = pathlib.Path(sys.argv[1])
    print("| task | figure (95 % interval) | chance | asked for |")
    print("|---|---|---|---|")
    for evaluation, task, group, name, label, asked in ROWS:
        found = figure(out, evaluation, task, group, name)
        interval = found.get("interval")
        between = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
        print(f"| {label} | {shown(found['value'])}{between} | {shown(found.get('chance'))} | ≥ {asked:.2f} |")


main()
