"""Med-ST: vision-language models of chest radiographs with several views (frontal, lateral) and
time.

>>> import medst
>>> model = medst.load("runs/pretrain")
>>> images = model.embed_images(["scan.png"])          # torch, [1, D], unit vectors
>>> reports = model.embed_reports(["No effusion."])    # torch, [1, D], unit vectors
>>> (images @ reports.T).numpy()

Names are imported on first use, so that the command ``medst``, which does not need the Python part
of torch, starts at once. All exceptions are subclasses of :class:`medst.Error` and of the matching
built-in exceptions.

Research software, not a medical device.
"""

from __future__ import annotations

import importlib
from typing import Any

from medst._errors import (
    DataError,
    EngineError,
    Error,
    FileError,
    FilePermissionError,
    ImageError,
    InputError,
    MissingFileError,
)

__version__ = "0.1.0"

# The module of each public name.
_PLACES = {
    "Model": "medst.model",
    "load": "medst.model",
    "Study": "medst.study",
    "Corpus": "medst.corpus",
    "phantom": "medst.cohort",
    "prepare": "medst.cohort",
    "evaluate": "medst.evaluation",
    "evaluation_texts": "medst.evaluation",
    "Evaluation": "medst.evaluation",
    "Figure": "medst.evaluation",
    "Classification": "medst.results",
    "Comparison": "medst.results",
    "FindingChange": "medst.results",
    "FindingSeries": "medst.results",
    "Series": "medst.results",
    "Grounding": "medst.results",
    "Prediction": "medst.results",
}

__all__ = [
    "DataError",
    "EngineError",
    "Error",
    "FileError",
    "FilePermissionError",
    "ImageError",
    "InputError",
    "MissingFileError",
    "losses",
    *_PLACES,
]


def __getattr__(name: str) -> Any:
    if name == "losses":
        return importlib.import_module("medst.losses")
    if name not in _PLACES:
        raise AttributeError(f"module 'medst' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
