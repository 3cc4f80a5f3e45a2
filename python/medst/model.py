"""A trained model in use.

Letters: ``n`` inputs, ``D`` embedding width, ``H`` width of the image encoder, ``C`` classes. Embeddings are unit vectors, so that their
products are cosines; models with other weights have other embeddings, which do not compare (``Model.checksum``).
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from itertools import islice
from typing import Any, Literal, TypeVar, Union

import torch

from medst import results
from medst._engine import native, tensor
from medst._errors import InputError, MissingFileError
from medst._progress import Progress, shown
from medst.results import Classification, Comparison, Grounding
from medst.study import Picture, Study, View, given

PathLike = Union[str, "os.PathLike[str]"]
#: Sentences that say a class, or those that say and those that deny it.
Sentences = Union[Sequence[str], Mapping[Literal["positive", "negative"], Sequence[str]]]
T = TypeVar("T")

# Inputs that cross the border together.
_TOGETHER = 32
#: The findings of MS-CXR-T.
FINDINGS = ("consolidation", "edema", "pleural effusion", "pneumonia", "pneumothorax")


def load(
    path: PathLike,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    exact: bool = False,
    window: Literal["declared", "reference"] = "declared",
    batch: int = 16,
) -> Model:
    """Loads a model: the folder of a run or of a checkpoint, or a checkpoint file of the reference implementation.

    Parameters
    ----------
    device
        ``"auto"`` takes a CUDA device where torch finds one.
    exact
        Decode every pixel of a JPEG file. Otherwise large ones are averaged while they are decoded: faster, within one grey level.
    window
        How DICOM values become grey: as the file declares, or scaled by their maximum as the reference implementation does.
    batch
        Pictures that are computed at once; decides speed and memory, not results.

    Raises
    ------
    medst.MissingFileError
        There is nothing at ``path``.
    medst.DataError
        What is there is no model.
    """
    if not os.path.exists(path):
        raise MissingFileError(2, "no such run, checkpoint or weight file", os.fspath(path))
    if batch < 1:
        raise InputError(f"batch={batch}: must be at least 1")
    return Model(native.Engine.open(os.fspath(path), device, exact, window, batch))


class Model:
    """A trained model. Made by :func:`medst.load`.

    Methods release the interpreter's lock; calls from several threads take turns. Ctrl-C ends any of them at the next batch.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._width, self._features, self._window, self._side = engine.sizes()

    @property
    def width(self) -> int:
        """Embedding width ``D``."""
        return self._width

    @property
    def feature_width(self) -> int:
        """Width ``H`` of the image encoder."""
        return self._features

    @property
    def window(self) -> int:
        """The longest text that is read whole, in tokens."""
        return self._window

    @property
    def image_size(self) -> int:
        """Side in pixels of what the model sees of a picture."""
        return self._side

    @property
    def path(self) -> str:
        """Where it was read from."""
        return self._engine.about()[0]

    @property
    def card(self) -> dict[str, Any]:
        """What the weights say about themselves: configuration, vocabulary, training data, licence (``config.json``)."""
        return json.loads(self._engine.about()[1])

    @property
    def checksum(self) -> str:
        """SHA-256 of the weights."""
        return self._engine.about()[2]

    @property
    def device(self) -> torch.device:
        """Where it computes. Results are on the CPU."""
        return torch.device(self._engine.about()[3])

    def __repr__(self) -> str:
        return f"<medst.Model {self.path}: D={self.width}, {self.image_size}×{self.image_size} pixels, {self.device}>"

    def embed_images(
        self, images: Iterable[Picture | tuple[Picture, Picture] | Study], *, view: View = "auto", progress: Progress = None
    ) -> torch.Tensor:
        """Embeds images.

        Parameters
        ----------
        images
            Each of them is one of

            * the path of a JPEG, PNG or DICOM file, or the ``bytes`` of one,
            * a PIL image (``1``, ``L``, ``LA``, ``P``, ``RGB``, ``RGBA``, ``I``, ``I;16``),
            * an array or tensor ``[H, W]`` or ``[H, W, C]``: uint8 (0 black, 255 white), or uint16 as in a 16-bit PNG file,
            * a ``pydicom`` dataset,
            * a pair ``(frontal, lateral)`` of any of these, or a :class:`medst.Study` (such as those of a :class:`medst.Corpus`).

            All take the way of a file, so the same picture gives the same embedding in whichever form. (A JPEG file is averaged while it
            is decoded; what PIL decoded of it differs by at most one grey level. ``load(…, exact=True)`` removes that.)
        view
            What single pictures show where their file does not tell it: ``"auto"`` takes them for frontal. One whose DICOM header says
            lateral goes through the lateral expert alone.

        Returns
        -------
        ``[n, D]`` float32 unit vectors, in order.

        Raises
        ------
        medst.MissingFileError, medst.ImageError, medst.InputError
            Names the input that cannot be used; nothing is left out silently.
        """
        rows = self._images(images, view, progress, features=False)
        return tensor(rows.take())

    def image_features(
        self, images: Iterable[Picture | tuple[Picture, Picture] | Study], *, view: View = "auto", progress: Progress = None
    ) -> torch.Tensor:
        """The image encoder's ``[CLS]`` states before projection, which linear probes are trained on.

        Parameters and exceptions as of :meth:`embed_images`.

        Returns
        -------
        ``[n, H]`` float32.
        """
        rows = self._images(images, view, progress, features=True)
        return tensor(rows.take())

    def embed_reports(self, reports: Iterable[str], *, progress: Progress = None) -> torch.Tensor:
        """Embeds reports as hospitals write them; findings and impression are found, and cleaned as in training.

        The end of a report that is longer than :attr:`window` is cut off, as in training; a warning says of how many.

        Returns
        -------
        ``[n, D]`` float32 unit vectors, in order.

        Raises
        ------
        medst.InputError
            Names a report without words.
        """
        return self._texts(reports, "reports", progress, prompts=False)

    def embed_prompts(self, prompts: Iterable[str], *, progress: Progress = None) -> torch.Tensor:
        """Embeds sentences that are compared with images. They are read whole or refused.

        Returns
        -------
        ``[n, D]`` float32 unit vectors, in order.

        Raises
        ------
        medst.InputError
            Names a sentence without words, or one that is longer than :attr:`window`.
        """
        return self._texts(prompts, "prompts", progress, prompts=True)

    def zero_shot(
        self,
        images: Iterable[Picture | tuple[Picture, Picture] | Study],
        classes: PathLike | Sequence[str] | Mapping[str, Sentences],
        *,
        exclusive: bool = False,
        calibration: PathLike | None = None,
        view: View = "auto",
        progress: Progress = None,
    ) -> Classification:
        """Classifies images by sentences.

        Parameters
        ----------
        classes
            Names (whose sentences are those of the zero-shot benchmark); or names with sentences, ``{"edema": ["pulmonary edema"]}`` or
            ``{"edema": {"positive": […], "negative": […]}}``; or the path of a TOML file as ``medst zero-shot --classes`` reads it.
        exclusive
            One of the classes is true, instead of each being there or not. (A file says it itself.)
        calibration
            A file that ``medst zero-shot --fit-calibration`` wrote for this model and these classes.

        Returns
        -------
        Scores and probabilities ``[n, C]``.

        Raises
        ------
        medst.InputError
            Names the class or sentence that cannot be used; a calibration of another model or other classes.
        """
        # What was said of classes is checked before anything long begins.
        file, told = _classes(classes)
        calibrated = None if calibration is None else os.fspath(calibration)
        self._engine.classify(native.Rows(self.width), file, told, exclusive, calibrated)
        rows = self._images(images, view, progress, features=False)
        names, scores, likely, source = self._engine.classify(rows, file, told, exclusive, calibrated)
        return Classification(names, tensor(scores), tensor(likely), source)

    def compare(
        self,
        time_points: Sequence[Picture | tuple[Picture, Picture] | Study],
        findings: Sequence[str] = FINDINGS,
        *,
        calibration: PathLike | None = None,
        view: View = "auto",
    ) -> Comparison:
        """Compares two or more time points of a subject.

        Parameters
        ----------
        time_points
            Earliest first; where all have a ``day``, they are sorted by it. Reports of :class:`medst.Study` take part.
        findings
            What is followed from one time point to the next.
        calibration
            A file that ``medst compare --fit-calibration`` wrote for this model.

        Returns
        -------
        Changes of findings, similarities, and the order that the model believes; ``print`` shows a table.
        """
        points = [given(point, f"time_points[{n}]", view) for n, point in enumerate(time_points)]
        if all(point["day"] is not None for point in points):
            points.sort(key=lambda point: point["day"])
        calibrated = None if calibration is None else os.fspath(calibration)
        told, text = self._engine.compare(points, [name.strip().lower() for name in findings], calibrated)
        return results.comparison(json.loads(told), text)

    def ground(
        self,
        image: Picture | tuple[Picture, Picture] | Study,
        phrases: str | Sequence[str],
        *,
        threshold: float = 0.5,
        view: View = "auto",
    ) -> list[Grounding]:
        """Finds phrases in the pictures of one study.

        Parameters
        ----------
        threshold
            Boxes hold what is hotter than this share of the way from the median to the maximum of the heat map, 0…1.

        Returns
        -------
        One :class:`medst.Grounding` a phrase; boxes are in pixels of the picture as it was given.
        """
        if not 0 <= threshold < 1:
            raise InputError(f"threshold={threshold}: must be at least 0 and below 1")
        phrases = [phrases] if isinstance(phrases, str) else list(phrases)
        found = self._engine.ground(given(image, "image", view), phrases, threshold)
        return [
            results.grounding(
                json.loads(told),
                {name: tensor(array) for name, array in heat},
                [tensor(array) for array in matrices],
            )
            for told, heat, matrices in found
        ]

    def _images(self, images: Iterable[Any], view: View, progress: Progress, *, features: bool) -> Any:
        if isinstance(images, (str, bytes, os.PathLike)):
            raise InputError("images: expected several, in a list; a single one is a list of one")
        rows = native.Rows(self._features if features else self._width)

        def embed(batch: list[tuple[int, Any]]) -> None:
            studies = [given(image, f"images[{n}]", view) for n, image in batch]
            self._engine.embed_images(studies, rows, features)

        _in_batches(images, embed, "embedding images", progress)
        return rows

    def _texts(self, texts: Iterable[str], name: str, progress: Progress, *, prompts: bool) -> torch.Tensor:
        if isinstance(texts, str):
            raise InputError(f"{name}: expected several, in a list; a single one is a list of one")
        rows = native.Rows(self._width)
        truncated = 0

        def embed(batch: list[tuple[int, Any]]) -> None:
            nonlocal truncated
            wrong = next((n for n, text in batch if not isinstance(text, str)), None)
            if wrong is not None:
                raise InputError(f"{name}[{wrong}]: {type(dict(batch)[wrong]).__name__} is no text")
            truncated += self._engine.embed_texts([(f"{name}[{n}]", text) for n, text in batch], rows, prompts)

        _in_batches(texts, embed, f"embedding {name}", progress)
        if truncated:
            warnings.warn(
                f"{truncated} of {len(rows)} {name} are longer than the {self.window} tokens that the model reads; their end was cut off",
                stacklevel=3,
            )
        return tensor(rows.take())


