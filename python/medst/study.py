"""Inputs of a model: images in any form, and studies."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from medst._errors import ImageError, InputError

#: A radiograph: the path of a JPEG, PNG or DICOM file, the bytes of one, a PIL image, an array, a
#: tensor, or a pydicom dataset.
Picture = Any
View = Literal["auto", "frontal", "lateral"]


@dataclass
class Study:
    """One visit of a subject: a frontal and a lateral radiograph (at least one of them), and
    further data.

    ``frontal`` and ``lateral`` are images in any form that :meth:`medst.Model.embed_images`
    accepts; those of a corpus are ``[S, S]`` uint8 arrays or PIL images. ``day`` is in days; only
    differences matter.
    """

    frontal: Picture | None = None
    lateral: Picture | None = None
    report: str | None = None
    day: float | None = None
    study_id: str | None = None
    subject_id: str | None = None
    split: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


def given(study: Any, name: str, view: View) -> dict[str, Any]:
    """Converts a study for the native module.

    ``study`` is an image, a pair (frontal, lateral), or a :class:`Study`.
    """
    if view not in ("auto", "frontal", "lateral"):
        raise InputError(f"view={view!r}: expected auto, frontal or lateral")
    if isinstance(study, Study):
        own = study
        if own.frontal is None and own.lateral is None:
            raise InputError(f"{own.study_id or name}: the study has no image")
    elif isinstance(study, tuple):
        if len(study) != 2:
            raise InputError(f"{name}: expected a pair (frontal, lateral), not a tuple of {len(study)} elements")
        own = Study(frontal=study[0], lateral=study[1])
    else:
        own = Study(frontal=study)
    label = own.study_id or (os.fspath(own.frontal) if isinstance(own.frontal, (str, os.PathLike)) else name)
    frontal = None if own.frontal is None else picture(own.frontal, name)
    lateral = None if own.lateral is None else picture(own.lateral, f"{name} (lateral)")
    return {
        "name": label,
        "frontal": frontal,
        "lateral": lateral,
        "view": view,
        "report": own.report,
        "day": own.day,
    }


def picture(image: Picture, name: str) -> tuple[Any, ...]:
    """Converts a radiograph for the native module."""
    if isinstance(image, (str, os.PathLike)):
        return ("file", os.fspath(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return ("bytes", name, bytes(image))
    module = type(image).__module__.split(".")[0]
    if module == "pydicom":
        return ("bytes", name, _dicom(image, name))
    if module == "PIL" or hasattr(image, "convert"):
        return _pixels(_of_pil(image, name), name)
    if module == "torch":
        image = image.detach().cpu().numpy()
    if isinstance(image, np.ndarray):
        return _pixels(image, name)
    raise InputError(
        f"{name}: {type(image).__name__} is not an image; "
        "expected a path, bytes of a file, a PIL image, an array, a tensor or a pydicom dataset"
    )


def _of_pil(image: Any, name: str) -> np.ndarray:
    from PIL import ImageOps

    # Apply the EXIF orientation, as for files.
    image = ImageOps.exif_transpose(image)
    if image.mode in ("1", "L", "LA", "RGB", "RGBA", "I;16", "I;16L", "I;16B"):
        pass
    elif image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode == "I":
        # 32-bit integers, in which some versions of PIL hold the 16 bits of a PNG file.
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(f"{name}: values from {values.min()} to {values.max()} are out of range; scale them to 8 or 16 bits")
        return values.astype(np.uint16)
    else:
        raise ImageError(f"{name}: unsupported PIL mode {image.mode}; expected 1, L, LA, P, RGB, RGBA, I or I;16")
    values = np.asarray(image)
    return values.astype(np.uint8) * 255 if image.mode == "1" else values


def _pixels(values: np.ndarray, name: str) -> tuple[Any, ...]:
    """An array ``[H, W]`` or ``[H, W, C]`` of uint8 or (as in a 16-bit PNG file) uint16."""
    if values.ndim not in (2, 3):
        raise ImageError(f"{name}: expected an array of shape [H, W] or [H, W, C], not {list(values.shape)}")
    if values.dtype == np.uint16 or values.dtype == np.dtype(">u2"):
        values = _of_words(values)
    elif values.dtype != np.uint8:
        raise ImageError(
            f"{name}: expected an array of uint8 (0 black, 255 white) or uint16, not {values.dtype}; "
            "scale it to one of these"
        )
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    return ("pixels", name, np.ascontiguousarray(values).tobytes(), height, width, channels)


def _of_words(values: np.ndarray) -> np.ndarray:
    """16-bit values to 8 bits: their high bytes, unless the largest shows that they have 8, 10, 12
    or 14 bits only.
    """
    has_alpha = values.ndim == 3 and values.shape[2] in (2, 4)
    largest = int((values[..., :-1] if has_alpha else values).max(initial=0))
    depth = next((depth for depth in (8, 10, 12, 14) if largest < 1 << depth), 16)
    if depth == 16 or largest == 0:
        return (values >> 8).astype(np.uint8)
    white = (1 << depth) - 1
    grey = ((values.astype(np.uint32) * 255 + white // 2) // white).clip(max=255).astype(np.uint8)
    if has_alpha:
        grey[..., -1] = values[..., -1] >> 8
    return grey


def _dicom(dataset: Any, name: str) -> bytes:
    """Writes the dataset as a file, which is then read like any other."""
    buffer = io.BytesIO()
    try:
        dataset.save_as(buffer, enforce_file_format=True)
    except Exception as error:
        raise ImageError(
            f"{name}: the dataset cannot be written as a DICOM file ({error}); "
            "use a dataset from pydicom.dcmread, or set file_meta.TransferSyntaxUID"
        ) from error
    return buffer.getvalue()
