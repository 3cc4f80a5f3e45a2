"""A small phantom cohort, its corpus and a model trained for some steps, made once per run by the
commands of the wheel.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

# The tensors of these tests are too small for several threads.
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "model.image.size=48",
    "model.image.patch=16",
    "model.image.hidden_size=32",
    "model.image.num_layers=1",
    "model.image.num_heads=2",
    "model.image.intermediate_size=64",
    "model.text.hidden_size=32",
    "model.text.num_layers=1",
    "model.text.num_heads=2",
    "model.text.intermediate_size=64",
    "model.projection.hidden=48",
    "model.projection.embedding=32",
    "train.sequences_per_batch=4",
    "train.max_steps=5",
    "data.corpus=corpus",
    "train.output=run",
]


def medst_command(*arguments: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs the command like the console script of the wheel."""
    done = subprocess.run([sys.executable, "-m", "medst._command", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import medst

    folder = tmp_path_factory.mktemp("medst")
    medst.phantom(folder / "raw", subjects=30, size=120, seed=3, layouts=["table", "rsna"], progress=False)
    medst.prepare(folder / "raw" / "table" / "studies.csv", folder / "corpus", image_size=64, progress=False)
    settings = [part for setting in SMALL for part in ("--set", setting)]
    medst_command("--quiet", "pretrain", str(ROOT / "configs" / "tiny.toml"), *settings, cwd=folder)
    return folder


@pytest.fixture(scope="session")
def model(work: Path):
    import medst

    return medst.load(work / "run", device="cpu")


@pytest.fixture(scope="session")
def corpus(work: Path):
    import medst

    return medst.Corpus(work / "corpus")


@pytest.fixture(scope="session")
def radiographs(work: Path) -> list[Path]:
    return sorted((work / "raw" / "table" / "images").rglob("*.png"))


@pytest.fixture(scope="session")
def dicoms(work: Path) -> list[Path]:
    return sorted((work / "raw" / "rsna").rglob("*.dcm"))
