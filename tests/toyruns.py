"""Runs of toy scorers on small images: what the tests of the harness share besides fixtures."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from iqarena.store.folder import Store
from iqarena.store.schema import NAMES

SUITE = """# Toy scorers on small images.
images = {{ path = "{photos}" }}
targets = ["toy_curved", "toy_curved(seed=1)", "toy_step"]
attacks = ["identity", "noise", "fgsm", "mi_fgsm(steps=2)", "sega(samples=2)"]
"""
SOURCES, PAIRS, ATTACKS = 3, 7, 5  # of that suite: two sources with three targets each, their ensemble with the third
ROWS = PAIRS * ATTACKS  # per image


@dataclass(frozen=True)
class Answer:
    """What the command line said."""

    code: int
    out: str
    err: str


def paint(path: Path, seed: int, size: tuple[int, int] = (40, 32)) -> Path:
    """A smooth random image of ``size`` (width, height)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC))
    return path


def write_suite(folder: Path) -> Path:
    """The suite file on five images of two sizes, both in ``folder``."""
    photos = folder / "photos"
    photos.mkdir()
    for i in range(5):
        paint(photos / f"p{i}.png", i, (40, 32) if i % 2 else (33, 47))
    path = folder / "toy.toml"
    path.write_text(SUITE.format(photos=photos.as_posix()))
    return path


def numbers(store: Store) -> pd.DataFrame:
    """Everything in a run that must be the same whenever it is run."""
    return store.rows().drop(columns=["seconds", "score_seconds"]).sort_values(NAMES, ignore_index=True)


def pairs(store: Store) -> str:
    """``pairs.csv`` as it was written, without the times."""
    return (
        pd.read_csv(io.BytesIO((store.folder / "pairs.csv").read_bytes()), dtype=str)
        .drop(columns="seconds")
        .to_csv(index=False)
    )


def files(folder: Path, pattern: str = "**/*") -> dict[str, bytes]:
    """Those of a folder by name, but for what a run keeps to know again which images it has seen."""
    found = [path for path in sorted(folder.glob(pattern)) if path.is_file() and path.name != "settled.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def draw_nothing(setattr: Callable[[object, str, object], None] = setattr) -> set[str]:
    """Reports without plots, which take longer than everything else; the names of those left out are gathered."""
    from iqarena.report.figures import plots

    names: set[str] = set()
    setattr(plots, "save", lambda drawing, folder: names.add(drawing.name))
    return names


def start(*arguments: object) -> subprocess.Popen[str]:
    """The command line in a process of its own, with the toys; plots are not drawn, and every cell is written at once,
    so that there is something to stop among.

    It hears ^C even where the tests do not: background shells and some CI start their jobs with SIGINT ignored.
    """
    tests = Path(__file__).parent
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += f"sys.path.insert(0, {str(tests)!r}); import toyruns; toyruns.draw_nothing()\n"
    code += "from iqarena.runner import unwritten; unwritten.AT_MOST = 0\n"
    code += "from iqarena.cli import entry; entry()"
    command = [sys.executable, "-c", code, "--plugin", str(tests / "toys.py"), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def refused(answer: Answer, *words: str) -> None:
    """One line on stderr with these words, nothing on stdout, exit code 2."""
    assert answer.code == 2, answer
    assert answer.out == ""
    lines = answer.err.strip().splitlines()
    assert len(lines) == 1, answer.err
    assert lines[0].startswith("iqarena: ")
    assert [word for word in words if word not in lines[0]] == [], lines[0]
