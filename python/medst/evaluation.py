"""Evaluation of a model, or of embeddings of any origin, with the tasks of ``medst eval``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Union

import numpy as np
import torch

from medst._engine import lent, native
from medst._errors import InputError
from medst._progress import Progress, shown
from medst.corpus import Corpus
from medst.model import Model

#: Rows ``[n, D]`` in the order of the corpus (of all its studies), or vectors by study id.
Vectors = Union[torch.Tensor, np.ndarray, Mapping[str, Any]]


@dataclass(frozen=True)
class Figure:
    """One number of a task."""

    task: str
    #: What the figure is computed on: a finding, a direction, a fraction of the training data.
    group: str
    name: str
    #: ``None`` if it is undefined; ``undefined`` then states why.
    value: float | None
    #: 95 % bootstrap interval over subjects.
    interval: tuple[float, float] | None
    #: The value that guessing gives on these data, if known.
    chance: float | None
    #: ``"share"`` (0…1), ``"number"`` or ``"rank"`` (position in a list, starting at 1).
    unit: str
    #: Number of rows it is computed from.
    rows: int
    undefined: str | None
    #: For each column of ``by=``: ``{"column", "parts", "gap"}``, as in ``results.json``; each part
    #: has ``name``, ``value``, ``interval``, ``rows``, ``subjects`` and ``small`` (fewer than 20
    #: subjects).
    by: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """Results; ``print`` shows the tables of ``medst eval``."""

    figures: list[Figure]
    #: Tasks that cannot be evaluated on the corpus, with the reason.
    refused: dict[str, str]
    #: All results, as ``medst eval --json`` prints them.
    details: dict[str, Any] = field(repr=False)
    text: str = field(repr=False)

    def __str__(self) -> str:
        return self.text

    def value(self, task: str, name: str, group: str | None = None) -> float | None:
        """Returns the first figure with this task, name and group.

        Raises
        ------
        KeyError
            The result has no such figure; the message lists the available ones.
        """
        for figure in self.figures:
            if figure.task == task and figure.name == name and group in (None, figure.group):
                return figure.value
        known = sorted({(own.group, own.name) for own in self.figures if own.task == task})
        raise KeyError(f"no figure {name!r} of {task} (group {group!r}); available: {known}")


def evaluate(
    task: str | Sequence[str],
    embeddings: Model | Vectors,
    corpus: Corpus,
    *,
    reports: Vectors | None = None,
    features: Vectors | None = None,
    texts: Mapping[str, Any] | None = None,
    split: Literal["train", "validate", "test", "all"] | None = None,
    protocol: Literal["strict", "reference", "literature"] = "strict",
    label: str | None = None,
    by: str | Sequence[str] = (),
    replicates: int = 1000,
    seed: int = 0,
    progress: Progress = None,
) -> Evaluation:
    """Evaluates a model, or embeddings of any origin.

    Parameters
    ----------
    task
        ``"all"``, or one or more of ``temporal-image``, ``temporal-sentence``,
        ``temporal-transfer``, ``zero-shot``, ``linear-probe``, ``retrieval``, ``progression``,
        ``sequence-order``, ``series-questions``, ``grounding`` (the last from a model only).
    embeddings
        A model; or embeddings of the frontal (and lateral) images: ``[n, D]`` in the order of the
        whole corpus, with a row of NaN for a study without an embedding; or a mapping from study ID
        to vector.
    corpus
        The corpus with the ground truth. Its own ``split`` is ignored; the argument ``split``
        selects what is evaluated.
    reports, features
        Like ``embeddings``: embeddings of the reports, and the features on which a probe is trained
        (``Model.image_features``; by default ``embeddings``).
    texts
        A vector for each text of :func:`evaluation_texts`, required by tasks that compare texts.
    split
        The studies to evaluate; ``None``: the test split if there is one, otherwise the validation
        split, otherwise all.
    protocol
        ``"strict"``, ``"reference"`` for what the reference implementation computes, or
        ``"literature"`` for what later papers compute.
    label
        Label that a linear probe learns; by default chosen from the labels of the corpus.
    by
        Columns, such as ``"sex"`` or ``["age", "view"]``, by whose values every figure is broken
        down, with the largest gap: ``Figure.by``.
    replicates, seed
        Number of replicates and seed of the bootstrap over subjects.

    Raises
    ------
    medst.InputError
        A task that was requested by name cannot be evaluated on the corpus, or vectors do not fit.
    """
    options = _options(task, split, protocol, label, by, replicates, seed)
    show = shown(progress)
    try:
        if isinstance(embeddings, Model):
            if reports is not None or features is not None or texts is not None:
                raise InputError("reports, features and texts can only be given with embeddings; a model computes its own")
            answer, text = native.evaluate_model(options, corpus._corpus, embeddings._engine, show)
        else:
            answer, text = native.evaluate_vectors(
                options,
                corpus._corpus,
                lent(_rows("embeddings", embeddings, corpus)),
                None if reports is None else lent(_rows("reports", reports, corpus)),
                None if features is None else lent(_rows("features", features, corpus)),
                None if not texts else (list(texts), lent(_matrix("texts", list(texts.values())))),
                show,
            )
    finally:
        if show is not None:
            show.__exit__(None, None, None)
    details = json.loads(answer)
    return Evaluation(_figures(details), _refused(details), details, text)


def evaluation_texts(task: str | Sequence[str], corpus: Corpus, **options: Any) -> list[str]:
    """Returns the texts that tasks compare, which a text encoder must embed for :func:`evaluate`.
    Takes the options of that function.
    """
    defaults = {"split": None, "protocol": "strict", "label": None, "by": (), "replicates": 0, "seed": 0}
    unknown = set(options) - set(defaults)
    if unknown:
        raise TypeError(f"evaluation_texts() got unexpected arguments {sorted(unknown)}")
    return native.evaluation_texts(_options(task, **{**defaults, **options}), corpus._corpus)


def _options(
    task: str | Sequence[str],
    split: str | None,
    protocol: str,
    label: str | None,
    by: str | Sequence[str],
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    tasks = [task] if isinstance(task, str) else list(task)
    return {
        "tasks": [] if "all" in tasks else tasks,
        "protocol": protocol,
        "split": split,
        "label": label,
        "by": [by] if isinstance(by, str) else list(by),
        "replicates": replicates,
        "seed": seed,
    }


def _rows(name: str, vectors: Vectors, corpus: Corpus) -> torch.Tensor:
    """``[n, D]`` in the order of the whole corpus."""
    if not isinstance(vectors, Mapping):
        return _matrix(name, vectors)
    ids = [corpus._corpus.study(row)["study_id"] for row in range(len(corpus._corpus))]
    known = set(ids)
    foreign = next((key for key in vectors if key not in known), None)
    if foreign is not None:
        raise InputError(f"{name}: the corpus has no study {foreign!r}")
    if not vectors:
        raise InputError(f"{name}: no vectors are given")
    given = _matrix(name, list(vectors.values()))
    place = {key: number for number, key in enumerate(vectors)}
    rows = torch.full((len(ids), given.shape[1]), float("nan"))
    found = [(row, place[key]) for row, key in enumerate(ids) if key in place]
    rows[[row for row, _ in found]] = given[[number for _, number in found]]
    return rows


def _matrix(name: str, vectors: Any) -> torch.Tensor:
    try:
        if isinstance(vectors, list):
            vectors = torch.stack([torch.as_tensor(own, dtype=torch.float32).cpu() for own in vectors])
        matrix = torch.as_tensor(vectors).detach().to("cpu", torch.float32).contiguous()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: {error}") from error
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise InputError(f"{name}: expected shape [n, D], not {list(matrix.shape)}")
    return matrix


def _figures(details: dict[str, Any]) -> list[Figure]:
    return [
        Figure(
            task=result["task"],
            group=own["group"],
            name=own["name"],
            value=own["value"],
            interval=tuple(own["interval"]) if own["interval"] else None,
            chance=own["chance"],
            unit=own["unit"],
            rows=own["rows"],
            undefined=own.get("undefined"),
            by=own.get("by", []),
        )
        for corpus in details["corpora"]
        for result in corpus["tasks"]
        for own in result["figures"]
    ]


def _refused(details: dict[str, Any]) -> dict[str, str]:
    return {own["task"]: own["reason"] for corpus in details["corpora"] for own in corpus["refused"]}
