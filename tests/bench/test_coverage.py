"""What of a plan is there, in numbers and in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from toyrows import fail, make_manifest, make_rows, spec_of
from toyruns import draw_nothing

from iqarena.report import derive
from iqarena.report.coverage import coverage, notice

PER_ATTACK, PER_TARGET = 12 * 12, 12 * 20  # twelve pairs, or four from sources for each of five attacks; twelve images


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return make_rows()


def test_a_complete_run_says_nothing(rows: pd.DataFrame) -> None:
    cover = coverage(rows, make_manifest(rows))
    assert (cover.ok, cover.failed, cover.planned) == (720, 0, 720)
    assert notice(cover) == ""


def test_what_is_missing_or_failed_is_named_by_attack_and_target(
    rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_nothing(monkeypatch.setattr)
    manifest = make_manifest(rows)
    there = rows[(rows["attack_label"] != "mi_fgsm") | (rows["image"] < "i06")]
    there = fail(there, (there["attack_label"] == "fgsm") & (there["target"] == "vit"))
    cover = coverage(there, manifest)
    assert (cover.ok, cover.failed) == (720 - 72 - 48, 48)
    assert cover.attacks == {"fgsm": (96, PER_ATTACK), "mi_fgsm": (72, PER_ATTACK)}
    assert cover.targets == {
        "cnn": (PER_TARGET - 24, PER_TARGET),
        "hyper": (PER_TARGET - 24, PER_TARGET),
        "vit": (PER_TARGET - 72, PER_TARGET),
    }
    text = notice(cover)
    assert text.startswith(
        "This run is incomplete: 600 of 720 planned rows are there (83.3 %), 48 failed, 72 are missing"
    )
    assert "Incomplete attacks: fgsm (96 of 144), mi_fgsm (72 of 144). Incomplete targets: cnn (216 of 240)" in text
    terminal = derive(there, manifest, tmp_path)
    assert "This run is incomplete" in terminal
    assert (tmp_path / "leaderboard.md").read_text().splitlines()[2].startswith("**This run is incomplete: 600 of 720")
    page = (tmp_path / "index.html").read_text()
    assert page.index("This run is incomplete") < page.index("<table")


def test_an_attack_without_any_row_is_named(rows: pd.DataFrame) -> None:
    cover = coverage(rows[rows["attack_label"] != "noise"], make_manifest(rows))
    assert cover.attacks == {"noise": (0, PER_ATTACK)}


def test_rows_of_an_earlier_plan_are_shown_and_not_counted(rows: pd.DataFrame) -> None:
    now = rows[(rows["attack_label"] != "noise") & ~rows["source"].str.startswith("ensemble")]
    now = now[now["target"] != "vit"]
    manifest = make_manifest(now, targets=["cnn", "hyper"], attacks=_attacks(now))
    cover = coverage(rows, manifest)
    assert (cover.ok, cover.planned) == (len(now), len(now))
    assert cover.attacks == cover.targets == {}
    assert not cover.complete
    assert notice(cover).startswith("Shown from an earlier plan, not counted above: noise, ensemble(")
    assert notice(cover).endswith("vit.")


def test_a_manifest_without_numbers_by_attack_gives_the_total(rows: pd.DataFrame) -> None:
    manifest = make_manifest(rows, attacks=_attacks(rows), models={})
    cover = coverage(rows[rows["image"] < "i06"], manifest)
    assert (cover.ok, cover.planned, cover.attacks) == (360, 720, {})
    assert notice(cover) == (
        "This run is incomplete: 360 of 720 planned rows are there (50.0 %), 0 failed, 360 are missing."
    )


def _attacks(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """As in a manifest that does not count their rows."""
    return [{"label": label, "spec": spec_of(label)} for label in rows["attack_label"].unique()]
