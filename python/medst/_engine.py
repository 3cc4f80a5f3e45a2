"""The native module, for modules that also use torch in Python. torch is imported first, so that
both share one library.
"""

from __future__ import annotations

import importlib

import torch

from medst import _native

native = _native.load()

if torch.__version__.split("+")[0] != native.ENGINE:
    raise ImportError(
        f"medst {native.VERSION} was built for torch {native.ENGINE}, but torch {torch.__version__} is installed: "
        f"pip install torch=={native.ENGINE}"
    )

# Errors are made by name.
importlib.import_module("medst._errors")


def tensor(array: object) -> torch.Tensor:
    """A tensor that shares the memory of the native module."""
    return torch.from_dlpack(array)


def lent(x: torch.Tensor) -> object:
    """A tensor for the native module, which shares its memory."""
    return torch.utils.dlpack.to_dlpack(x.detach())
