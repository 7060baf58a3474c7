"""The search for budgets of the same mean SSIM: its steps on a known curve, and whole runs of toys."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toyruns import Answer, files

from iqarena.store.folder import Store
from iqarena.suite.levels import MAX_LEVELS, bracket, level_of, next_level

Cli = Callable[..., Answer]


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("wanted", [0.613, 0.853, 0.907, 0.991])
@pytest.mark.parametrize("start", [1, 8, 40])
def test_the_search_ends_at_two_neighbours_around_the_wanted_ssim(power: float, wanted: float, start: int) -> None:
    def ssim(level: int) -> float:
        return 1 - 0.004 * level**power

    seen = {start: ssim(start)}
    while level := next_level(seen, wanted):
        assert level not in seen
        seen[level] = ssim(level)
    around = bracket(seen, wanted)
    exact = ((1 - wanted) / 0.004) ** (1 / power)
    if 1 <= exact < MAX_LEVELS:
        assert around == (int(exact), int(exact) + 1)
        assert len(seen) <= 7
    else:
        assert around is None, "out of reach at either end"


def test_an_ssim_that_rises_again_does_not_end_the_search() -> None:
    ssim = {level: 0.85 if 3 <= level <= 6 else 0.95 for level in range(1, 9)}
    seen = {level: ssim[level] for level in (5, 8)}
    while level := next_level(seen, 0.9):
        seen[level] = ssim[level]
    assert bracket(seen, 0.9) == (2, 3)


def test_levels_are_whole_and_what_does_not_move_ends_the_search() -> None:
    assert [level_of(eps) for eps in (8 / 255, 1 / 255, 0.0, 0.03, 0.5 / 255)] == [8, 1, None, None, None]
    assert next_level({}, 0.9) is None
    assert next_level({8: 1.0}, 0.9) == MAX_LEVELS
    assert next_level({8: 1.0, MAX_LEVELS: 1.0}, 0.9) is None


@pytest.fixture
def matched(suite: Path) -> Path:
    text = suite.read_text().replace('"mi_fgsm(steps=2)", ', "")
    suite.write_text(text + 'sources = ["leave_one_out"]\nlimit = 3\nssim = 0.9\n')
    return suite


def test_a_run_with_a_wanted_ssim_is_an_ordinary_run(matched: Path, tmp_path: Path, iqarena: Cli) -> None:
    out = tmp_path / "run"
    answer = iqarena("run", matched, "--out", out)
    assert answer.code == 0, answer.err
    store = Store(out)
    manifest, rows = store.manifest(), store.rows()
    searched = {a.spec for a in manifest.attacks if a.searched}
    assert len(rows) == manifest.planned == len(manifest.attacks) * 3
    assert set(rows["attack"]) == {a.spec for a in manifest.attacks} > searched > set()
    table = pd.read_csv(out / "same_ssim.csv").set_index("attack")
    assert set(table.index) == {"noise", "fgsm", "sega(samples=2)"}, "the identity has no budget"
    held_out = rows[rows["relation"].isin(["transfer", "ensemble_holdout"])]
    for attack, line in table.iterrows():
        low, high = map(int, line["levels"].split("–"))
        ssim = {n: held_out.loc[_at(held_out, str(attack), n), "ssim"].mean() for n in (low, high)}
        assert high == low + 1
        assert ssim[low] >= 0.9 > ssim[high]
        assert line["budget"] == pytest.approx(low + (ssim[low] - 0.9) / (ssim[low] - ssim[high]), abs=1e-4)
    boards = pd.read_csv(out / "leaderboard_attacks.csv")["attack_label"]
    assert sorted(boards) == sorted(a.label for a in manifest.declared.attacks)
    assert not set(pd.read_csv(out / "pairs.csv")["attack"]) & searched
    before = files(out)
    assert iqarena("run", matched, "--out", out).out == answer.out
    assert files(out) == before
    next(store.rows_folder.glob("p2*")).unlink()  # as if it had been killed before that image
    assert iqarena("run", matched, "--out", out).code == 0
    assert (out / "same_ssim.csv").read_bytes() == before["same_ssim.csv"]
    assert [getattr(one.gradients, "resumed", None) for one in (manifest, store.manifest())] == [False, True]


def test_what_a_search_cannot_do_is_said_in_one_line(matched: Path, tmp_path: Path, iqarena: Cli) -> None:
    shard = iqarena("run", matched, "--out", tmp_path / "a", "--shard", "1/2")
    assert (shard.code, "a search for an SSIM needs all images" in shard.err) == (2, True)
    odd = iqarena("run", matched, "--out", tmp_path / "b", "--set", 'attacks=["fgsm(eps=0.03)"]')
    assert odd.code == 2
    assert "expected budgets of whole grey levels such as eps=8/255, found fgsm(eps=0.03)" in odd.err
    never = iqarena("run", matched, "--out", tmp_path / "c", "--set", 'attacks=["identity", "noise"]',
                    "--set", "ssim=0.00001")  # fmt: skip
    assert never.code == 0, never.err
    table = pd.read_csv(tmp_path / "c" / "same_ssim.csv")
    assert table["rank"].isna().all()
    assert f"{MAX_LEVELS}: " in table["tried"].item()


def _at(rows: pd.DataFrame, label: str, level: int) -> np.ndarray:
    """Rows of an attack, named without its budget, at ``level``."""
    name = re.escape(label.split("(")[0])
    return rows["attack"].str.fullmatch(rf"{name}\(eps={level}/255(,.*)?\)").to_numpy()
