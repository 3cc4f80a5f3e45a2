"""The command ``medst``, as the wheel installs it: the same program as the binary of that name."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    from medst import _native

    # The command installs its own handlers; Python's would raise KeyboardInterrupt after the
    # command has ended cleanly.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_DFL)
    code = _native.load().command(["medst", *sys.argv[1:]])
    sys.stdout.flush()
    sys.exit(code)


if __name__ == "__main__":
    main()
