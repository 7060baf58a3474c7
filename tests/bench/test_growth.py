"""A run grows: what is added to a folder is computed, what is stored is not evaluated again; counts prove it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from torch import Tensor
from toyruns import ATTACKS, PAIRS, ROWS, Answer, files, numbers, paint

from iqarena.api import Attack, Source
from iqarena.api.streams import Streams
from iqarena.registry.tables import build_attack, build_model
from iqarena.runner.driver import Options, run_plan
from iqarena.store.adversarials import Adversarials, packed, pixels_sha256
from iqarena.store.folder import Store
from iqarena.store.union import united
from iqarena.suite.plan import Plan
from iqarena.suite.sources import SourceSpec
from iqarena.worker.attacked import IRREPRODUCIBLE

Run = Callable[..., pd.DataFrame]
Cli = Callable[..., Answer]
IMAGES = 5
SOURCE, STEP, OTHER = (build_model(spec) for spec in ("toy_curved", "toy_step", "toy_curved(seed=1)"))
ZERO = {"forward": 0, "gradient": 0}


def grow(plan: Plan, folder: Path, **options: Any) -> dict[str, dict[str, int]]:
    """Run ``plan`` into ``folder``; evaluations by model."""
    usage = run_plan(plan, Store(folder), Options(**options))
    return {repr(used.model): {kind: round(used.evaluated[kind]) for kind in ZERO} for used in usage}


@pytest.fixture
def small(plan: Plan) -> Plan:
    """One attack with steps between grey levels, from one source to one target."""
    attacks, sources = (build_attack("mi_fgsm(steps=3)"),), (SourceSpec((SOURCE,)),)
    return replace(plan, attacks=attacks, sources=sources, targets=(STEP,))


def keeping(plan: Plan) -> Plan:
    return replace(plan, suite=replace(plan.suite, keep="adversarials"))


@pytest.mark.parametrize("batch_size", [1, 100])
def test_one_more_target_costs_four_scores_of_what_is_kept_and_no_gradient(
    small: Plan, tmp_path: Path, results: Run, batch_size: int
) -> None:
    folder = tmp_path / "run"
    grow(keeping(small), folder, batch_size=batch_size)
    assert len(files(folder, "adversarials/*/*.zip")) == IMAGES
    before = numbers(Store(folder))
    larger = replace(small, targets=(STEP, OTHER))
    counts = grow(larger, folder, batch_size=batch_size)
    assert counts == {repr(STEP): ZERO, repr(SOURCE): ZERO, repr(OTHER): {"forward": 4 * IMAGES, "gradient": 0}}
    rows, fresh = numbers(Store(folder)), results(larger)
    new = rows["target"] == repr(OTHER)
    assert rows.loc[new, "score_float"].isna().all(), "what was not rounded is not known"
    assert_frame_equal(rows.drop(columns="score_float"), fresh.drop(columns="score_float"), check_exact=True)
    assert_frame_equal(rows[~new].reset_index(drop=True), before, check_exact=True)


def test_controls_of_kept_images_know_what_the_box_cut(small: Plan, photos: Path, tmp_path: Path, results: Run) -> None:
    for i in range(IMAGES):
        path = str(photos / f"p{i}.png")
        image = cv2.imread(path)
        assert image is not None
        cv2.imwrite(path, np.clip(image.astype(int) * 2 - 128, 0, 255).astype(np.uint8))
    plan = replace(keeping(small), attacks=tuple(map(build_attack, ("noise", "fgsm", "sega(samples=2)"))))
    larger, folder = replace(plan, targets=(STEP, OTHER)), tmp_path / "run"
    grow(plan, folder)
    assert grow(larger, folder)[repr(SOURCE)] == ZERO
    rows, fresh = (table.drop(columns="score_float") for table in (numbers(Store(folder)), results(larger)))
    assert_frame_equal(rows, fresh, check_exact=True)


def test_without_kept_images_a_target_is_met_by_the_same_image_crafted_again(
    small: Plan, tmp_path: Path, results: Run
) -> None:
    folder = tmp_path / "run"
    grow(small, folder)
    times = Store(folder).rows()["seconds"]
    larger = replace(small, targets=(STEP, OTHER))
    counts = grow(larger, folder)
    assert counts[repr(SOURCE)] == {"forward": 0, "gradient": 3 * IMAGES}, "direction and own gain are stored"
    assert counts[repr(STEP)] == ZERO
    assert counts[repr(OTHER)] == {"forward": 5 * IMAGES, "gradient": 0}, "the unrounded image too"
    rows = Store(folder).rows()
    assert_frame_equal(numbers(Store(folder)), results(larger), check_exact=True)
    assert (rows["seconds"].to_numpy().reshape(-1, 2) == times.to_numpy()[:, None]).all(), "of the first time"


def test_a_damaged_or_removed_image_is_crafted_again(small: Plan, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    grow(keeping(small), folder)
    cut, gone, flipped, *_ = sorted(folder.glob("adversarials/*/*.zip"))
    cut.write_bytes(cut.read_bytes()[:50])
    gone.unlink()
    data = bytearray(flipped.read_bytes())
    data[data.rindex(b"IDAT") + 6] ^= 1  # of the second image in the file
    flipped.write_bytes(data)
    counts = grow(replace(keeping(small), targets=(STEP, OTHER)), folder, batch_size=1)
    assert counts[repr(SOURCE)] == {"forward": 0, "gradient": 3 * 3}
    assert (Store(folder).rows()["status"] == "ok").all()
    assert len(files(folder, "adversarials/*/*.zip")) == IMAGES
    counts = grow(replace(keeping(small), targets=(STEP, OTHER, build_model("toy_linear"))), folder)
    assert counts[repr(SOURCE)] == ZERO, "and kept again"


def test_no_flipped_bit_of_a_kept_image_is_more_than_an_image_to_craft_again(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    kept, sha256 = Adversarials(tmp_path), pixels_sha256(image)
    path, data = kept.path("ab"), packed(image, np.zeros_like(image))
    path.parent.mkdir(parents=True)
    for bit in range(0, 8 * len(data), 5):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        found = kept.load("ab", sha256)
        assert found is None or (np.array_equal(found[0], image) and not found[1].any())


_calls = itertools.count()


@dataclass(frozen=True, kw_only=True, repr=False)
class Moody(Attack):
    """Another image every time."""

    name = "moody"

    def perturb(self, x: Tensor, source: Source, streams: Streams) -> Tensor:
        return x + (1 + next(_calls)) / 255


def test_an_attack_that_does_not_reproduce_gives_error_rows_that_say_so(small: Plan, tmp_path: Path) -> None:
    folder, moody = tmp_path / "run", replace(small, attacks=(Moody(eps=1.0),))
    grow(moody, folder)
    before = numbers(Store(folder))
    grow(replace(moody, targets=(STEP, OTHER)), folder)
    rows = numbers(Store(folder))
    failed = rows["status"] == "error"
    assert failed.equals(rows["target"] == repr(OTHER))
    assert rows.loc[failed, "message"].str.startswith(f"{IRREPRODUCIBLE}: expected sha256 ").all()
    assert_frame_equal(rows[~failed].reset_index(drop=True), before, check_exact=True)


def test_one_more_attack_costs_its_own_evaluations(small: Plan, tmp_path: Path, results: Run) -> None:
    folder = tmp_path / "run"
    both = replace(small, targets=(STEP, SOURCE))
    grow(both, folder)
    larger = replace(both, attacks=(*both.attacks, build_attack("mi_fgsm(steps=6)")))
    counts = grow(larger, folder)
    assert counts[repr(STEP)] == {"forward": 4 * IMAGES, "gradient": 0}, (
        "adversarial, two controls, unrounded; not clean"
    )
    assert counts[repr(SOURCE)] == {"forward": 4 * IMAGES, "gradient": 6 * IMAGES}
    assert_frame_equal(numbers(Store(folder)), results(larger), check_exact=True)


@pytest.mark.parametrize("batch_size", [1, 100])
def test_one_more_image_costs_its_own_evaluations(
    small: Plan, photos: Path, tmp_path: Path, results: Run, batch_size: int
) -> None:
    folder = tmp_path / "run"
    grow(small, folder, batch_size=batch_size)
    before = files(folder / "rows")
    paint(photos / "p5.png", 5)
    counts = grow(small, folder, batch_size=batch_size)
    assert counts == {repr(SOURCE): {"forward": 2, "gradient": 3}, repr(STEP): {"forward": 5, "gradient": 0}}
    after = files(folder / "rows")
    assert {name: after[name] for name in before} == before
    assert_frame_equal(numbers(Store(folder)), results(small), check_exact=True)


def test_one_more_source_or_repeat_costs_its_own_evaluations(plan: Plan, tmp_path: Path, results: Run) -> None:
    plan = replace(plan, attacks=(build_attack("pgd(steps=2, random_start=true)"),), targets=(STEP, OTHER))
    one, two = (
        replace(plan, sources=tuple(SourceSpec((m,)) for m in models)) for models in ((SOURCE,), (SOURCE, OTHER))
    )
    twice = replace(two, suite=replace(two.suite, repeats=2))
    folder, spent = tmp_path / "run", []
    for larger in (one, two, twice, twice):
        counts = grow(larger, folder)
        spent.append((counts[repr(SOURCE)]["gradient"], counts[repr(OTHER)]["gradient"]))
        assert_frame_equal(numbers(Store(folder)), results(larger), check_exact=True)
    steps = 2 * IMAGES
    assert spent == [(steps, 0), (0, steps), (steps, steps), (0, 0)]


def test_diagnostics_of_a_target_added_later_are_those_of_a_run_at_once(
    small: Plan, tmp_path: Path, results: Run
) -> None:
    why = replace(small, suite=replace(small.suite, diagnostics=True, keep="adversarials"))
    folder, larger = tmp_path / "run", replace(why, targets=(STEP, OTHER))
    grow(why, folder)
    grow(larger, folder)
    rows, fresh = (table.drop(columns="score_float") for table in (numbers(Store(folder)), results(larger)))
    assert rows.loc[rows["target"] == repr(OTHER), "cosine"].notna().all()
    assert_frame_equal(rows, fresh, check_exact=True)


def test_images_of_which_different_things_are_missing_travel_apart(
    plan: Plan, tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    folder = tmp_path / "run"
    grow(replace(plan, attacks=plan.attacks[:2], suite=replace(plan.suite, limit=2)), folder, batch_size=100)
    grow(replace(plan, targets=plan.targets[:2], suite=replace(plan.suite, limit=3)), folder, batch_size=100)
    grow(plan, folder, batch_size=100)
    fresh = undisturbed
    stored = Store(folder).rows()
    rows = numbers(Store(folder)).set_index("key").loc[fresh["key"]].reset_index()[list(fresh.columns)]
    assert len(stored) >= len(fresh)
    assert_frame_equal(rows, fresh, check_exact=True)


def test_kept_images_are_those_of_the_rows(small: Plan, tmp_path: Path) -> None:
    plan, folder = replace(keeping(small), attacks=(build_attack("noise"), build_attack("sega(samples=2)"))), tmp_path
    grow(plan, folder)
    kept, rows = Adversarials(folder), Store(folder).rows()
    for row in rows.to_dict("records"):
        assert kept.load(row["craft_key"], row["sha256"]) is not None
        assert kept.load(row["craft_key"], "another") is None
    assert len(files(folder, "adversarials/*/*.zip")) == rows["craft_key"].nunique() == 2 * IMAGES


# ---- a folder and its manifest


def test_a_leaderboard_takes_one_more_line(suite: Path, tmp_path: Path, iqarena: Cli) -> None:
    store, keep = Store(tmp_path / "run"), ["--keep", "adversarials"]
    assert iqarena("run", suite, "--out", store.folder, *keep).code == 0
    before = numbers(store)
    alone = ["--set", 'attacks=["i_fgsm(steps=2)"]', "--limit", 4]
    answer = iqarena("run", suite, "--out", store.folder, *alone)
    assert answer.code == 0, answer.err
    manifest, rows = store.manifest(), numbers(store)
    old = rows["attack_label"] != "i_fgsm(steps=2)"
    assert_frame_equal(rows[old].reset_index(drop=True), before, check_exact=True)
    assert [a.label for a in manifest.attacks][-2:] == ["sega(samples=2)", "i_fgsm(steps=2)"]
    assert [a.planned for a in manifest.attacks] == [PAIRS * IMAGES] * ATTACKS + [PAIRS * 4]
    assert manifest.planned == len(rows) == ROWS * IMAGES + PAIRS * 4
    assert {spec: m.planned for spec, m in manifest.models.items()} == rows["target"].value_counts().to_dict()
    assert manifest.finished
    assert manifest.reference == repr(build_attack("sega(samples=2)")), "of an attack that this plan has not"
    assert len(manifest.images) == IMAGES
    later = united(manifest, replace(manifest, command="another", device="GPU X", history=()))
    assert (later.history, later.device) == ((manifest.command,), "cpu, GPU X")
    assert united(manifest, manifest) == replace(manifest, attacks=later.attacks, models=later.models)
    board = pd.read_csv(store.folder / "leaderboard_attacks.csv").set_index("attack_label")
    assert len(board) == ATTACKS + 1
    assert board["coverage"].to_dict() == {**dict.fromkeys(board.index, 1.0), "i_fgsm(steps=2)": 0.8}
    assert len(json.loads((store.folder / "gallery" / "gallery.json").read_text())) >= 3 * ATTACKS

    kept = files(store.folder)
    assert iqarena("run", suite, "--out", store.folder, "--limit", 2).code == 0
    assert files(store.folder) == kept, "a part of what is there adds nothing and takes nothing away"


def test_a_plan_that_is_not_done_says_so(plan: Plan, suite: Path, tmp_path: Path, iqarena: Cli) -> None:
    store = Store(tmp_path / "run")
    assert iqarena("run", suite, "--out", store.folder).code == 0
    answer = iqarena("run", suite, "--out", store.folder, "--set", "repeats=2", "--shard", "1/2")
    assert answer.code == 3
    assert f"{ROWS * (IMAGES + 3)} of {2 * ROWS * IMAGES} rows are in" in answer.out
    manifest = store.manifest()
    assert (manifest.finished, manifest.planned, manifest.settings["repeats"]) == (None, 2 * ROWS * IMAGES, 2)
    assert iqarena("run", suite, "--out", store.folder).code == 0, "a smaller plan, which is done"
    assert store.manifest().planned == len(store.rows()) == ROWS * (IMAGES + 3)
    assert store.manifest().settings["repeats"] == 2