def _in_batches(inputs: Iterable[T], work: Callable[[list[tuple[int, T]]], None], what: str, progress: Progress) -> None:
    """Does the work batch by batch; inputs come one by one and are not kept."""
    total = len(inputs) if isinstance(inputs, Sized) else None
    numbered: Iterator[tuple[int, T]] = iter(enumerate(inputs))
    done, show = 0, shown(progress)
    try:
        while batch := list(islice(numbered, _TOGETHER)):
            work(batch)
            done += len(batch)
            if show is not None:
                show(what, done, total)
    finally:
        if show is not None:
            show.__exit__(None, None, None)


def _classes(classes: Any) -> tuple[str | None, list[tuple[str, list[str], list[str]]]]:
    if isinstance(classes, (str, os.PathLike)):
        return os.fspath(classes), []
    if not isinstance(classes, Mapping):
        return None, [(name, [], []) for name in classes]
    told = []
    for name, sentences in classes.items():
        if isinstance(sentences, str):
            raise InputError(f"class {name}: expected sentences in a list, or lists positive and negative")
        if not isinstance(sentences, Mapping):
            sentences = {"positive": sentences}
        unknown = set(sentences) - {"positive", "negative"}
        if unknown:
            raise InputError(f"class {name}: unknown {sorted(unknown)}; expected positive and negative")
        told.append((name, list(sentences.get("positive", [])), list(sentences.get("negative", []))))
    return None, told
