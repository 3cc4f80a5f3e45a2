"""A prepared corpus as a data set of torch."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any, Generic, Literal, TypeVar, Union

import numpy as np
from torch.utils.data import Dataset

from medst._engine import native
from medst._errors import InputError, MissingFileError
from medst.study import Study

T_co = TypeVar("T_co", covariant=True)


class Corpus(Dataset, Generic[T_co]):
    """The studies of a corpus that ``medst prepare`` or :func:`medst.prepare` made; a ``torch.utils.data.Dataset``.

    >>> corpus = medst.Corpus("corpus", split="train")
    >>> corpus[0].frontal.shape, corpus[0].report
    ((256, 256), 'the lungs are clear')

    Studies are :class:`medst.Study` values: ``frontal`` and ``lateral`` (``None`` where there is none) are grey pictures of
    ``image_size`` × ``image_size`` pixels, ``report`` is cleaned text or ``None``, ``day`` is in days. Pictures stay on the disk
    until a study is asked for; what comes is a copy that may be changed. Data loaders with several workers open the corpus once each.

    Parameters
    ----------
    path
        The folder with ``corpus.json``.
    split
        ``"train"``, ``"validate"`` or ``"test"``; ``None`` for all studies, in the order of the corpus.
    images
        ``"numpy"``: uint8 arrays ``[S, S]``; ``"pil"``: images of mode ``L``.
    transform
        A function of a :class:`medst.Study`; what it returns is what the data set gives.

    Raises
    ------
    medst.MissingFileError
        There is nothing at ``path``.
    medst.DataError
        What is there is no corpus, or a damaged one.
    """

    def __init__(
        self,
        path: Union[str, os.PathLike[str]],
        split: str | None = None,
        *,
        images: Literal["numpy", "pil"] = "numpy",
        transform: Callable[[Study], T_co] | None = None,
    ) -> None:
        if images not in ("numpy", "pil"):
            raise InputError(f"images={images!r}: expected numpy or pil")
        self.path = os.fspath(path)
        self.split = split
        self.images = images
        self.transform = transform
        self._open()

    def _open(self) -> None:
        # An address in object storage is no path; opening it says what is there.
        if not self.path.startswith("s3:/") and not os.path.exists(self.path):
            raise MissingFileError(2, "no such corpus", self.path)
        self._corpus = native.Corpus.open(self.path)
        self._rows = self._corpus.rows(self.split)

    # What is open stays in its process.
    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_corpus"], state["_rows"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    @property
    def image_size(self) -> int:
        """Side of the pictures in pixels."""
        return self._corpus.image_size

    @property
    def manifest(self) -> dict[str, Any]:
        """``corpus.json``: source, settings, counts, checksums."""
        return json.loads(self._corpus.manifest())

    @property
    def fingerprint(self) -> str:
        """Changes with any picture, study or sequence."""
        return self._corpus.fingerprint

    @property
    def sequences(self) -> list[list[int]]:
        """For each sequence (the studies of one subject in time order) the numbers of its studies in this data set."""
        place = {row: number for number, row in enumerate(self._rows)}
        return [[place[row] for row in rows] for rows in self._corpus.sequences(self.split)]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> T_co | Study:
        study = self.study(number)
        return study if self.transform is None else self.transform(study)

    def __iter__(self) -> Iterator[T_co | Study]:
        return (self[number] for number in range(len(self)))

    def study(self, number: int) -> Study:
        """As ``corpus[number]``, without the transform."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"study {number} of {len(self)}")
        told = self._corpus.study(self._rows[number])
        return Study(
            frontal=self._picture(told["frontal"]),
            lateral=None if told["lateral"] is None else self._picture(told["lateral"]),
            report=told["report"],
            day=told["day"],
            study_id=told["study_id"],
            subject_id=told["subject_id"],
            split=told["split"],
            labels=told["labels"],
        )

    def describe(self, number: int) -> Study:
        """As :meth:`study`, without reading the pictures."""
        told = self._corpus.study(self._rows[number])
        known = {key: told[key] for key in ("report", "day", "study_id", "subject_id", "split", "labels")}
        return Study(**known)

    def _picture(self, number: int) -> Any:
        side = self.image_size
        pixels = np.frombuffer(self._corpus.image(number), dtype=np.uint8).reshape(side, side)
        if self.images == "numpy":
            return pixels
        from PIL import Image

        return Image.fromarray(pixels)

    def __repr__(self) -> str:
        part = f", {self.split}" if self.split else ""
        return f"<medst.Corpus {self.path}{part}: {len(self)} studies, {self.image_size}×{self.image_size} pixels>"
