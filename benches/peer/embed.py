"""Embeds radiographs as PyTorch programs usually do: timm's encoder, a `Dataset` of PIL pictures, a
`DataLoader`.

    embed.py make FOLDER                       random weights: a ViT-B/16 of timm, a BERT of
                                               transformers, for `medst convert`
    embed.py run WEIGHTS TABLE --views 1|2     WEIGHTS is the model in the reference's names; TABLE
                                               has one row per picture
    embed.py compare OURS.npy THEIRS.npy       the smallest cosine of two files of embeddings

`run` prints one JSON object: pictures per second without the first batch, seconds from start to
end, peak resident memory.
"""

import argparse
import csv
import json
import resource
import time
from pathlib import Path

START = time.perf_counter()

import numpy as np
import timm
import torch
from best_model import encode_images
from model import MedST
from PIL import Image
from pretrain_step import FULL, theirs
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


def make(folder):
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    vit = timm.create_model("vit_base_patch16_224", num_classes=0)
    save_file(vit.state_dict(), folder / "vit.safetensors")
    bert = BertConfig(vocab_size=FULL["vocabulary"], num_hidden_layers=FULL["bert_layers"])
    BertModel(bert, add_pooling_layer=False).save_pretrained(folder / "bert")


class Radiographs(Dataset):
    """One study: its frontal picture, and its lateral one where two views are read."""

    def __init__(self, table, views):
        studies = {}
        for row in csv.DictReader(table.open()):
            studies.setdefault(row["study_id"], {})[row["view"]] = table.parent / row["image"]
        self.studies, self.views = list(studies.values()), ("PA", "LATERAL")[:views]
        self.transform = transforms.Compose([
            transforms.Resize(255, max_size=256), transforms.Lambda(square), transforms.CenterCrop(224), transforms.ToTensor(),
            transforms.Normalize([0.5], [0.5]),
        ])

    def __len__(self):
        return len(self.studies)

    def __getitem__(self, n):
        return [self.transform(Image.open(self.studies[n][view]).convert("L")).expand(3, -1, -1) for view in self.views]


def square(picture):
    """The longer side is 256 already; the rest is black, as the reference pads."""
    whole = Image.new("L", (256, 256))
    whole.paste(picture, ((256 - picture.width) // 2, (256 - picture.height) // 2))
    return whole


def run(weights, table, views, batch, out):
    peer = MedST(FULL).eval()
    state = torch.load(weights, map_location="cpu", mmap=True, weights_only=True)["state_dict"]
    with torch.no_grad():
        for name, tensor in list(peer.named_parameters()) + list(peer.named_buffers()):
            if theirs(name) in state:
                tensor.copy_(state[theirs(name)])
    if views == 1:
        vit = timm.create_model("vit_base_patch16_224", num_classes=0).eval()
        own = peer.image.state_dict()
        vit.load_state_dict({name: own[name] for name in vit.state_dict()})
    loader = DataLoader(Radiographs(table, views), batch_size=batch, num_workers=torch.get_num_threads())
    embeddings, marks = [], []
    with torch.inference_mode():
        for pictures in loader:
            states = vit(*pictures) if views == 1 else encode_images(peer.image, *pictures)[0][:, 0]
            embeddings.append(peer.image_global(states).numpy())
            marks.append(time.perf_counter())
    embeddings = np.concatenate(embeddings)
    np.save(out, embeddings)
    rate = (len(embeddings) - batch) * views / (marks[-1] - marks[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"per_s": rate, "seconds": marks[-1] - START, "peak_bytes": peak, "images": len(embeddings) * views}))


def compare(ours, peer):
    ours, peer = np.load(ours), np.load(peer)
    assert ours.shape == peer.shape, (ours.shape, peer.shape)
    print(json.dumps({"smallest_cosine": float((ours * peer).sum(1).min()), "spread": float((ours @ ours.T).min())}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("make").add_argument("folder", type=Path)
    own = commands.add_parser("run")
    own.add_argument("weights")
    own.add_argument("table", type=Path)
    own.add_argument("--views", type=int, choices=(1, 2), default=1)
    own.add_argument("--batch", type=int, default=16)
    own.add_argument("--out", default="/dev/null")
    own = commands.add_parser("compare")
    own.add_argument("ours")
    own.add_argument("peer")
    arguments = parser.parse_args()
    if arguments.command == "make":
        make(arguments.folder)
    elif arguments.command == "run":
        run(arguments.weights, arguments.table, arguments.views, arguments.batch, arguments.out)
    else:
        compare(arguments.ours, arguments.peer)
