"""The figures of the demo's models side by side, as a Markdown table.

    python3 tools/demo_table.py DEMO            # the folder of tools/demo.sh
    python3 tools/demo_table.py DEMO --check    # fails where the trained model is not clearly better than an untrained one
"""

import json
import pathlib
import sys

# Task, group, figure; its name in the table; by how much a trained model must beat an untrained one; the bound, where one is known
# (models/phantom/figures.md).
ROWS = [
    ("zero-shot", "mean", "AUROC", "zero-shot, AUROC", 0.15, 0.98),
    ("grounding", "all phrases", "AUROC of pixels", "grounding, AUROC of pixels", 0.15, None),
    ("retrieval", "report to image", "recall@5", "report to image, recall@5", 0.10, None),
    ("retrieval", "same subject, another time", "recall@1", "same patient at another time, recall@1", 0.10, None),
    ("sequence-order", "image to report", "forward mapping accuracy", "order of visits, forward mapping accuracy", 0.03, 0.44),
    ("progression", "mean", "AUROC, worsening against improving", "worsening against improving by text, AUROC", 0.05, None),
    ("temporal-sentence", "all", "AUROC", "sentences of one course against others, AUROC", 0.05, 1.0),
]
MODELS = ["untrained", "shipped", "trained"]


def figures(path):
    tasks = [task for corpus in json.load(open(path))["corpora"] for task in corpus["tasks"]]
    return {(task["task"], f["group"], f["name"]): f for task in tasks for f in task["figures"]}


def main():
    demo, check = pathlib.Path(sys.argv[1]), "--check" in sys.argv
    paths = {model: demo / f"report-{model}" / "results.json" for model in MODELS}
    found = {model: figures(path) for model, path in paths.items() if path.exists()}
    print("| on patients unseen in training | " + " | ".join(found) + " | chance | bound |")
    print("|---|" + "---|" * (len(found) + 2))
    failed = []
    for task, group, name, label, margin, bound in ROWS:
        own = {model: figures.get((task, group, name), {}) for model, figures in found.items()}
        values = {model: f.get("value") for model, f in own.items()}
        chance = next((f.get("chance") for f in own.values()), None)
        shown = ["–" if value is None else f"{value:.3f}" for value in [*values.values(), chance, bound]]
        print(f"| {label} | " + " | ".join(shown) + " |")
        before, after = values.get("untrained"), values.get("trained")
        if margin is not None and (before is None or after is None or after < before + margin):
            failed.append(f"{label}: untrained {before}, trained {after}, asked for at least {margin:+}")
    if check and failed:
        sys.exit("training does not show:\n  " + "\n  ".join(failed))


main()
