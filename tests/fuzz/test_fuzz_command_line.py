"""Fuzz: the command line in this process, and files with any name. Nothing here trains, downloads or opens weights."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzzing import ODD_TEXT, cases, command_line
from hypothesis import given
from hypothesis import strategies as st
from toyruns import draw_nothing, paint


@pytest.fixture(autouse=True)
def _no_plots() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch.setattr)
        yield


VERBS = {
    "run": ["--images", "--seed", "--limit", "--set", "--out", "--device", "--precision", "--workers", "--shard"],
    "plan": ["--images", "--set", "--limit", "--device"],
    "report": ["--out"],
    "compare": [],
    "diff": [],
    "export": ["--out", "--attack", "--source", "--image"],
    "merge": ["--out"],
    "score": ["--model", "--device"],
    "attack": ["--attack", "--source", "--target", "--out", "--direction", "--seed", "--device"],
    "list": [],
    "describe": [],
    "cite": [],
    "new": ["--out"],
    "fetch data": ["--path", "--verify"],
    "nothing": [],
}


def _inside(argument: bytes) -> bool:
    """Whether a process may have this argument, and it names nothing outside the test's folder."""
    return not argument.startswith(b"/") and b".." not in argument and b"\0" not in argument


WORDS = st.one_of(
    st.sampled_from([
        "nowhere", "fgsm", "toy_linear", "toy_step", "attack", "models", "own.toml", "own.toml", "1/2", "0", "a.png",
        "photos/a.png", "photos", "cpu", "", "-1", ".", "sega(mask=jnd(6))", "ensemble(toy_linear, toy_curved)",
        "attacks=[" + "[" * 2000, "seed=" + "9" * 5000, "name=a/b", "targets=['" + "jpeg|" * 900 + "cnn']",
        "images={path=3}", "seed=1e3",
    ]),
    ODD_TEXT.map(lambda text: text.encode(errors="replace")).filter(_inside).map(os.fsdecode),
    st.binary(max_size=6).filter(_inside).map(os.fsdecode),
)  # fmt: skip
GLOBAL = ["--plugin", "--weights-dir", "--offline", "--json", "--quiet", "--debug", "-h"]


@st.composite
def arguments(draw: st.DrawFn) -> list[str]:
    verb = draw(st.sampled_from([*VERBS]))
    given = [*verb.split(), *draw(st.lists(WORDS, max_size=2))]
    for flag in draw(st.lists(st.sampled_from([*VERBS[verb], *VERBS[verb], *GLOBAL]), max_size=3)):
        given += [flag, draw(WORDS)]
    return given


SUITE = """
images = { path = "photos" }
targets = ["toy_linear", "toy_step"]
sources = ["each"]
attacks = ["noise", "fgsm"]
"""


def _prepared(folder: Path) -> None:
    """A folder with a suite and an image to work on."""
    (folder / "photos").mkdir()
    paint(folder / "photos" / "a.png", 0)
    (folder / "own.toml").write_text(SUITE)


@cases(30)
@given(words=arguments())
def test_arguments(words: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        _prepared(Path(folder))
        answer = command_line(*words)
    assert answer.code in (0, 2, 3), answer
    if answer.code == 2 and "--debug" not in words:
        assert len(answer.err.strip().split("\n")) == 1 or answer.err.startswith("Usage: "), answer.err


NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: not set(name) & set(b"/\0"))


@cases(6)
@given(name=NAMES)
def test_images_with_any_name(name: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        _prepared(Path(folder))
        path = Path("photos", os.fsdecode(b"x" + name + b".png"))
        shutil.copy("photos/a.png", path)
        assert command_line("score", path, "--model", "toy_linear", "--device", "cpu").code == 0
        answer = command_line("run", "own.toml", "--out", "run", "--device", "cpu", "--workers", "1")
        try:
            name.decode()
        except UnicodeDecodeError:
            assert (answer.code, "expected UTF-8 text as its id" in answer.err) == (2, True), answer
        else:
            assert answer.code == 0, answer
