"""Synthetic cohorts, and corpora from tables."""

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
    """Draws a phantom cohort: synthetic patients with radiographs and reports whose findings are
    known.

    Parameters
    ----------
    out
        A new or empty folder. The layout ``table`` writes its table to ``out/studies.csv``.
    size
        Longest side of the images in pixels, 64 to 4096.
    layouts
        One or more layouts, such as ``table``, ``mimic-cxr-jpg``, ``chexpert`` or ``folders``
        (docs/phantom.md lists all); several are written to sub-folders of these names.

    Returns
    -------
    A summary: ``folder``, ``subjects``, ``studies``, ``laterals``, ``images``. The same arguments
    give the same bytes.

    Raises
    ------
    medst.InputError
        ``out`` is not empty, or an argument is out of range.
    """
    show = shown(progress)
    try:
        summary = native.draw_phantom(os.fspath(out), subjects, seed, size, difficulty, list(layouts), show)
    finally:
        if show is not None:
            show.__exit__(None, None, None)
    return json.loads(summary)


def prepare(
    table: PathLike,
    out: PathLike,
    *,
    image_size: int = 256,
    sequence_length: int = 4,
    report_rule: Literal["standard", "reference"] = "standard",
    labels: Sequence[str] = (),
    exact: bool = False,
    overwrite: bool = False,
    progress: Progress = None,
) -> dict[str, Any]:
    """Builds a corpus from a table of images, such as ``studies.csv`` of :func:`phantom`.
    (``medst prepare`` has more sources and options.)

    Parameters
    ----------
    table
        CSV, gzipped CSV or Parquet file with the columns ``subject_id``, ``view``, ``image`` and
        more (see ``medst prepare table --help``).
    out
        Folder of the corpus. It is created only when it is complete; an interrupted preparation
        continues where it stopped.
    image_size
        Side of the stored images in pixels.
    sequence_length
        Number of studies in a full sequence.
    report_rule
        How to clean reports and split them into sentences. ``"standard"`` recognises the section
        headers that hospitals use and does not split at the point of ``1.5 cm``; ``"reference"``
        follows the reference implementation, which knows only the headers of MIMIC-CXR and ends a
        sentence at every full stop.
    labels
        Columns to keep as labels although they seem to identify patients (names, patient numbers,
        birth dates). Such columns are left out by default.
    exact
        Decode every pixel before averaging. This is slower, and changes grey levels by at most 1.
    overwrite
        Replace an existing corpus.

    Returns
    -------
    A summary of what was written, and of what was left out, by reason.
    """
    show = shown(progress)
    try:
        summary, _ = native.prepare_table(
            os.fspath(table), os.fspath(out), image_size, sequence_length, report_rule, list(labels), exact, overwrite, show
        )
    finally:
        if show is not None:
            show.__exit__(None, None, None)
    return json.loads(summary)
