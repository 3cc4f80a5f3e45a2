"""What can go wrong. Every message names the file, key or input, what was expected, and how to mend it."""


class Error(Exception):
    """Whatever medst raises."""


class InputError(Error, ValueError):
    """What was given cannot be used: a prompt without words, an unknown name, a wrong shape."""


class DataError(Error, ValueError):
    """A file is there but is not what it should be: a damaged corpus, weights of another model."""


class ImageError(DataError):
    """A picture cannot be read: damaged, of an unknown format, too large or too thin."""


class FileError(Error, OSError):
    """The operating system refused a file; ``errno`` and ``filename`` say why and which."""


class MissingFileError(FileError, FileNotFoundError):
    """A file is not there."""


class FilePermissionError(FileError, PermissionError):
    """A file may not be read or written."""


class EngineError(Error, RuntimeError):
    """An error while computing."""
