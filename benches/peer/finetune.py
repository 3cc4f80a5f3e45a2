"""Fine-tuning in plain PyTorch, compared with `medst finetune`: the same data, weights, schedule
and steps.

    finetune.py MEDST MODEL CORPUS [--epochs 5] [--seeds 3] [--batch 32] [--threads 1]
                [--labels edema,pneumonia]

MODEL is a folder with config.json and model.safetensors, CORPUS a corpus whose labels are findings.

1. Losses: both train on all training studies of CORPUS in one batch, without crops where the corpus
   has the model's size. Order and crops then decide nothing, and the losses of all steps must
   agree; the largest difference is printed.
2. Figures: both train on shuffled batches, with several seeds, in turns; test AUROC of the best
   epoch on the validation split, and studies/s.

Prints one JSON object.
"""

import argparse
import json
import math
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

WARMUP, DECAY, RATE, LAYER_DECAY = 0.1, 0.05, 1e-3, 0.75


class Data:
    def __init__(self, corpus, labels):
        table = parquet.read_table(corpus / "studies.parquet").to_pylist()
        self.pictures = np.concatenate([np.load(path) for path in sorted(corpus.glob("images-*.npy"))])
        self.rows = {split: [own for own in table if own["split"] == split] for split in ("train", "validate", "test")}
        told = [json.loads(own["labels"]) for own in table]
        self.labels = labels or sorted(name for name in told[0] if told[0][name] in ("0", "1"))

    def batch(self, rows, side, crops=None):
        stored = self.pictures.shape[1]

        def cut(index, view, n):
            top, left = ((stored - side) // 2,) * 2 if crops is None else crops[n][view]
            return self.pictures[index][top : top + side, left : left + side]

        frontal = np.stack([cut(own["frontal"], 0, n) for n, own in enumerate(rows)])
        paired = [n for n, own in enumerate(rows) if own["lateral"] is not None]
        lateral = np.stack([cut(rows[n]["lateral"], 1, n) for n in paired]) if paired else np.zeros((0, side, side), np.uint8)
        truth = [[float(json.loads(own["labels"])[name]) for name in self.labels] for own in rows]
        return torch.from_numpy(frontal), torch.from_numpy(lateral), torch.tensor(paired), torch.tensor(truth)


class Tuned(torch.nn.Module):
    """The image encoder by the names of its file, and a linear head initialised with zeros."""

    def __init__(self, folder, outputs):
        super().__init__()
        self.config = json.loads((folder / "config.json").read_text())["model"]["image"]
        tensors = load_file(folder / "model.safetensors")
        own = {name.removeprefix("image_encoder."): x.float() for name, x in tensors.items() if name.startswith("image_encoder.")}
        last = f"blocks.{self.config['num_layers'] - 1}.lateral_expert"
        self.names = [name for name in own if not name.startswith(last)] + ["head.weight", "head.bias"]
        own |= {"head.weight": torch.zeros(outputs, self.config["hidden_size"]), "head.bias": torch.zeros(outputs)}
        self.x = torch.nn.ParameterDict({name.replace(".", "/"): torch.nn.Parameter(own[name]) for name in self.names})

    def __getitem__(self, name):
        return self.x[name.replace(".", "/")]

    def linear(self, name, x):
        return F.linear(x, self[f"{name}.weight"], self[f"{name}.bias"])

    def normed(self, name, x):
        return F.layer_norm(x, x.shape[-1:], self[f"{name}.weight"], self[f"{name}.bias"], self.config["epsilon"])

    def convolved(self, name, x, stride):
        x = F.conv2d(x, self[f"{name}.weight"], self[f"{name}.bias"], stride, 1)
        return F.group_norm(x, 1, self[f"{name}.norm.weight"], self[f"{name}.norm.bias"], 1e-5)

    def embed(self, pixels):
        x = (pixels[:, None].float() / 255 - 0.5) / 0.5
        if self.config["stem"] == "patches":
            kernel, bias = self["patch_embedding.weight"].sum(1, keepdim=True), self["patch_embedding.bias"]
            return F.conv2d(x, kernel, bias, self.config["patch"]).flatten(2).transpose(1, 2)
        for n in range(int(math.log2(self.config["patch"]))):
            x = self.convolved(f"stem.{n}.halve", x, 2).relu()
            x = (x + self.convolved(f"stem.{n}.refine", x, 1)).relu()
        return self.linear("stem.projection", x.flatten(2).transpose(1, 2))

    def attend(self, block, x):
        heads = self.config["num_heads"]
        batch, tokens, width = x.shape
        q, k, v = self.linear(f"{block}.attention.qkv", x).view(batch, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        return self.linear(f"{block}.attention.projection", mixed)

    def expert(self, name, x):
        return x + self.linear(f"{name}.contract", F.gelu(self.linear(f"{name}.expand", self.normed(f"{name}.norm", x))))

    def forward(self, frontal, lateral, paired):
        count, depth = len(frontal), self.config["num_layers"]
        alone = torch.tensor([n for n in range(count) if n not in set(paired.tolist())], dtype=torch.long)
        order = torch.cat([paired.long(), alone])
        x = torch.cat([self["class_token"].expand(count, -1, -1), self.embed(frontal[order])], 1) + self["positions"]
        y = self.embed(lateral) + self["positions"][:, 1:] if len(lateral) else None
        both, tokens = len(lateral), x.shape[1]
        for n in range(depth):
            block = f"blocks.{n}"
            parts = []
            if both:
                mixed = self.attend(block, self.normed(f"{block}.norm", torch.cat([x[:both], y], 1)))
                parts.append(mixed[:, :tokens])
                y = y + mixed[:, tokens:]
            if both < count:
                parts.append(self.attend(block, self.normed(f"{block}.norm", x[both:])))
            x = self.expert(f"{block}.frontal_expert", x + torch.cat(parts))
            if both and n + 1 < depth:
                y = self.expert(f"{block}.lateral_expert", y)
        state = self.normed("norm", x[:, 0])
        return self.linear("head", torch.empty_like(state).index_copy(0, order, state))

    def groups(self):
        depth = self.config["num_layers"]

        def stage(name):
            if name.startswith("blocks."):
                return 1 + int(name.split(".")[1])
            return depth + 1 if name.startswith(("norm.", "head.")) else 0

        rates = {}
        for name in self.names:
            rates.setdefault(LAYER_DECAY ** (depth + 1 - stage(name)), []).append(self[name])
        return [{"params": own, "factor": factor} for factor, own in rates.items()]


def auroc(scores, truth):
    """The mean AUROC over labels; ties count half."""
    figures = []
    for score, there in zip(scores.T, truth.T):
        positive, negative = score[there == 1], np.sort(score[there == 0])
        if len(positive) and len(negative):
            below = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
            figures.append(below.mean() / 2 / len(negative))
    return float(np.mean(figures))


def judged(model, data, split, size=64):
    rows, side = data.rows[split], model.config["size"]
    with torch.no_grad():
        batches = [data.batch(rows[n : n + size], side) for n in range(0, len(rows), size)]
        scores = torch.cat([model(*batch[:3]) for batch in batches]).numpy()
    return auroc(scores, torch.cat([batch[3] for batch in batches]).numpy())


def train(folder, data, epochs, size, seed):
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = Tuned(folder, len(data.labels))
    optimizer = torch.optim.AdamW(model.groups(), lr=RATE, weight_decay=DECAY, fused=True)
    rows, side = data.rows["train"], model.config["size"]
    steps = math.ceil(len(rows) / size)
    total, losses, seconds, best = epochs * steps, [], 0.0, (-1.0, 0.0)
    warmup = int(total * WARMUP)
    for _ in range(epochs):
        order = random.permutation(len(rows))
        for start in range(0, len(rows), size):
            step, begun = len(losses), time.perf_counter()
            chosen = [rows[n] for n in order[start : start + size]]
            crops = random.integers(0, data.pictures.shape[1] - side + 1, (len(chosen), 2, 2))
            frontal, lateral, paired, truth = data.batch(chosen, side, crops)
            rising = step < warmup
            share = step / warmup if rising else (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1))) / 2
            for group in optimizer.param_groups:
                group["lr"] = RATE * share * group["factor"]
            loss = F.binary_cross_entropy_with_logits(model(frontal, lateral, paired), truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            seconds += time.perf_counter() - begun
        figure = judged(model, data, "validate")
        if figure > best[0]:
            best = (figure, judged(model, data, "test"))
    return {"losses": losses, "studies_per_second": epochs * len(rows) / seconds, "test": best[1]}


def ours(medst, folder, corpus, labels, epochs, size, seed):
    with tempfile.TemporaryDirectory() as work:
        settings = {
            "data.corpus": corpus, "data.labels": json.dumps(labels), "init.weights": folder, "train.output": f"{work}/run",
            "train.epochs": epochs, "train.batch": size, "train.seed": seed, "train.patience": 0, "optimizer.lr": RATE,
            "optimizer.layer_decay": LAYER_DECAY, "optimizer.weight_decay": DECAY,
        }
        Path(work, "empty.toml").write_text("")
        command = [medst, "-q", "--json", "finetune", f"{work}/empty.toml", "--device", "cpu"]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        summary = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        lines = [json.loads(line) for line in Path(work, "run/metrics.jsonl").read_text().splitlines()]
        steps = [line for line in lines if line["kind"] == "train"]
        seconds = sum(line["studies"] / line["studies_per_second"] for line in steps)
        return {
            "losses": [line["loss"] for line in steps],
            "studies_per_second": sum(line["studies"] for line in steps) / seconds,
            "test": summary["test"][0]["value"],
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("medst")
    parser.add_argument("model", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--labels", type=lambda text: text.split(","), default=[])
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    torch.set_num_threads(arguments.threads)
    data = Data(arguments.corpus, arguments.labels)
    model, corpus = arguments.model.resolve(), arguments.corpus.resolve()
    own = lambda epochs, size, seed: ours(arguments.medst, model, corpus, data.labels, epochs, size, seed)
    result = {"labels": data.labels, "training": len(data.rows["train"])}
    if data.pictures.shape[1] == json.loads((model / "config.json").read_text())["model"]["image"]["size"]:
        whole = len(data.rows["train"])
        theirs, mine = (each(arguments.epochs, whole, 0)["losses"] for each in (lambda *a: train(model, data, *a), own))
        result["losses"] = {"torch": theirs, "medst": mine, "apart": max(abs(a - b) for a, b in zip(theirs, mine, strict=True))}
    else:
        for seed in range(arguments.seeds):
            given = (arguments.epochs, arguments.batch, seed)
            for name, found in (("torch", train(model, data, *given)), ("medst", own(*given))):
                for key in ("test", "studies_per_second"):
                    result.setdefault(f"{key}, {name}", []).append(found[key])
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
