"""The figures of the shipped model next to chance and bounds, as a Markdown table.

    python3 tools/phantom_figures.py OUT     # a folder of runs/phantom_model.sh
"""

import json
import pathlib
import sys

# Evaluation, task, group, figure; its name in the table; the target; the bound, where one is known (runs/bounds.sh; docs/phantom.md).
ROWS = [
    ("probe", "linear-probe", "100 %", "AUROC", "linear probe, AUROC, mean of seven findings", 0.95, 0.989),
    ("cohort", "zero-shot", "mean", "AUROC", "zero-shot, AUROC, mean of seven findings", 0.92, 0.989),
    ("cohort", "grounding", "all phrases", "AUROC of pixels", "grounding, AUROC of pixels", 0.85, 0.997),
    ("cohort", "grounding", "all phrases", "contrast-to-noise ratio, signed", "grounding, signed contrast-to-noise", 1.0, None),
    ("few", "retrieval", "report to image", "recall@5", "report to image, recall@5, 300 patients", 0.30, 0.495),
    ("cohort", "retrieval", "report to image", "recall@5", "… 1,000 patients", None, None),
    ("pairs", "temporal-image", "mean", "macro accuracy", "change between two images, macro accuracy", 0.65, 0.878),
    ("pairs", "temporal-image", "mean", "reversal consistency", "… exchanged pairs swap", 0.60, None),
    ("pairs", "temporal-image", "mean", "unchanged called stable", "… an image compared with itself is stable", 0.90, None),
    ("pairs", "progression", "mean", "AUROC, worsening against improving", "progression by text, AUROC", 0.85, None),
    ("pairs", "temporal-sentence", "all", "AUROC", "sentence pairs, AUROC", 0.85, 1.0),
    ("cohort", "sequence-order", "image to report", "forward mapping accuracy", "order of visits, forward mapping accuracy", 0.50, 0.575),
    ("cohort", "sequence-order", "image to report", "right order preferred to a shuffled one", "… right order preferred", 0.85, 0.794),
]


def figure(out, evaluation, task, group, name):
    corpora = json.load(open(out / f"figures-{evaluation}" / "results.json"))["corpora"]
    tasks = [found for found in corpora[0]["tasks"] if found["task"] == task]
    return next(f for f in tasks[0]["figures"] if (f["group"], f["name"]) == (group, name))


def shown(value):
    return "–" if value is None else f"{value:.3f}"

NOTE = """
Patients are synthetic, from seeds that were not used for any choice. The model was trained with labels, boxes and courses of other patients
(`configs/phantom.toml`), and with statements made from them: "zero-shot" means that the model was not trained on the sentences of the prompts,
not that the labels were unseen. Classifiers of change are trained within the benchmark, by folds. Targets were set before training. Bounds are
those of supervised training and of a reader who knows the truth of every image (`runs/bounds.sh`, [phantom.md](../../docs/phantom.md#bounds)).
"""


def main():
    out = pathlib.Path(sys.argv[1])
    print("| task | rows | figure (95 % interval) | chance | target | bound |")
    print("|---|---|---|---|---|---|")
    for evaluation, task, group, name, label, target, bound in ROWS:
        found = figure(out, evaluation, task, group, name)
        interval = found.get("interval")
        between = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
        aim = "–" if target is None else f"≥ {target:.2f}"
        limit = "–" if bound is None else f"{bound:.3f}"
        print(f"| {label} | {found['rows']} | {shown(found['value'])}{between} | {shown(found.get('chance'))} | {aim} | {limit} |")
    print(NOTE.rstrip())


main()
