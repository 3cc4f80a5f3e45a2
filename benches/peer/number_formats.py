"""Embeds radiographs in several number formats, with medst and with what else people use for it on
a CPU, in turns.

    number_formats.py MEDST MODEL GRAPHS GRAPHS8 CORPUS TABLE ROUNDS

MODEL is a full-size model, GRAPHS and GRAPHS8 are what `medst convert MODEL --to onnx [--int8]`
wrote, CORPUS is what `medst prepare table TABLE` wrote, CORPUS-start the same of the first 16
studies. medst embeds from disk, through its command; the time for CORPUS-start is subtracted. The
others get the same pictures as arrays in memory, in batches of 16: timm's ViT-B/16 in PyTorch
(float32, bfloat16), ONNX Runtime (float32, medst's int8 graph, and `quantize_dynamic` per channel),
OpenVINO (float32, bfloat16, medst's int8 graph).

Prints one JSON object: for each program pictures per second in every round, the median, and the
smallest cosine of its embeddings to its own in float32.
"""

import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from table import processor

BATCH = 16


def main(medst, model, graphs, graphs8, corpus, table, rounds):
    pictures = read(table)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        programs = {**ours(medst, model, corpus, folder), **timm_vit(), **onnx(graphs, graphs8, folder)}
        programs |= openvino(graphs, graphs8)
        rates, vectors = {name: [] for name in programs}, {}
        for _ in range(rounds):
            for name, embed in programs.items():
                seconds, vectors[name] = embed(pictures)
                rates[name].append(round(len(pictures) / seconds, 3))
                print(name, rates[name][-1], file=sys.stderr)
    results = {}
    for name, own in rates.items():
        exact = vectors[next(other for other in vectors if other.split()[0] == name.split()[0])]
        results[name] = {
            "per_s": own,
            "median": statistics.median(own),
            "smallest_cosine": round(float((unit(vectors[name]) * unit(exact)).sum(1).min()), 6),
        }
    print(json.dumps({"processor": processor(), "pictures": len(pictures), "programs": results}, indent=1))


def read(table):
    """The frontal pictures of a table, cropped like medst's, `[n, 224, 224]` grey values."""
    pictures = []
    for row in csv.DictReader(table.open()):
        picture = Image.open(table.parent / row["image"]).convert("L")
        picture = picture.resize([max(1, side * 256 // max(picture.size)) for side in picture.size], Image.Resampling.BOX)
        square = Image.new("L", (256, 256))
        square.paste(picture, ((256 - picture.width) // 2, (256 - picture.height) // 2))
        pictures.append(np.asarray(square)[16:240, 16:240])
    return np.stack(pictures)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def batches(pictures):
    return [pictures[n : n + BATCH] for n in range(0, len(pictures), BATCH)]


def timed(embed):
    """A program that embeds batches; one batch is not counted."""

    def run(pictures):
        embed(pictures[:BATCH])
        start = time.perf_counter()
        vectors = np.concatenate([embed(batch) for batch in batches(pictures)])
        return time.perf_counter() - start, vectors

    return run


def ours(medst, model, corpus, folder):
    def command(precision):
        def run(pictures):
            def seconds(given):
                start = time.perf_counter()
                embed = [medst, "-q", "embed", given, "--model", model, "--precision", precision, "--out", folder / "x.npy"]
                subprocess.run([str(word) for word in embed], check=True, stdout=subprocess.DEVNULL)
                return time.perf_counter() - start

            # The first run may read the model from a disk: the shorter of two is the start.
            start = min(seconds(corpus.with_name(corpus.name + "-start")) for _ in range(2))
            whole = min(seconds(corpus) for _ in range(2))
            vectors = np.load(folder / "x.npy")
            return (whole - start) * len(pictures) / (len(pictures) - BATCH), vectors

        return run

    return {f"medst {precision}": command(precision) for precision in ("float32", "bfloat16", "int8")}


def timm_vit():
    import timm
    import torch

    torch.manual_seed(0)
    vit = timm.create_model("vit_base_patch16_224", num_classes=0).eval()
    half = timm.create_model("vit_base_patch16_224", num_classes=0).eval()
    half.load_state_dict(vit.state_dict())
    half = half.bfloat16()

    def embed(model, kind):
        def run(pictures):
            with torch.inference_mode():
                x = (torch.from_numpy(pictures).to(kind)[:, None] / 255 - 0.5) / 0.5
                return model(x.expand(-1, 3, -1, -1)).float().numpy()

        return run

    return {"timm float32": timed(embed(vit, torch.float32)), "timm bfloat16": timed(embed(half, torch.bfloat16))}


def onnx(graphs, graphs8, folder):
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(graphs / "image.onnx", folder / "dynamic.onnx", per_channel=True, weight_type=QuantType.QInt8)
    paths = {"float32": graphs / "image.onnx", "int8": graphs8 / "image.onnx", "int8 quantize_dynamic": folder / "dynamic.onnx"}

    def embed(path):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda pictures: session.run(["image_embedding"], {"frontal": pictures})[0]

    return {f"onnxruntime {name}": timed(embed(path)) for name, path in paths.items()}


def openvino(graphs, graphs8):
    import openvino

    def embed(path, hint):
        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": hint})
        return lambda pictures: np.array(compiled({"frontal": pictures})["image_embedding"])

    ways = {"float32": (graphs, "f32"), "bfloat16": (graphs, "bf16"), "int8": (graphs8, "f32")}
    return {f"openvino {name}": timed(embed(folder / "image.onnx", hint)) for name, (folder, hint) in ways.items()}


if __name__ == "__main__":
    paths = [Path(word).resolve() for word in sys.argv[1:7]]
    main(*paths, int(sys.argv[7]))
