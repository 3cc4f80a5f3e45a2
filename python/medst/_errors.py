"""Exceptions. Every message names the file, key or input, what was expected, and how to fix it."""


class Error(Exception):
    """Base class of all exceptions of medst."""


class InputError(Error, ValueError):
    """An argument is invalid: a prompt without words, an unknown name, a wrong shape."""


class DataError(Error, ValueError):
    """The contents of a file are invalid: a damaged corpus, weights of another model."""


class ImageError(DataError):
    """An image cannot be read: it is damaged, too large, too narrow, or has an unknown format."""


class FileError(Error, OSError):
    """The operating system reported an error for a file; see ``errno`` and ``filename``."""


class MissingFileError(FileError, FileNotFoundError):
    """A file does not exist."""


class FilePermissionError(FileError, PermissionError):
    """Permission to read or write a file was denied."""


class EngineError(Error, RuntimeError):
    """An error during computation."""
