"""Compares the results of exported graphs with medst's; `tools/onnx_check.sh` runs it."""

import csv
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import openvino
from onnx_graphs import Graphs, medst

#: The largest allowed difference of two values in float32.
TOLERANCE = 1e-4
#: The smallest allowed cosine of an embedding in 8 bits with that in 32. (After a few steps of
#: training embeddings still resemble each other; `tools/onnx_check.sh int8` measures the loss on
#: tasks.)
SIMILAR = 0.97
TEXTS = [
    "there is a large consolidation in the right lung",
    "no pneumothorax is seen. the heart is normal in size. there is no focal consolidation",
    "worsening bilateral pleural effusion with cardiomegaly " * 8,
    "mild pulmonary edema has improved since the prior study",
]

program, folder = str(Path(sys.argv[1]).resolve()), Path(sys.argv[2])
failures = 0


def report(what: str, worst: float, limit: float = TOLERANCE, *, above: bool = False) -> None:
    """Prints a figure against its limit."""
    global failures
    good = worst >= limit if above else worst <= limit
    failures += not good
    print(f"  {what:62} {worst:10.5g}{'' if good else f'  LIMIT {limit:g}'}", flush=True)


def worst(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours.astype(np.float64) - theirs).max())


def check(name: str, model: str, cohort: Path, options: list[str]) -> None:
    """Exports a model and compares all its outputs for the studies of a cohort."""
    print(f"{name}: medst convert {model} --to onnx")
    exported = folder / f"{name}-onnx"
    medst(program, "convert", model, "--to", "onnx", "--out", exported, *options, cwd=folder)
    medst(program, "convert", model, "--to", "onnx", "--int8", "--out", f"{exported}-int8", *options, cwd=folder)
    if options:
        medst(program, "convert", model, "--out", f"{name}-model", *options, cwd=folder)
        model = f"{name}-model"
    graphs, eight = Graphs(exported), Graphs(Path(f"{exported}-int8"))
    for own in (graphs, eight):
        for file in sorted(own.folder.glob("*.onnx")):
            onnx.checker.check_model(onnx.load(file), full_check=True)
    print(f"  onnx.checker accepts {len(graphs.told['graphs'])} graphs in float32, {len(eight.told['graphs'])} in int8")

    # Three studies with both views, five without; texts of all lengths.
    rows = list(csv.DictReader((cohort / "studies.csv").open()))
    views = {row["study_id"]: {} for row in rows}
    for row in rows:
        views[row["study_id"]]["lateral" if row["view"] == "LATERAL" else "frontal"] = cohort / row["image"]
    pairs = [own for own in views.values() if len(own) == 2][:3]
    singles = [{"frontal": own["frontal"]} for own in list(views.values())[:5]]
    table = folder / f"{name}.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["study_id", "frontal", "lateral", "text"])
        for number, own in enumerate(pairs + singles):
            text = TEXTS[number % len(TEXTS)]
            writer.writerow([f"s{number}", own["frontal"], own.get("lateral", ""), text])
    medst(program, "embed", table, "--model", model, "--out", f"{name}.npy", "--features", cwd=folder)
    embeddings, features, reports = (np.load(folder / f"{name}{kind}.npy") for kind in ("", ".features", ".reports"))
    pictures = [{view: graphs.picture(path) for view, path in own.items()} for own in pairs + singles]

    head = graphs.told["head"]
    predicted = {}
    if head:
        found = json.loads(medst(program, "--json", "predict", table, "--model", model, cwd=folder))
        assert found["names"] == head["outputs"], (found["names"], head["outputs"])
        predicted = {own["study"]: own for own in found["studies"]}

    for first, last, lateral in ((0, 1, True), (0, 3, True), (3, 4, False), (3, 6, False)):
        inputs = {"frontal": np.stack([own["frontal"] for own in pictures[first:last]])}
        if lateral:
            inputs["lateral"] = np.stack([own["lateral"] for own in pictures[first:last]])
        file = "image_lateral.onnx" if lateral else "image.onnx"
        found = graphs.run(file, **inputs)
        what = f"{file}, batch of {last - first}"
        report(f"{what}: embeddings", worst(found["image_embedding"], embeddings[first:last]))
        report(f"{what}: features", worst(found["image_feature"], features[first:last]))
        if head and head["task"] != "change":
            theirs = [predicted[f"s{number}"]["probabilities"] for number in range(first, last)]
            report(f"{what}: probabilities of the head", worst(found["predict"], np.array(theirs)))
        in_openvino(exported / file, inputs, found, what)
        small = eight.run(file, **inputs)["image_embedding"]
        report(f"{what}: cosine of int8", float((small * found["image_embedding"]).sum(1).min()), SIMILAR, above=True)
    if head and head["task"] == "change":
        # Each study but the first, compared with the one before it.
        pairs_of = [(int(own["previous"][1:]), int(own["study"][1:])) for own in predicted.values()]
        assert len(pairs_of) == len(features) - 1, pairs_of
        previous, current = (features[[pair[place] for pair in pairs_of]] for place in (0, 1))
        inputs = {"current": current, "previous": previous}
        found = graphs.run("change.onnx", **inputs)
        theirs = [own["probabilities"] for own in predicted.values()]
        report(f"change.onnx, batch of {len(theirs)}: probabilities of the head", worst(found["predict"], np.array(theirs)))
        in_openvino(exported / "change.onnx", inputs, found, "change.onnx")
    for count in (1, 3, 4):
        texts = TEXTS[4 - count :]
        found = graphs.texts(texts)
        report(f"text.onnx, batch of {count}: embeddings", worst(found["text_embedding"], reports[4 - count : 4]))
        small = eight.texts(texts)["text_embedding"]
        report(f"text.onnx, batch of {count}: cosine of int8", float((small * found["text_embedding"]).sum(1).min()), SIMILAR, above=True)
    ids = np.array([graphs.cut(TEXTS[0])])
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    in_openvino(exported / "text.onnx", inputs, graphs.run("text.onnx", **inputs), "text.onnx")

    # Phrases in both views; the last fills the model's window.
    window = graphs.told["texts"]["max_tokens"]
    longest = "right"
    while len(graphs.cut(longest)) < window:
        longest += " lung"
    phrases = ["right consolidation", "no pneumothorax seen", longest]
    both = {view: pictures[0][view][None] for view in ("frontal", "lateral")}
    patches, said = graphs.images(**both), graphs.texts(phrases)
    views_of = ["frontal", "lateral"]
    arguments = [word for phrase in phrases for word in ("--phrase", phrase)]
    told = json.loads(
        medst(program, "--json", "ground", pairs[0]["frontal"], "--lateral", pairs[0]["lateral"], "--model", model, "--matrices", *arguments, cwd=folder)
    )
    for number, grounded in enumerate(told["phrases"] if isinstance(told, dict) else told):
        own, heats = grounded["matrices"], []
        words = said["words"][number][said["word_exists"][number]]
        assert len(words) == len(own["words"]), (len(words), own["words"])
        for view in views_of:
            inputs = {"patches": patches[f"{view}_patches"], "phrases": np.concatenate([words, said["phrase"][[number]]])}
            found = graphs.run("ground.onnx", **inputs)
            heats.append(found)
            if number == 0:
                in_openvino(exported / "ground.onnx", inputs, found, f"ground.onnx, {view}")
        cosines = np.concatenate([found["similarity"][0, :-1].reshape(len(words), -1) for found in heats], 1)
        what = f"ground.onnx, {len(words)} words"
        report(f"{what}: cosines of words and patches", worst(cosines, np.array(own["similarity"])))
        extents = [[heat.min(), heat.mean(), heat.max()] for heat in (found["heat"][0, -1] for found in heats)]
        report(f"{what}: lowest, mean and highest heat", worst(np.array(extents), np.array([view["heat"] for view in grounded["views"]])))


