"""Measures what 8 bits lose: the shipped model's tasks on new synthetic patients, embedded by ONNX
Runtime in float32 and in int8.

`tools/onnx_check.sh int8` runs it. Retrieval and zero-shot classification are scored by
`medst eval --embeddings`; grounding, which needs a model there, is scored here: the mean over
phrases and their boxes of the AUROC of pixels, and how often the hottest pixel is in the box.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
from onnx_graphs import Graphs, medst

SUBJECTS = 200

program, folder = str(Path(sys.argv[1]).resolve()), Path(sys.argv[2])


def main() -> None:
    medst(program, "phantom", "cohort", "--subjects", SUBJECTS, "--seed", 28, cwd=folder)
    medst(program, "prepare", "table", "cohort/studies.csv", "--image-size", 72, "--out", "corpus", cwd=folder)
    studies = parquet.read_table(folder / "corpus/studies.parquet").to_pylist()
    pictures = np.concatenate([np.load(file) for file in sorted((folder / "corpus").glob("images-*.npy"))])
    medst(program, "eval", "all", "--corpus", "corpus", "--list-texts", "texts.txt", cwd=folder)
    texts = (folder / "texts.txt").read_text().splitlines()
    regions = boxes_of(folder / "cohort/studies.csv")
    # The folder of graphs of each column, and how many inputs are computed at once.
    columns = {"float32": ("float32", 32), "int8, single images": ("int8", 1), "int8, batches of 32": ("int8", 32)}
    medst(program, "convert", "phantom", "--to", "onnx", "--out", "float32", cwd=folder)
    medst(program, "convert", "phantom", "--to", "onnx", "--int8", "--out", "int8", cwd=folder)
    for file in sorted((folder / "float32").glob("*.onnx")):
        print(f"{file.name}: {file.stat().st_size:,} bytes, int8 {(folder / 'int8' / file.name).stat().st_size:,}")

    exact = None
    arguments = []
    for number, (name, (exported, batch)) in enumerate(columns.items()):
        graphs = Graphs(folder / exported)
        images, patches = embed_studies(graphs, studies, pictures, batch)
        reports = embed_texts(graphs, [study["report"] or "" for study in studies], batch)
        prompts = embed_texts(graphs, texts, batch)
        for what, values in (("images", images), ("reports", reports), ("texts", prompts)):
            np.save(folder / f"{number}-{what}.npy", values)
        arguments += ["--embeddings", f"{number}-images.npy", "--report-embeddings", f"{number}-reports.npy", "--text-embeddings", f"{number}-texts.npy"]
        if exact is None:
            exact = images, reports
            medst(program, "embed", "corpus", "--model", "phantom", "--out", "ours.npy", cwd=folder)
            print(f"float32 against medst embed: {np.abs(np.load(folder / 'ours.npy') - images).max():.1e}")
        cosines = [(own * other).sum(1) for own, other in zip((images, reports), exact, strict=True)]
        least = " ".join(f"{what} mean {own.mean():.5f} least {own.min():.5f};" for what, own in zip(("images", "reports"), cosines, strict=True))
        print(f"{name}: cosine with float32: {least} grounding {ground(graphs, patches, studies, regions)}", flush=True)
    out = ["--split", "all", "--list-texts", "texts.txt", "--replicates", 200, "--out", "board"]
    medst(program, "eval", "all", "--corpus", "corpus", *arguments, *out, cwd=folder)
    for number, name in enumerate(columns):
        results = json.loads((folder / f"board/{number + 1}/results.json").read_text())
        print(name)
        show(results)


def embed_studies(graphs: Graphs, studies: list[dict], pictures: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings ``[n, D]`` and frontal patches ``[n, P, D]`` in the order of the studies."""
    images, patches = [None] * len(studies), [None] * len(studies)
    for both in (False, True):
        own = [number for number, study in enumerate(studies) if (study["lateral"] is not None) == both]
        for start in range(0, len(own), batch):
            rows = own[start : start + batch]
            views = [np.stack([graphs.square(pictures[studies[row][view]]) for row in rows]) for view in ("frontal", "lateral")[: 1 + both]]
            found = graphs.images(*views)
            for place, row in enumerate(rows):
                images[row], patches[row] = found["image_embedding"][place], found["frontal_patches"][place]
    return np.stack(images), np.stack(patches)


def embed_texts(graphs: Graphs, texts: list[str], batch: int) -> np.ndarray:
    return np.concatenate([graphs.texts(texts[start : start + batch])["text_embedding"] for start in range(0, len(texts), batch)])


def boxes_of(table: Path) -> dict[str, list[tuple[str, list[float]]]]:
    """For each study its phrases with a box in fractions of the stored square."""
    found: dict[str, list] = {}
    for row in csv.DictReader(table.open()):
        if not row["boxes"] or row["view"] == "LATERAL":
            continue
        told = json.loads(row["boxes"])
        longest = max(told["width"], told["height"])
        left, top = (longest - told["width"]) / 2, (longest - told["height"]) / 2
        for region in told["regions"]:
            box = [(region["left"] + left) / longest, (region["top"] + top) / longest, (region["right"] + left) / longest, (region["bottom"] + top) / longest]
            found.setdefault(row["study_id"], []).append((region["phrase"], box))
    return found


def ground(graphs: Graphs, patches: np.ndarray, studies: list[dict], regions: dict[str, list]) -> str:
    """Figures of heat maps against boxes."""
    told = graphs.told["images"]
    stored, size = told["resize_longest_side"], told["size"]
    start = (stored - size) / 2
    phrases = sorted({phrase for own in regions.values() for phrase, _ in own})
    vectors = dict(zip(phrases, (graphs.texts([phrase])["phrase"][0] for phrase in phrases), strict=True))
    areas, hits = [], []
    at = np.arange(size) + 0.5
    for row, study in enumerate(studies):
        for phrase, box in regions.get(study["study_id"], []):
            left, top, right, bottom = (edge * stored - start for edge in box)
            inside = ((at > top) & (at < bottom))[:, None] & ((at > left) & (at < right))[None]
            if not inside.any() or inside.all():
                continue
            heat = graphs.run("ground.onnx", patches=patches[[row]], phrases=vectors[phrase][None])["heat"][0, 0]
            order = heat.ravel().argsort()
            ranks = np.empty(order.size)
            ranks[order] = np.arange(1, order.size + 1)
            many = inside.sum()
            areas.append((ranks[inside.ravel()].sum() - many * (many + 1) / 2) / (many * (order.size - many)))
            hits.append(inside.ravel()[heat.argmax()])
    return f"{len(areas)} boxes: AUROC of pixels {np.mean(areas):.4f}, hottest pixel inside {100 * np.mean(hits):.1f} %"


def show(results: dict) -> None:
    """Prints the main figures of zero-shot classification and retrieval."""
    for task in results["corpora"][0]["tasks"]:
        for figure in task["figures"]:
            if figure["name"] in ("recall@1", "recall@5") or (figure["group"], figure["name"]) == ("mean", "AUROC"):
                print(f"  {task['task']:14} {figure['group']:30} {figure['name']:10} {figure['value']:.4f}")


main()
