"""Progress of long calls: a bar on a terminal, a callback, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Optional, Union

#: ``None``: a bar if standard error is a terminal; ``True``, ``False``; or
#: ``function(what, done, total)``, where ``total`` may be ``None``.
Progress = Union[None, bool, Callable[[str, int, Optional[int]], None]]

_WIDTH = 30


def shown(progress: Progress) -> Bar | _Call | None:
    """The object that shows the progress of a call; ``None`` to show nothing."""
    if callable(progress):
        return _Call(progress)
    if progress is None:
        progress = sys.stderr.isatty()
    return Bar() if progress else None


class _Call:
    """Calls a function of the caller whenever the progress has changed."""

    def __init__(self, function: Callable[[str, int, int | None], None]) -> None:
        self._function = function
        self._last: tuple[str, int, int | None] | None = None

    def __call__(self, what: str, done: int, total: int | None) -> None:
        if (what, done, total) != self._last:
            self._last = (what, done, total)
            self._function(what, done, total)

    def __enter__(self) -> _Call:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class Bar:
    """A line on standard error with rate and remaining time, redrawn in place."""

    def __init__(self) -> None:
        self._what = ""
        self._start = time.monotonic()
        self._drawn = 0.0

    def __call__(self, what: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if what != self._what:
            self._clear()
            self._what, self._start = what, now
        elif now - self._drawn < 0.1 and done != total:
            return
        self._drawn = now
        rate = done / max(now - self._start, 1e-9)
        if total:
            full = _WIDTH * done // total
            left = (total - done) / rate if rate > 0 else float("inf")
            line = f"{what} {'█' * full}{'░' * (_WIDTH - full)} {done}/{total} {rate:.1f}/s {_time(left)} left"
        else:
            line = f"{what} {done} {rate:.1f}/s"
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()

    def _clear(self) -> None:
        if self._what:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._clear()


def _time(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