def in_openvino(path: Path, inputs: dict[str, np.ndarray], expected: dict[str, np.ndarray], what: str) -> None:
    """The same graph in OpenVINO."""
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    found = compiled(inputs)
    far = max(worst(np.asarray(found[name], np.float32), value.astype(np.float32)) for name, value in expected.items())
    report(f"{what}: OpenVINO against ONNX Runtime", far)


def check_the_page(cohort: Path) -> None:
    """Runs the Python of docs/onnx.md."""
    page = Path(__file__).parent.parent / "docs/onnx.md"
    code = re.search(r"```python\n(.*?)```", page.read_text(), re.DOTALL).group(1)
    own = folder / "page"
    own.mkdir()
    medst(program, "convert", "phantom", "--to", "onnx", "--out", own / "graphs")
    scan = sorted(cohort.glob("images/*/*_frontal.png"))[0]
    (own / "scan.png").write_bytes(scan.read_bytes())
    (own / "page.py").write_text(code)
    names: dict[str, np.ndarray] = {}
    os.chdir(own)
    exec(compile(code, "docs/onnx.md", "exec"), names)  # noqa: S102
    medst(program, "embed", "scan.png", "--model", "phantom", "--out", "scan.npy")
    ours = np.load("scan.npy")
    print("docs/onnx.md")
    report("cosine of its image embedding with medst embed's", float((names["image"][0] * ours[0]).sum()), 0.999, above=True)


for size in (72, 128):
    medst(program, "phantom", folder / f"cohort-{size}", "--subjects", 12, "--size", size)
medst(program, "phantom", folder / "cohort", "--subjects", 1)
check("phantom", "phantom", folder / "cohort-72", [])
# Fine-tuned models, with their heads.
medst(program, "prepare", "table", folder / "cohort-72/studies.csv", "--image-size", 72, "--out", folder / "corpus-72")
tuning = Path(__file__).resolve().parent.parent / "configs/finetune.toml"
for task in ("findings", "change"):
    settings = ["data.corpus=corpus-72", f"data.task={task}", f"train.output={task}", "train.epochs=1", "train.batch=4", "optimizer.lr=0.01"]
    medst(program, "finetune", tuning, *(word for setting in settings for word in ("--set", setting)), cwd=folder)
    check(task, task, folder / "cohort-72", [])
medst(program, "prepare", "table", folder / "cohort-128/studies.csv", "--image-size", 128, "--out", folder / "corpus")
settings = ["data.corpus=corpus", "train.output=tiny", "train.max_steps=6", "train.sequences_per_batch=4", "optimizer.warmup_fraction=0.5"]
config = Path(__file__).resolve().parent.parent / "configs/tiny.toml"
medst(program, "pretrain", config, *(word for setting in settings for word in ("--set", setting)), cwd=folder)
check("tiny", "tiny", folder / "cohort-128", [])
# The same weights computed another way.
variant = ['model.semantics="reference"', 'model.text.positions="zero"', 'model.lateral="frontal"', "model.text.max_tokens=24"]
check("variant", "tiny", folder / "cohort-128", [word for setting in variant for word in ("--set", setting)])
check_the_page(folder / "cohort")
print(f"{failures} of these differ too much" if failures else "all agree")
sys.exit(1 if failures else 0)
