"""A finished run that is started again: nothing is read, scored or drawn twice, and whatever was touched is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from toyruns import ROWS, Answer, numbers, paint

from iqarena.images import decode
from iqarena.images.sets import folder as folder_set
from iqarena.store.folder import Store

Cli = Callable[..., Answer]


@pytest.fixture(autouse=True)
def _files_settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "SETTLING", 0)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of images that were decoded."""
    names: list[str] = []

    def counted(path: Path) -> object:
        names.append(path.name)
        return decode.decode_file(path)

    monkeypatch.setattr(folder_set, "decode_file", counted)
    return names


@pytest.fixture
def again(iqarena: Cli, suite: Path, tmp_path: Path, read: list[str]) -> Callable[..., list[str]]:
    """A run has finished; this starts it again and says what was read."""

    def start(*options: object, code: int = 0) -> list[str]:
        read.clear()
        answer = iqarena("run", suite, "--out", tmp_path / "run", "--workers", 1, *options)
        assert answer.code == code, answer.err
        return sorted(set(read))

    assert start() == ["p0.png", "p1.png", "p2.png", "p3.png", "p4.png"]
    assert start() == []
    return start


def test_an_image_that_was_touched_is_read_again(again: Callable[..., list[str]], photos: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    before = numbers(store)
    os.utime(photos / "p1.png")
    assert again() == ["p1.png"]
    assert numbers(store).equals(before)
    assert again() == []
    times = (photos / "p3.png").stat()
    paint(photos / "p3.png", 99)
    os.utime(photos / "p3.png", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert again() == ["p3.png"]
    changed = numbers(store)
    assert set(changed.loc[~changed["key"].isin(before["key"]), "image"]) == {"p3.png"}
    assert len(changed) == len(before)


def test_a_file_that_changes_just_now_is_not_believed(
    again: Callable[..., list[str]], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may change once more within the same tick of the clock."""
    monkeypatch.setattr(decode, "SETTLING", 3600 * 10**9)
    assert len(again()) == 5
    assert decode.stamp(photos / "none.png") == decode.stamp(Path("\0")) == ""


def test_what_is_added_is_read_and_nothing_else(again: Callable[..., list[str]], photos: Path, tmp_path: Path) -> None:
    paint(photos / "p7.png", 7)
    assert again() == ["p7.png"]
    assert len(Store(tmp_path / "run").rows()) == 6 * ROWS
    assert again("--limit", 3) == []
    assert len(again("--set", 'attacks=["noise", "fgsm(eps=3/255)"]')) == 6, "another attack needs every image"
    assert again("--set", 'attacks=["noise", "fgsm(eps=3/255)"]') == []


def test_rows_that_are_gone_are_made_again(again: Callable[..., list[str]], tmp_path: Path) -> None:
    next(Store(tmp_path / "run").rows_folder.glob("p2*")).unlink()
    assert "p2.png" in again()
    assert len(Store(tmp_path / "run").rows()) == 5 * ROWS
    assert again() == []


@pytest.mark.parametrize("content", ["", "[]", '{"work": 1}', '{"work": "x", "rows": 2, "images": 3}', "[" * 10**5])
def test_a_damaged_memory_is_none(again: Callable[..., list[str]], tmp_path: Path, content: str) -> None:
    (tmp_path / "run" / "settled.json").write_text(content)
    (tmp_path / "run" / "report.json").write_text(content)
    assert len(again()) == 5
    assert again() == []


def test_an_image_that_fails_is_tried_again_and_keeps_what_it_has(
    again: Callable[..., list[str]], photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = numbers(Store(tmp_path / "run"))
    (photos / "p2.png").write_bytes(b"no image")
    assert again() == again() == ["p2.png"]
    assert numbers(Store(tmp_path / "run")).equals(before)
    assert "p2.png keeps the results that it has" in caplog.text
    assert again("--set", 'attacks=["noise", "fgsm(eps=3/255)"]', code=3)


def test_other_code_looks_at_everything(again: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iqarena.runner.settled.package_sha256", lambda: "other")
    assert len(again()) == 5


def test_the_report_of_an_unchanged_run_is_not_made_again(
    again: Callable[..., list[str]], iqarena: Cli, suite: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    (folder / "plots").mkdir()  # none are drawn here
    said = iqarena("run", suite, "--out", folder).out
    page = (folder / "index.html").stat().st_mtime_ns
    assert iqarena("run", suite, "--out", folder).out == said
    assert "Rank" in said
    assert (folder / "index.html").stat().st_mtime_ns == page
    (folder / "leaderboard.md").unlink()
    assert iqarena("run", suite, "--out", folder).out == said
    assert (folder / "leaderboard.md").exists()
    assert iqarena("run", suite, "--out", folder, "--overwrite", "always", "--limit", 4).out != said
