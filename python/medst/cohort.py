"""Synthetic patients, and corpora of tables."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, Literal, Union

from medst._engine import native
from medst._progress import Progress, shown

PathLike = Union[str, "os.PathLike[str]"]


def phantom(
    out: PathLike,
    *,
    subjects: int = 200,
    seed: int = 0,
    size: int = 512,
    difficulty: Literal["plain", "hard"] = "plain",
    layouts: Sequence[str] = ("table",),
    progress: Progress = None,
) -> dict[str, Any]:
    """Draws a phantom cohort: synthetic patients with radiographs, reports and known truth.

    Parameters
    ----------
    out
        A new or empty folder. The layout ``table`` has its table at ``out/studies.csv``.
    size
        Longest side of a picture in pixels, 64 to 4096.
    layouts
        Of ``table``, ``mimic-cxr-jpg``, ``ms-cxr-t``, ``rsna``, ``covidx``, ``chexpert``; several go into folders of their names.

    Returns
    -------
    What was written: ``folder``, ``subjects``, ``studies``, ``laterals``, ``images``. The same arguments draw the same bytes.

    Raises
    ------
    medst.InputError
        A folder that is not empty, or an argument out of range.
    """
    show = shown(progress)
    try:
        told = native.draw_phantom(os.fspath(out), subjects, seed, size, difficulty, list(layouts), show)
    finally:
        if show is not None:
            show.__exit__(None, None, None)
    return json.loads(told)


def prepare(
    table: PathLike,
    out: PathLike,
    *,
    image_size: int = 256,
    sequence_length: int = 4,
    exact: bool = False,
    overwrite: bool = False,
    progress: Progress = None,
) -> dict[str, Any]:
    """Makes a corpus of a table of images, such as ``studies.csv`` of :func:`phantom`. (``medst prepare`` knows more sources and options.)

    Parameters
    ----------
    table
        CSV, gzipped CSV or Parquet with ``subject_id``, ``view``, ``image`` and more.
    out
        The corpus. It appears whole or not at all; an interrupted preparation continues where it was.
    image_size
        Side of the stored pictures in pixels.
    sequence_length
        Studies of a full sequence.

    Returns
    -------
    What was written and what was left out, by reason.
    """
    show = shown(progress)
    try:
        told, _ = native.prepare_table(os.fspath(table), os.fspath(out), image_size, sequence_length, exact, overwrite, show)
    finally:
        if show is not None:
            show.__exit__(None, None, None)
    return json.loads(told)
