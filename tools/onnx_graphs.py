"""Runs the graphs of `medst convert --to onnx` in ONNX Runtime; pictures and texts are prepared
without medst's code.
"""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def medst(program: str, *arguments: object, cwd: Path | None = None) -> str:
    """Runs the command and returns its standard output."""
    return subprocess.run([program, "--quiet", *map(str, arguments)], cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout


class Graphs:
    """A folder of graphs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told = json.loads((folder / "graphs.json").read_text())
        self.pieces = {piece: number for number, piece in enumerate((folder / "vocab.txt").read_text().splitlines())}
        self.sessions: dict[str, onnxruntime.InferenceSession] = {}

    def run(self, name: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs of a graph by name."""
        if name not in self.sessions:
            options = onnxruntime.SessionOptions()
            # Threads that wait for each other spin: on a busy machine one is faster than several.
            options.intra_op_num_threads = 1
            self.sessions[name] = onnxruntime.InferenceSession(self.folder / name, options, providers=["CPUExecutionProvider"])
        session = self.sessions[name]
        outputs = [output.name for output in session.get_outputs()]
        return dict(zip(outputs, session.run(outputs, inputs), strict=True))

    def square(self, picture: np.ndarray) -> np.ndarray:
        """The middle of a stored square, as the graphs take it."""
        size = self.told["images"]["size"]
        start = (len(picture) - size) // 2
        return picture[start : start + size, start : start + size]

    def picture(self, path: Path) -> np.ndarray:
        """A file as the graphs take it."""
        stored = self.told["images"]["resize_longest_side"]
        image = Image.open(path).convert("L")
        longest = max(image.size)
        if longest != stored:
            image = image.resize([length * stored // longest for length in image.size], Image.Resampling.BOX)
        square = np.zeros((stored, stored), np.uint8)
        left, top = ((stored - length) // 2 for length in image.size)
        square[top : top + image.height, left : left + image.width] = np.asarray(image)
        return self.square(square)

    def cut(self, text: str) -> list[int]:
        """A text's word pieces: in each word the longest ones, from the left."""
        ids = []
        for word in re.findall(r"[a-z0-9_]+", text.lower()):
            found, rest = [], word
            while rest:
                prefix = "##" if found else ""
                ends = (end for end in range(len(rest), 0, -1) if prefix + rest[:end] in self.pieces)
                end = next(ends, None)
                if end is None:
                    found = [self.told["texts"]["unknown_id"]]
                    break
                found.append(self.pieces[prefix + rest[:end]])
                rest = rest[end:]
            ids += found
        texts = self.told["texts"]
        return [texts["classifier_id"], *ids[: texts["max_tokens"] - 2], texts["separator_id"]]

    def texts(self, texts: list[str]) -> dict[str, np.ndarray]:
        """The outputs of the text graph."""
        rows = [self.cut(text) for text in texts]
        ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        for own, row in zip(ids, rows, strict=True):
            own[: len(row)] = row
        mask = (np.arange(ids.shape[1]) < np.array([[len(row)] for row in rows])).astype(np.int64)
        return self.run("text.onnx", input_ids=ids, attention_mask=mask)

    def images(self, frontal: np.ndarray, lateral: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The outputs of the graph for these views, ``[n, S, S]`` uint8 each."""
        if lateral is None:
            return self.run("image.onnx", frontal=frontal)
        return self.run("image_lateral.onnx", frontal=frontal, lateral=lateral)
