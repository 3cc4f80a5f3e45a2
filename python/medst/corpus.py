"""A prepared corpus as a torch data set."""

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
    """The studies of a corpus made by ``medst prepare`` or :func:`medst.prepare`; a
    ``torch.utils.data.Dataset``.

    >>> corpus = medst.Corpus("corpus", split="train")
    >>> corpus[0].frontal.shape, corpus[0].report
    ((256, 256), 'the lungs are clear')

    Items are :class:`medst.Study` values: ``frontal`` and ``lateral`` (or ``None``) are grey images
    of ``image_size`` × ``image_size`` pixels, ``report`` is cleaned text or ``None``, ``day`` is in
    days. Images are read from disk when a study is accessed, and are copies that may be modified.
    Each worker of a data loader opens the corpus once.

    Parameters
    ----------
    path
        The folder with ``corpus.json``.
    split
        ``"train"``, ``"validate"`` or ``"test"``; ``None`` for all studies, in the order of the
        corpus.
    images
        ``"numpy"``: uint8 arrays ``[S, S]``; ``"pil"``: images of mode ``L``.
    transform
        Function that is applied to each :class:`medst.Study`; the data set returns its result.

    Raises
    ------
    medst.MissingFileError
        ``path`` does not exist.
    medst.DataError
        ``path`` is not a corpus, or the corpus is damaged.
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
        # An address in object storage is not a path; opening it reports whether it exists.
        if not self.path.startswith("s3:/") and not os.path.exists(self.path):
            raise MissingFileError(2, "no such corpus", self.path)
        self._corpus = native.Corpus.open(self.path)
        self._rows = self._corpus.rows(self.split)

    # An open corpus cannot be sent to another process.
    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_corpus"], state["_rows"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self._corpus.image_size

    @property
    def manifest(self) -> dict[str, Any]:
        """``corpus.json``: source, settings, counts, checksums."""
        return json.loads(self._corpus.manifest())

    @property
    def fingerprint(self) -> str:
        """Hash that changes with any image, study or sequence."""
        return self._corpus.fingerprint

    @property
    def sequences(self) -> list[list[int]]:
        """For each sequence (studies of one subject in time order), the indices of its studies in
        this data set.
        """
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
        """Like ``corpus[number]``, without the transform."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"index {number} is out of range for {len(self)} studies")
        fields = self._corpus.study(self._rows[number])
        return Study(
            frontal=self._picture(fields["frontal"]),
            lateral=None if fields["lateral"] is None else self._picture(fields["lateral"]),
            report=fields["report"],
            day=fields["day"],
            study_id=fields["study_id"],
            subject_id=fields["subject_id"],
            split=fields["split"],
            labels=fields["labels"],
        )

    def describe(self, number: int) -> Study:
        """Like :meth:`study`, without reading the images."""
        fields = self._corpus.study(self._rows[number])
        known = {key: fields[key] for key in ("report", "day", "study_id", "subject_id", "split", "labels")}
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
