"""Runs: neither batches, workers, order nor shards change a number; counts are exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from toyruns import ROWS, Answer, files, numbers, pairs, start

from iqarena.api import ImageItem
from iqarena.images.sets.folder import FolderImages
from iqarena.registry.tables import build_attack, build_model
from iqarena.runner.driver import Options, run_plan
from iqarena.store.folder import Store
from iqarena.store.manifest import RowCounts
from iqarena.suite.file import load_suite
from iqarena.suite.plan import Plan, resolve
from iqarena.suite.sources import SourceSpec

Run = Callable[..., pd.DataFrame]


@dataclass(frozen=True, kw_only=True, repr=False)
class Backwards(FolderImages):
    """The same images in the opposite order."""

    def items(self) -> list[ImageItem]:
        return super().items()[::-1]


def test_every_row_is_there_and_says_what_it_is(undisturbed: pd.DataFrame) -> None:
    rows = undisturbed
    assert len(rows) == 5 * ROWS
    assert (rows["status"] == "ok").all()
    assert set(rows["relation"]) == {"whitebox", "transfer", "ensemble_holdout"}
    assert set(rows["direction"]) <= {-1.0, 1.0}
    assert rows.loc[rows["attack_label"] == "identity", "score_adv"].equals(
        rows.loc[rows["attack_label"] == "identity", "score_clean"]
    )
    fgsm = rows[(rows["attack_label"] == "fgsm") & (rows["relation"] == "whitebox")]
    gain = fgsm["direction"] * (fgsm["score_adv"] - fgsm["score_clean"])
    assert (gain > 0).all()
    assert np.allclose(gain, fgsm["own_gain"])
    assert (rows["linf"] <= 8 / 255 + 1e-9).all()
    assert rows[["forwards", "backwards", "queries"]].notna().all(axis=None)


@pytest.mark.parametrize(
    "options", [{"batch_size": 3}, {"batch_size": 100}, {}, {"workers": 4, "batch_size": 2}], ids=str
)
def test_batches_and_workers_change_no_number(
    plan: Plan, results: Run, undisturbed: pd.DataFrame, options: dict[str, int]
) -> None:
    assert_frame_equal(results(plan, **options), undisturbed, check_exact=True)


def test_the_order_of_images_changes_no_number(
    plan: Plan, photos: Path, results: Run, undisturbed: pd.DataFrame
) -> None:
    turned = replace(plan, images=Backwards(path=str(photos)))
    assert_frame_equal(results(turned, batch_size=2), undisturbed, check_exact=True)


def test_the_seed_and_the_repeat_change_what_is_random_and_nothing_else(
    suite: Path, results: Run, undisturbed: pd.DataFrame
) -> None:
    other, twice = (results(resolve(load_suite(str(suite), keys))) for keys in ({"seed": 1}, {"repeats": 2}))
    changed = undisturbed["score_adv"] != other["score_adv"]
    assert set(undisturbed.loc[changed, "attack_label"]) == {"noise", "sega(samples=2)"}
    first, second = (twice[twice["repeat"] == r].reset_index(drop=True) for r in (0, 1))
    assert_frame_equal(first, undisturbed, check_exact=True)
    assert set(first.loc[first["score_adv"] != second["score_adv"], "attack_label"]) == {"noise", "sega(samples=2)"}


def test_shards_one_after_the_other_are_the_whole(plan: Plan, tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    store = Store(tmp_path / "shards")
    for shard in ((1, 2), (2, 2)):
        run_plan(plan, store, Options(shard=shard))
    assert_frame_equal(numbers(store), undisturbed, check_exact=True)


def test_shards_at_the_same_time_are_the_whole(suite: Path, tmp_path: Path, iqarena: Callable[..., Answer]) -> None:
    both = [start("run", suite, "--workers", "1", "--out", tmp_path / "both", "--shard", f"{i}/2") for i in (1, 2)]
    message = [process.communicate(timeout=600) for process in both]
    codes = {process.returncode for process in both}
    assert 0 in codes <= {0, 3}, message  # 3: the other was not done yet
    assert any("index.html (start here)" in out for out, _ in message), "the last to end writes the boards"
    assert iqarena("run", suite, "--out", tmp_path / "whole").code == 0
    stores = [Store(tmp_path / name) for name in ("both", "whole")]
    assert_frame_equal(numbers(stores[0]), numbers(stores[1]), check_exact=True)
    assert pairs(stores[0]) == pairs(stores[1])
    assert [s.manifest().rows for s in stores] == [RowCounts(ok=5 * ROWS, error=0)] * 2
    assert sorted(files(stores[0].folder, "rows/*")) == sorted(files(stores[1].folder, "rows/*"))
    assert files(stores[0].folder, "gallery/*") == files(stores[1].folder, "gallery/*")


def test_one_shard_says_that_the_others_are_missing(
    suite: Path, tmp_path: Path, iqarena: Callable[..., Answer]
) -> None:
    answer = iqarena("run", suite, "--out", tmp_path / "run", "--shard", "1/2")
    assert answer.code == 3, "the run is incomplete"
    assert f"{3 * ROWS} of {5 * ROWS} rows are in {tmp_path / 'run'}; the other shards make it whole" in answer.out
    assert not (tmp_path / "run" / "pairs.csv").exists()
    assert iqarena("run", suite, "--out", tmp_path / "run", "--shard", "2/2").code == 0
    assert (tmp_path / "run" / "pairs.csv").exists()


def test_a_run_without_shards_that_misses_rows_says_start_it_again(
    suite: Path, tmp_path: Path, iqarena: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iqarena.runner.execute.run_plan", lambda *arguments: [])
    answer = iqarena("run", suite, "--out", tmp_path / "run")
    assert answer.code == 3
    assert f"0 of {5 * ROWS} rows are in {tmp_path / 'run'}; start it again" in answer.out


@pytest.mark.parametrize("batch_size", [1, 3])
def test_counts_are_what_was_evaluated_when_nothing_is_shared(plan: Plan, tmp_path: Path, batch_size: int) -> None:
    source, target = build_model("toy_curved"), build_model("toy_step")
    attacks, sources = (build_attack("mi_fgsm(steps=3)"),), (SourceSpec((source,)),)  # steps between grey levels
    alone = replace(plan, attacks=attacks, sources=sources, targets=(target,))
    store = Store(tmp_path / "run")
    scorers = {s.model: s.evaluated for s in run_plan(alone, store, Options(batch_size=batch_size))}
    rows = store.rows()
    assert len(rows) == 5
    assert rows["forwards"].tolist() == rows["backwards"].tolist() == [3.0] * 5
    assert rows["queries"].tolist() == [0.0] * 5
    assert scorers[source]["gradient"] == rows["backwards"].sum()
    assert scorers[source]["forward"] == 2 * 5, "clean and adversarial image, for direction and own gain"
    assert scorers[target]["gradient"] == 0
    assert scorers[target]["forward"] == 5 * 5, "clean, adversarial, two controls, unrounded"


def test_costs_in_rows_are_those_of_an_attack_alone(plan: Plan, results: Run, undisturbed: pd.DataFrame) -> None:
    together = undisturbed
    for attack in plan.attacks:
        alone = results(replace(plan, attacks=(attack,)))
        same = together[together["attack"] == repr(attack)].reset_index(drop=True)
        assert_frame_equal(alone, same, check_exact=True)
    costs = together[together["relation"] == "ensemble_holdout"].groupby("attack_label")["backwards"].first()
    assert costs.to_dict() == {"identity": 0, "noise": 0, "fgsm": 2, "mi_fgsm(steps=2)": 4, "sega(samples=2)": 4}


def test_crafting_happens_once_however_many_targets_there_are(plan: Plan, tmp_path: Path) -> None:
    counted = []
    source = (SourceSpec((build_model("toy_curved"),)),)
    for targets in (["toy_step"], ["toy_step", "toy_curved", "toy_curved(seed=1)", "toy_linear"]):
        subset = replace(plan, sources=source, targets=tuple(map(build_model, targets)))
        scorers = run_plan(subset, Store(tmp_path / str(len(targets))), Options())
        counted.append(next(s.evaluated["gradient"] for s in scorers if s.model == source[0].models[0]))
    assert counted[0] == counted[1] > 0
