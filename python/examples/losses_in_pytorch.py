"""The Med-ST losses in a plain PyTorch loop, with encoders that are not part of medst.

    python python/examples/losses_in_pytorch.py --corpus try/corpus

A small convolutional network reads the radiographs, an embedding of words the reports; what they
learn from is image-report, patch-word and temporal alignment. The cells (`# %%`) are those of a
notebook.
"""

# %% Data: the studies of a corpus, in the sequences of their subjects
import argparse
import random

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

import medst
from medst import losses

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--corpus", required=True, help="a corpus of medst prepare")
parser.add_argument("--steps", type=int, default=60)
parser.add_argument("--subjects", type=int, default=12, help="sequences in a batch")
arguments = parser.parse_args()

torch.manual_seed(0)
random.seed(0)
corpus = medst.Corpus(arguments.corpus, split="train")
reports = [corpus.describe(n).report for n in range(len(corpus))]
sequences = [rows for rows in corpus.sequences if all(reports[row] for row in rows)]
vocabulary = {word: 1 + n for n, word in enumerate(sorted({word for own in reports if own for word in own.split()}))}


def batch(chosen: list[list[int]]) -> tuple[Tensor, Tensor, list[list[int]]]:
    """Pictures [B, 1, S, S], word numbers [B, W] (0 for padding), and the rows of each sequence in
    the batch.
    """
    rows = [row for sequence in chosen for row in sequence]
    studies = [corpus[row] for row in rows]
    pictures = torch.stack([torch.from_numpy(study.frontal) for study in studies])[:, None].float() / 255
    words = [torch.tensor([vocabulary[word] for word in study.report.split()]) for study in studies]
    place = {row: number for number, row in enumerate(rows)}
    in_time = [[place[row] for row in sequence] for sequence in chosen if len(sequence) > 1]
    return pictures, nn.utils.rnn.pad_sequence(words, batch_first=True), in_time


# %% Encoders of your own
class Encoders(nn.Module):
    def __init__(self, width: int = 48) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = [1, 16, 32, 64]
        for before, after in zip(channels, channels[1:]):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.picture = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(7))
        self.patch, self.image = nn.Linear(64, width), nn.Linear(64, width)
        self.word = nn.Embedding(len(vocabulary) + 1, width, padding_idx=0)
        self.report = nn.Linear(width, width)
        self.importance = losses.Importance(width)

    def images(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Global [B, D] and local [B, P, D] embeddings, unit vectors."""
        cells = self.picture(pictures).flatten(2).transpose(1, 2)
        return normalize(self.image(cells.mean(1)), dim=-1), normalize(self.patch(cells), dim=-1)

    def texts(self, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Global [B, D] and local [B, W, D] unit vectors, and which words exist [B, W]."""
        exists = words > 0
        states = self.word(words)
        mean = states.sum(1) / exists.sum(1, keepdim=True)
        return normalize(self.report(mean), dim=-1), normalize(states, dim=-1), exists


# %% The loop
encoders = Encoders()
optimizer = torch.optim.AdamW(encoders.parameters(), lr=2e-3)
for step in range(1, arguments.steps + 1):
    pictures, words, in_time = batch(random.sample(sequences, min(arguments.subjects, len(sequences))))
    image, patches = encoders.images(pictures)
    report, tokens, exists = encoders.texts(words)
    parts = {
        "global": losses.global_alignment(image, report),
        "local": losses.local_alignment(tokens, exists, patches, encoders.importance),
        "forward": losses.forward_mapping(image, report, in_time),
        "reverse": losses.reverse_mapping(image, report, in_time),
    }
    # From random weights the temporal gradients would dominate the others.
    total = parts["global"] + parts["local"] + 0.05 * (parts["forward"] + parts["reverse"])
    optimizer.zero_grad()
    total.backward()
    nn.utils.clip_grad_norm_(encoders.parameters(), 1.0)
    optimizer.step()
    if step == 1 or step % 10 == 0:
        at_1, at_5 = losses.retrieval_accuracy(image, report)
        shown = "  ".join(f"{name} {value.item():.3f}" for name, value in parts.items())
        print(f"step {step:4}  total {total.item():.3f}  {shown}  recall@1 {at_1:.2f}  recall@5 {at_5:.2f}")
