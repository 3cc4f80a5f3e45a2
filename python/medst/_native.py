"""Loads the native module together with the libtorch of the installed package torch, against which
it was linked.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
from types import ModuleType


def torch_folder() -> str:
    """The folder of the installed torch, without importing it.

    Raises
    ------
    ImportError
        torch is not installed.
    """
    found = importlib.util.find_spec("torch")
    if found is None or not found.submodule_search_locations:
        raise ImportError("medst requires the package torch, which is not installed; run: pip install torch")
    return next(iter(found.submodule_search_locations))


def load() -> ModuleType:
    """The native module.

    Raises
    ------
    ImportError
        torch is missing, or its version differs from the one that medst was built for: the C++
        interface of torch changes with every version.
    """
    # If torch and medst are in different package folders, the library path in the module does not
    # lead to torch; a library that is already loaded is used wherever it is.
    library = os.path.join(torch_folder(), "lib", "libtorch_cpu.so")
    try:
        ctypes.CDLL(library)
        from medst import _medst
    except (ImportError, OSError) as error:
        raise ImportError(f"cannot load the libtorch that medst was built for: {error}{_versions()}") from error
    return _medst


def _versions() -> str:
    requires = [need for need in importlib.metadata.requires("medst") or [] if need.startswith("torch")]
    found = importlib.metadata.version("torch")
    return f" (torch {found} is installed, medst requires {', '.join(requires)})" if requires else ""
