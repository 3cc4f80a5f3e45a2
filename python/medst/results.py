"""Results of a model as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Classification:
    """Scores of ``n`` images for ``C`` classes."""

    #: Names of the classes, ``C``.
    classes: list[str]
    #: ``[n, C]`` float64: cosine to the sentences that state a class; for findings, minus the
    #: cosine to the sentences that deny it; -2 to 2.
    scores: torch.Tensor
    #: ``[n, C]`` float64 in 0…1; for exclusive classes, rows sum to 1. Without a calibration, they
    #: only rank images.
    probabilities: torch.Tensor
    #: The data on which the probabilities were calibrated; ``None`` if they are not calibrated.
    calibrated_on: str | None


@dataclass(frozen=True)
class Prediction:
    """Predictions of the head of a fine-tuned model for ``n`` images, or for ``n`` consecutive
    pairs of them.
    """

    #: What each probability refers to, ``O``: findings, classes, or a label and its class.
    names: list[str]
    #: ``[n, O]`` float64 in 0…1; those of one label's classes sum to 1.
    probabilities: torch.Tensor


@dataclass(frozen=True)
class FindingChange:
    """The course of a finding between two time points."""

    finding: str
    #: Change of the image embedding along the direction from improvement to worsening; cosine
    #: units, above 0 is worse.
    towards_worse: float
    #: Share of sentence pairs that agree on the direction, 0…1.
    agreement: float
    #: Scores of its presence, before and after; cosine units.
    presence: tuple[float, float]
    #: Probabilities of improving, stable and worsening; ``None`` without a calibration.
    courses: tuple[float, float, float] | None
    #: ``"improving"``, ``"stable"``, ``"worsening"``, or ``None`` if the sentences do not agree.
    said: str | None
    #: Confidence in ``said``: its probability, or without a calibration the agreement; 0…1.
    confidence: float


@dataclass(frozen=True)
class FindingSeries:
    """A finding over ``T`` time points."""

    finding: str
    #: Score of its presence at each time point; cosine units.
    presence: list[float]
    #: Probability that it is seen first at each time point, and last that no time point shows it,
    #: ``T + 1``; ``None`` without a calibration of series.
    seen_first: list[float] | None
    #: Probability that it is worst at each time point, provided that one shows it, ``T``; ``None``
    #: without a calibration of series.
    worst: list[float] | None
    #: Index of the time point where it is most probably worst; without a calibration, where its
    #: presence has the highest score.
    worst_at: int


@dataclass(frozen=True)
class Series:
    """Embeddings of ``T`` time points of a subject, in time order."""

    #: ``[T, D]`` float32 unit vectors.
    images: torch.Tensor
    #: ``[T, D]`` float32 unit vectors; NaN for a time point without a report.
    reports: torch.Tensor
    #: ``None`` if unknown.
    days: list[float | None]
    #: For each row, its place among the given time points.
    order: list[int]


@dataclass(frozen=True)
class Step:
    """Two consecutive time points, or (if there are more than two) the first and the last."""

    #: Numbers of the time points.
    start: int
    end: int
    #: ``None`` if a day is unknown.
    days: float | None
    #: Cosines, -1…1.
    image_similarity: float
    report_similarity: float | None
    findings: list[FindingChange]


@dataclass(frozen=True)
class Order:
    """The most probable order of time points."""

    #: Indices of the time points; for reports, the images at the times of the reports.
    order: list[int]
    #: Its probability among all orders, 0…1.
    probability: float
    #: Probability of the given order.
    given_probability: float
    #: Rank of the given order among all orders, starting at 1.
    given_place: int
    orders: int


@dataclass(frozen=True)
class Comparison:
    """Comparison of ``T`` time points of a subject; ``print`` shows a table."""

    time_points: list[str]
    days: list[float | None]
    steps: list[Step]
    #: Each finding over all time points.
    series: list[FindingSeries]
    #: Cosines ``[T, T]`` float64; NaN if a report is missing.
    image_similarity: torch.Tensor
    report_similarity: torch.Tensor
    #: Cosines of images (rows) and reports (columns).
    image_report_similarity: torch.Tensor
    order_by_images: Order | None
    order_by_reports: Order | None
    calibrated_on: str | None
    text: str = field(repr=False)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Box:
    """A region above the threshold."""

    #: In pixels of the given image; ends are exclusive.
    left: float
    top: float
    right: float
    bottom: float
    #: Cosines inside, -1…1.
    mean: float
    peak: float


@dataclass(frozen=True)
class Word:
    """A word, and the most similar patch."""

    word: str
    #: Share in the modality-weighted loss; all words of a phrase sum to 1.
    importance: float
    #: ``"frontal"`` or ``"lateral"``.
    view: str
    #: Left, top, right, bottom of that patch, in pixels of the image.
    bounds: tuple[float, float, float, float]
    #: Cosine with it, -1…1.
    similarity: float


@dataclass(frozen=True)
class Grounding:
    """Where a phrase of ``W`` words is found in the images of a study.

    ``S`` is the side of the model's input in pixels, ``K`` the number of patches (frontal, then
    lateral, row by row).
    """

    phrase: str
    #: By view ``[S, S]`` float32: mean cosine of the words, interpolated bilinearly between patch
    #: centres.
    heat: dict[str, torch.Tensor]
    #: By view, highest peak first.
    boxes: dict[str, list[Box]]
    #: ``W`` words. The last is ``[SEP]``, the end of the text, which is a token to the model.
    words: list[Word]
    #: ``[W, K]`` float32 cosines.
    similarity: torch.Tensor
    #: ``[W, K]``: attention of each word over the patches; rows sum to 1.
    words_to_patches: torch.Tensor
    #: ``[K, W]``: attention of each patch over the words; rows sum to 1.
    patches_to_words: torch.Tensor
    #: ``[W]`` and ``[K]`` float32, each sums to 1.
    word_importance: torch.Tensor
    patch_importance: torch.Tensor


def comparison(found: dict[str, Any], text: str) -> Comparison:
    """From what the native module tells."""

    def matrix(rows: list[list[float | None]]) -> torch.Tensor:
        values = [[float("nan") if value is None else value for value in row] for row in rows]
        return torch.tensor(values, dtype=torch.float64)

    def change(own: dict[str, Any]) -> FindingChange:
        return FindingChange(
            finding=own["finding"],
            towards_worse=own["change"]["towards_worse"],
            agreement=own["change"]["agreement"],
            presence=tuple(own["presence"]),
            courses=tuple(own["courses"]) if own["courses"] else None,
            said=own["said"].lower() if own["said"] else None,
            confidence=own["confidence"],
        )

    def step(own: dict[str, Any]) -> Step:
        return Step(
            start=own["from"],
            end=own["to"],
            days=own["days"],
            image_similarity=own["image_similarity"],
            report_similarity=own["report_similarity"],
            findings=[change(finding) for finding in own["findings"]],
        )

    def order(own: dict[str, Any] | None, numbers: list[int] | None = None) -> Order | None:
        if own is None:
            return None
        return Order(
            order=[numbers[place] for place in own["order"]] if numbers else own["order"],
            probability=own["probability"],
            given_probability=own["given_probability"],
            given_place=own["given_place"],
            orders=own["orders"],
        )

    return Comparison(
        time_points=found["time_points"],
        days=found["days"],
        steps=[step(own) for own in found["steps"]],
        series=[FindingSeries(**own) for own in found["series"]],
        image_similarity=matrix(found["image_similarity"]),
        report_similarity=matrix(found["report_similarity"]),
        image_report_similarity=matrix(found["image_report_similarity"]),
        order_by_images=order(found["order_by_images"]),
        order_by_reports=order(found["order_by_reports"], found["reported"]),
        calibrated_on=found["calibrated_on"],
        text=text,
    )


def grounding(description: dict[str, Any], heat: dict[str, torch.Tensor], matrices: list[torch.Tensor]) -> Grounding:
    """From what the native module tells."""
    found = description["grounded"]

    def boxes(view: dict[str, Any]) -> list[Box]:
        def box(own: dict[str, Any]) -> Box:
            left, top, right, bottom = own["bounds"]
            return Box(left, top, right, bottom, own["mean"], own["peak"])

        return [box(own) for own in view["boxes"]]

    similarity, words_to_patches, patches_to_words = matrices
    return Grounding(
        phrase=found["phrase"],
        heat=heat,
        boxes={view["view"]: boxes(view) for view in found["views"]},
        words=[Word(own["word"], own["importance"], own["view"], tuple(own["bounds"]), own["similarity"]) for own in found["words"]],
        similarity=similarity,
        words_to_patches=words_to_patches,
        patches_to_words=patches_to_words,
        word_importance=torch.tensor(description["word_importance"]),
        patch_importance=torch.tensor(description["patch_importance"]),
    )
