"""The package as a whole: the command, Ctrl-C, progress, the lock, stubs."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import medst
from conftest import medst_command


def test_the_command_is_there_with_its_exit_codes(tmp_path):
    assert medst_command("--version", cwd=tmp_path).stdout.startswith("medst ")
    assert "pretrain" in medst_command("--help", cwd=tmp_path).stdout
    assert "phantom" in medst_command("phantom", "--bad", cwd=tmp_path, code=2).stderr
    assert "nowhere" in medst_command("inspect", "nowhere", cwd=tmp_path, code=1).stderr


def test_the_command_and_the_import_need_no_python_half_of_torch(tmp_path):
    code = "import sys, medst, medst._command, medst._native; medst._native.load(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0


def interrupted(code: str, cwd: Path, wait_for: str) -> tuple[int, str]:
    """Starts a program, sends Ctrl-C once it has printed something; exit code and output."""
    program = subprocess.Popen([sys.executable, "-u", "-c", code], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert program.stdout is not None
    out = ""
    while wait_for not in out:
        line = program.stdout.readline()
        assert line, out
        out += line
    program.send_signal(signal.SIGINT)
    rest, _ = program.communicate(timeout=120)
    return program.returncode, out + rest


def test_ctrl_c_ends_a_long_call_with_keyboard_interrupt(tmp_path):
    # Far more patients than could be drawn within the test.
    code = (
        "import medst\n"
        "def show(what, done, total): print(what, done, flush=True)\n"
        "try: medst.phantom('cohort', subjects=200000, size=96, progress=show)\n"
        "except KeyboardInterrupt: print('interrupted', flush=True)\n"
    )
    status, out = interrupted(code, tmp_path, " 1")
    assert status == 0 and "interrupted" in out, out
    # After the interruption a cohort can be drawn in the same folder.
    assert medst.phantom(tmp_path / "cohort", subjects=1, size=64)["subjects"] == 1


def test_ctrl_c_ends_embedding_at_the_next_batch(work, radiographs):
    code = (
        "import itertools, medst\n"
        f"model, path = medst.load('run'), {str(radiographs[0])!r}\n"
        "def show(what, done, total): print(what, done, flush=True)\n"
        "try: model.embed_images(itertools.repeat(path), progress=show)\n"
        "except KeyboardInterrupt: print('interrupted', flush=True)\n"
    )
    status, out = interrupted(code, work, "embedding images")
    assert status == 0 and "interrupted" in out, out


def test_ctrl_c_ends_the_command_with_130(tmp_path):
    program = subprocess.Popen(
        [sys.executable, "-m", "medst._command", "phantom", "cohort", "--subjects", "200000", "--size", "96"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (tmp_path / "cohort" / "images").exists():
        assert program.poll() is None
        time.sleep(0.02)
    program.send_signal(signal.SIGINT)
    _, error = program.communicate(timeout=120)
    assert program.returncode == 130 and "Traceback" not in error, error


def test_progress_is_told_from_nothing_to_all(work, model, radiographs, tmp_path):
    calls: list[tuple[str, int, int | None]] = []
    model.embed_images(radiographs[:40], progress=lambda *own: calls.append(own))
    assert calls == [("embedding images", 32, 40), ("embedding images", 40, 40)]
    calls.clear()
    medst.phantom(tmp_path / "cohort", subjects=3, size=64, progress=lambda *own: calls.append(own))
    assert calls[-1][1] == calls[-1][2] == 3, calls


def test_an_exception_of_the_progress_function_goes_on_its_way(tmp_path):
    def show(*_: object) -> None:
        raise ZeroDivisionError("of the caller's")

    with pytest.raises(ZeroDivisionError):
        medst.phantom(tmp_path / "cohort", subjects=200000, size=96, progress=show)


def test_a_bar_is_drawn_and_cleared(radiographs, model, capsys):
    model.embed_images(radiographs[:3], progress=True)
    shown = capsys.readouterr().err
    assert "embedding images" in shown and "3/3" in shown and shown.endswith("\x1b[K")
    model.embed_images(radiographs[:3], progress=False)
    assert capsys.readouterr().err == ""


def test_other_threads_run_while_it_computes(tmp_path):
    """If the call held the lock, no other thread could count."""
    counted, done = 0, threading.Event()

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1
            time.sleep(0.001)

    counter = threading.Thread(target=count)
    counter.start()
    before = counted
    # None of this calls back into Python.
    medst.phantom(tmp_path / "cohort", subjects=40, size=256, progress=False)
    during = counted - before
    done.set()
    counter.join()
    assert during >= 20, during


def test_errors_are_those_of_python():
    assert issubclass(medst.MissingFileError, FileNotFoundError) and issubclass(medst.MissingFileError, medst.Error)
    assert issubclass(medst.InputError, ValueError) and issubclass(medst.ImageError, ValueError)
    assert issubclass(medst.EngineError, RuntimeError)


def test_all_that_is_public_is_documented():
    for name in medst.__all__:
        assert inspect.getdoc(getattr(medst, name)), name
    for owner in (medst.Model, medst.Corpus):
        for name, member in inspect.getmembers(owner):
            if not name.startswith("_") and member.__module__ if hasattr(member, "__module__") else False:
                assert inspect.getdoc(member), f"{owner.__name__}.{name}"
    assert set(medst.__all__) <= set(dir(medst))
    with pytest.raises(AttributeError, match="nonsense"):
        medst.nonsense  # noqa: B018
    assert (Path(os.path.dirname(medst.__file__)) / "py.typed").exists()


def test_another_torch_is_refused_with_the_way_out(tmp_path):
    code = "import torch, medst\ntorch.__version__ = '2.12.0+cpu'\ntry: medst.load('x')\nexcept ImportError as error: print(error)\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "pip install torch==2.11.0" in done.stdout, done
