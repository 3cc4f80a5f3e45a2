"""The examples run unchanged, and the models that they train learn."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name: str, *arguments: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, EXAMPLES / name, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_scikit_learn_probe(work):
    pytest.importorskip("sklearn")
    out = run("probe.py", "--model", "run", "--corpus", "corpus", cwd=work)
    areas = [float(area) for area in re.findall(r"^[a-z_]+ +(\d\.\d{3})  ", out, re.MULTILINE)]
    assert len(areas) >= 4 and all(0 <= area <= 1 for area in areas), out
    assert re.search(r"^mean +0\.\d{3}$", out, re.MULTILINE), out


def test_the_losses_in_a_plain_loop(work):
    out = run("losses_in_pytorch.py", "--corpus", "corpus", "--steps", "40", "--subjects", "8", cwd=work)
    totals = [float(total) for total in re.findall(r"total (-?\d+\.\d+)", out)]
    assert len(totals) == 5 and totals[-1] < 0.8 * totals[0], out
