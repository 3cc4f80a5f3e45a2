"""Use of a trained model.

Letters: ``n`` inputs, ``D`` embedding width, ``H`` width of the image encoder, ``C`` classes.
Embeddings are unit vectors, so their dot products are cosines. Embeddings of models with different
weights cannot be compared (``Model.checksum``).
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
from medst.results import Classification, Comparison, FindingChange, Grounding, Prediction, Series
from medst.study import Picture, Study, View, given

PathLike = Union[str, "os.PathLike[str]"]
#: Sentences that state a class, or sentences that state it and sentences that deny it.
Sentences = Union[Sequence[str], Mapping[Literal["positive", "negative"], Sequence[str]]]
T = TypeVar("T")

# Inputs per call of the native module.
_TOGETHER = 32
#: The findings of MS-CXR-T.
FINDINGS: tuple[str, ...] = tuple(native.MS_CXR_T)


def load(
    path: PathLike,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    exact: bool = False,
    window: Literal["declared", "reference"] = "declared",
    batch: int = 16,
    progress: Progress = None,
) -> Model:
    """Loads a model: a built-in one by its name (``"phantom"``), the folder of a run or checkpoint,
    a checkpoint file of the reference implementation, or a model on a hub
    (``"hf://OWNER/NAME[@REVISION]"``), whose files are kept in the cache of ``huggingface_hub`` and
    found by the same environment variables (``HF_HOME``, ``HF_TOKEN``, ``HF_HUB_OFFLINE``, …).

    Parameters
    ----------
    device
        ``"auto"`` uses a CUDA device if torch finds one.
    exact
        Decode every pixel of JPEG files. By default, large files are averaged while decoding, which
        is faster and accurate within one grey level.
    window
        How DICOM pixel values are mapped to grey levels: as the file declares, or scaled by their
        maximum as in the reference implementation.
    batch
        Images per batch; affects speed and memory, not results.
    progress
        How a download is shown, see :data:`medst.Progress`.

    Raises
    ------
    medst.MissingFileError
        ``path`` does not exist.
    medst.DataError
        ``path`` is not a model, or its hub cannot be reached or refuses it.
    """
    names = native.model_names()
    hub = os.fspath(path).startswith("hf:/")
    if not hub and not os.path.exists(path) and os.fspath(path) not in names:
        raise MissingFileError(
            2, f"no such run, checkpoint or weight file; built-in models: {', '.join(names)}", os.fspath(path)
        )
    if batch < 1:
        raise InputError(f"batch={batch}: must be at least 1")
    show = shown(progress)
    try:
        return Model(native.Engine.open(os.fspath(path), device, exact, window, batch, show))
    finally:
        if show is not None:
            show.__exit__(None, None, None)


class Model:
    """A trained model, returned by :func:`medst.load`.

    Methods release the GIL; calls from several threads run one after the other. Ctrl-C interrupts a
    call at the next batch.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        sizes = engine.sizes()
        self._width, self._features = sizes["width"], sizes["feature_width"]
        self._window, self._side = sizes["window"], sizes["side"]

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
        """Maximum length of a text in tokens; longer reports are cut off."""
        return self._window

    @property
    def image_size(self) -> int:
        """Side of the model's input image in pixels."""
        return self._side

    @property
    def path(self) -> str:
        """Path that it was loaded from."""
        return self._engine.about()[0]

    @property
    def card(self) -> dict[str, Any]:
        """Metadata of the weights: configuration, vocabulary, training data, licence
        (``config.json``).
        """
        return json.loads(self._engine.about()[1])

    @property
    def checksum(self) -> str:
        """SHA-256 of the weights."""
        return self._engine.about()[2]

    @property
    def device(self) -> torch.device:
        """Device that it computes on. Results are on the CPU."""
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
            Each image is one of

            * the path of a JPEG, PNG or DICOM file, or the ``bytes`` of one,
            * a PIL image (``1``, ``L``, ``LA``, ``P``, ``RGB``, ``RGBA``, ``I``, ``I;16``),
            * an array or tensor ``[H, W]`` or ``[H, W, C]``: uint8 (0 black, 255 white), or uint16
              as in a 16-bit PNG file,
            * a ``pydicom`` dataset,
            * a pair ``(frontal, lateral)`` of any of these, or a :class:`medst.Study` (such as
              those of a :class:`medst.Corpus`).

            All forms are processed like files, so the same image has the same embedding in every
            form. (JPEG files are averaged while decoding; the same image decoded by PIL differs by
            at most one grey level. ``load(…, exact=True)`` removes the difference.)
        view
            View of single images whose file states none; ``"auto"`` assumes frontal. Images whose
            DICOM header says lateral use the lateral experts.

        Returns
        -------
        ``[n, D]`` float32 unit vectors, in order.

        Raises
        ------
        medst.MissingFileError, medst.ImageError, medst.InputError
            An input cannot be used; the message names it. No input is skipped silently.
        """
        rows = self._images(images, view, progress, features=False)
        return tensor(rows.take())

    def image_features(
        self, images: Iterable[Picture | tuple[Picture, Picture] | Study], *, view: View = "auto", progress: Progress = None
    ) -> torch.Tensor:
        """Returns the image encoder's ``[CLS]`` states before projection, on which linear probes
        are trained.

        Parameters and exceptions are those of :meth:`embed_images`.

        Returns
        -------
        ``[n, H]`` float32.
        """
        rows = self._images(images, view, progress, features=True)
        return tensor(rows.take())

    def embed_reports(self, reports: Iterable[str], *, progress: Progress = None) -> torch.Tensor:
        """Embeds reports as written by radiologists; findings and impression are extracted and
        cleaned as in training.

        Reports longer than :attr:`window` are cut off, as in training; a warning states how many.

        Returns
        -------
        ``[n, D]`` float32 unit vectors, in order.

        Raises
        ------
        medst.InputError
            A report has no words; the message names it.
        """
        return self._texts(reports, "reports", progress, prompts=False)

    def embed_prompts(self, prompts: Iterable[str], *, progress: Progress = None) -> torch.Tensor:
        """Embeds sentences to compare with images. Sentences are never cut off.

        Returns
        -------
        ``[n, D]`` float32 unit vectors, in order.

        Raises
        ------
        medst.InputError
            A sentence has no words or is longer than :attr:`window`; the message names it.
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
            Names (with the sentences of the zero-shot benchmark); or names with sentences,
            ``{"edema": ["pulmonary edema"]}`` or ``{"edema": {"positive": […], "negative": […]}}``;
            or the path of a TOML file for ``medst zero-shot --classes``.
        exclusive
            Exactly one of the classes applies, instead of each being present or absent
            independently. (A TOML file states this itself.)
        calibration
            Calibration file that ``medst zero-shot --fit-calibration`` wrote for this model and
            these classes.

        Returns
        -------
        Scores and probabilities ``[n, C]``.

        Raises
        ------
        medst.InputError
            A class or sentence cannot be used (the message names it), or the calibration belongs to
            another model or other classes.
        """
        # Check the classes before embedding, which takes long.
        file, sentences = _classes(classes)
        calibrated = None if calibration is None else os.fspath(calibration)
        self._engine.classify(native.Rows(self.width), file, sentences, exclusive, calibrated)
        rows = self._images(images, view, progress, features=False)
        names, scores, likely, source = self._engine.classify(rows, file, sentences, exclusive, calibrated)
        return Classification(names, tensor(scores), tensor(likely), source)

    def predict(
        self, images: Iterable[Picture | tuple[Picture, Picture] | Study], *, view: View = "auto", progress: Progress = None
    ) -> Prediction:
        """Predicts by the head of a fine-tuned model (``medst finetune``).

        Parameters
        ----------
        images
            As for :meth:`embed_images`. For a model of changes: images of one patient, earliest
            first; each but the first is compared with the one before it.

        Raises
        ------
        medst.InputError
            The model was not fine-tuned, or it is a model of changes and only one image was given.
        """
        # Ask for the head before embedding, which takes long.
        self._engine.predict(native.Rows(self.feature_width))
        names, probabilities = self._engine.predict(self._images(images, view, progress, features=True))
        return Prediction(names, tensor(probabilities))

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
            Time points, earliest first; if all have a ``day``, they are sorted by it. Reports of
            :class:`medst.Study` are used as well.
        findings
            Findings to follow from one time point to the next.
        calibration
            Calibration file that ``medst compare --fit-calibration`` wrote for this model.

        Returns
        -------
        Changes of findings from step to step and over the whole series (where each is seen first
        and where it is worst), similarities, and the most probable order in time; ``print`` shows a
        table.
        """
        points = _by_day([given(point, f"time_points[{n}]", view) for n, point in enumerate(time_points)])
        return self._compare(points, findings, calibration)

    def change(
        self,
        current: Picture | tuple[Picture, Picture] | Study,
        previous: Picture | tuple[Picture, Picture] | Study,
        findings: Sequence[str] = FINDINGS,
        *,
        calibration: PathLike | None = None,
        view: View = "auto",
    ) -> list[FindingChange]:
        """Returns how findings changed from the previous image to the current one, as
        :meth:`compare` does for any number of time points.

        Parameters
        ----------
        current, previous
            The later and the earlier image, pair of views, or study of the same subject.
        findings, calibration, view
            As in :meth:`compare`.

        Returns
        -------
        A :class:`medst.FindingChange` for each finding, in order. ``towards_worse`` is above 0 if
        the current image is worse; with a calibration, ``courses`` are the probabilities of
        improving, stable and worsening.

        Raises
        ------
        medst.InputError
            Both have a ``day``, and that of ``current`` is the earlier one.
        """
        points = [given(previous, "previous", view), given(current, "current", view)]
        days = [point["day"] for point in points]
        if None not in days and days[0] > days[1]:
            raise InputError(f"current is of day {days[1]}, before previous of day {days[0]}; exchange them")
        return self._compare(points, findings, calibration).steps[0].findings

    def embed_series(
        self, time_points: Sequence[Picture | tuple[Picture, Picture] | Study], *, view: View = "auto", progress: Progress = None
    ) -> Series:
        """Embeds the time points of one subject in time order.

        Parameters
        ----------
        time_points
            As in :meth:`compare`: earliest first; if all have a ``day``, they are sorted by it.
            Reports of :class:`medst.Study` are embedded, too.

        Returns
        -------
        A :class:`medst.Series`: images ``[T, D]``, reports ``[T, D]`` (NaN for a time point without
        one), days and the order.
        """
        points = list(time_points)
        if not points:
            raise InputError("time_points: expected at least one")
        days = [point.day if isinstance(point, Study) else None for point in points]
        order = list(range(len(points)))
        if None not in days:
            order.sort(key=lambda n: days[n])
        images = self.embed_images([points[n] for n in order], view=view, progress=progress)
        reported = [(place, points[n].report) for place, n in enumerate(order) if isinstance(points[n], Study) and points[n].report]
        reports = torch.full_like(images, float("nan"))
        if reported:
            reports[[place for place, _ in reported]] = self.embed_reports([report for _, report in reported], progress=progress)
        return Series(images, reports, [days[n] for n in order], order)

    def _compare(self, points: list[dict[str, Any]], findings: Sequence[str], calibration: PathLike | None) -> Comparison:
        calibrated = None if calibration is None else os.fspath(calibration)
        answer, text = self._engine.compare(points, [name.strip().lower() for name in findings], calibrated)
        return results.comparison(json.loads(answer), text)

    def ground(
        self,
        image: Picture | tuple[Picture, Picture] | Study,
        phrases: str | Sequence[str],
        *,
        threshold: float = 0.5,
        view: View = "auto",
    ) -> list[Grounding]:
        """Locates phrases in the images of one study.

        Parameters
        ----------
        threshold
            Boxes enclose the heat map above this fraction of the way from its median to its
            maximum, 0…1.

        Returns
        -------
        One :class:`medst.Grounding` per phrase; boxes are in pixels of the given image.
        """
        if not 0 <= threshold < 1:
            raise InputError(f"threshold={threshold}: must be at least 0 and below 1")
        phrases = [phrases] if isinstance(phrases, str) else list(phrases)
        found = self._engine.ground(given(image, "image", view), phrases, threshold)
        return [
            results.grounding(
                json.loads(description),
                {name: tensor(array) for name, array in heat},
                [tensor(array) for array in matrices],
            )
            for description, heat, matrices in found
        ]

    def _images(self, images: Iterable[Any], view: View, progress: Progress, *, features: bool) -> Any:
        if isinstance(images, (str, bytes, os.PathLike)):
            raise InputError("images: expected a list; put a single image into a list")
        rows = native.Rows(self._features if features else self._width)

        def embed(batch: list[tuple[int, Any]]) -> None:
            studies = [given(image, f"images[{n}]", view) for n, image in batch]
            self._engine.embed_images(studies, rows, features)

        _in_batches(images, embed, "embedding images", progress)
        return rows

    def _texts(self, texts: Iterable[str], name: str, progress: Progress, *, prompts: bool) -> torch.Tensor:
        if isinstance(texts, str):
            raise InputError(f"{name}: expected a list; put a single text into a list")
        rows = native.Rows(self._width)
        truncated = 0

        def embed(batch: list[tuple[int, Any]]) -> None:
            nonlocal truncated
            wrong = next((n for n, text in batch if not isinstance(text, str)), None)
            if wrong is not None:
                raise InputError(f"{name}[{wrong}]: {type(dict(batch)[wrong]).__name__} is not a string")
            truncated += self._engine.embed_texts([(f"{name}[{n}]", text) for n, text in batch], rows, prompts)

        _in_batches(texts, embed, f"embedding {name}", progress)
        if truncated:
            warnings.warn(
                f"{truncated} of {len(rows)} {name} are longer than the model's maximum of {self.window} tokens and were cut off",
                stacklevel=3,
            )
        return tensor(rows.take())


def _by_day(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In time order, where every day is known."""
    return sorted(points, key=lambda point: point["day"]) if all(point["day"] is not None for point in points) else points


def _in_batches(inputs: Iterable[T], work: Callable[[list[tuple[int, T]]], None], what: str, progress: Progress) -> None:
    """Processes inputs in batches; inputs are consumed one by one and not kept."""
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


def _classes(classes: Any) -> tuple[str | None, list[dict[str, Any]]]:
    if isinstance(classes, (str, os.PathLike)):
        return os.fspath(classes), []
    if not isinstance(classes, Mapping):
        return None, [{"name": name, "positive": [], "negative": []} for name in classes]
    found = []
    for name, sentences in classes.items():
        if isinstance(sentences, str):
            raise InputError(f"class {name}: expected a list of sentences, or the lists positive and negative")
        if not isinstance(sentences, Mapping):
            sentences = {"positive": sentences}
        unknown = set(sentences) - {"positive", "negative"}
        if unknown:
            raise InputError(f"class {name}: unknown keys {sorted(unknown)}; expected positive and negative")
        positive, negative = list(sentences.get("positive", [])), list(sentences.get("negative", []))
        found.append({"name": name, "positive": positive, "negative": negative})
    return None, found
