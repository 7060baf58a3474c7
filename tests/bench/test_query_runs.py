"""Runs with query attacks: cells, rows, answers on the way, resume, flags, boards and curves."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from PIL import Image
from toymanifest import toy_manifest
from toyruns import Answer, files, numbers, write_suite

from iqarena.api import CHECKPOINTS
from iqarena.metrics.score_change import past_boundary
from iqarena.report.boards import attack_board, model_board
from iqarena.report.pairs import pair_table
from iqarena.report.studies.curves import ALL, curve_table
from iqarena.runner.driver import Options, run_plan
from iqarena.store.adversarials import pixels_sha256
from iqarena.store.folder import Store
from iqarena.store.manifest import Manifest
from iqarena.suite.file import load_suite
from iqarena.suite.plan import Plan, resolve
from iqarena.tools.forecast import describe_plan
from iqarena.worker.gallery import Gallery

TARGETS = ["toy_curved", "toy_curved(seed=1)", "toy_shut"]
ATTACKS = ["noise", "fgsm", "square(queries=60)", "random_search(queries=25)", "warm_start(start=fgsm, queries=30)"]
Run = Callable[..., pd.DataFrame]


@pytest.fixture(scope="module")
def queried(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    suite = write_suite(tmp_path_factory.mktemp("queried"))
    keys = {"targets": TARGETS, "attacks": ATTACKS, "sources": ["leave_one_out"]}
    return resolve(load_suite(str(suite), keys))


@pytest.fixture(scope="module")
def rows(queried: Plan, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    store = Store(tmp_path_factory.mktemp("rows") / "run")
    run_plan(queried, store, Options())
    return numbers(store).assign(seconds=0.0)


def manifest(plan: Plan, rows: pd.DataFrame, **changes: Any) -> Manifest:
    attacks = [{"label": a.label, "eps": a.eps, "queries": a.queries} for a in plan.attacks]
    return toy_manifest(attacks, targets=[repr(t) for t in plan.targets], planned=len(rows), **changes)


def test_a_query_attack_meets_each_target_alone_and_a_warm_start_those_its_source_does_not_hold(queried: Plan) -> None:
    ensemble = "ensemble(toy_curved(seed=0), toy_curved(seed=1))"
    assert [s.spec for s in queried.cells] == [ensemble, "toy_curved(seed=0)", "toy_curved(seed=1)", "toy_shut"]
    met = {
        (a.name, s.spec): [repr(t) for t in queried.targets_of(a, s)] for a in queried.attacks for s in queried.cells
    }
    assert met["fgsm", ensemble] == met["warm_start", ensemble] == ["toy_shut"]
    for target in ("toy_curved(seed=0)", "toy_curved(seed=1)", "toy_shut"):
        assert met["square", target] == [target]
        assert met["fgsm", target] == met["warm_start", target] == []
    assert met["square", ensemble] == []
    assert len(queried.results()) == 2 + 1 + 3 + 3
    assert sum(queried.gradients().values()) == 2 * 2, (
        "FGSM of both members, once for itself and once for the warm start"
    )


def test_the_gallery_shows_a_queried_image_with_the_target_it_was_crafted_against(suite: Path, tmp_path: Path) -> None:
    keys = {
        "targets": TARGETS,
        "attacks": ["warm_start(start=fgsm, queries=30)"],
        "sources": ["toy_curved"],
        "limit": 1,
    }
    store, plan = Store(tmp_path), resolve(load_suite(str(suite), keys))
    run_plan(plan, store, Options())
    Gallery(tmp_path, plan).write_index()
    (entry,) = json.loads((tmp_path / "gallery" / "gallery.json").read_text())
    hashes = store.rows().set_index("target")["sha256"]
    assert hashes.nunique() == len(hashes) == 2, "another image against each target"
    image = np.asarray(Image.open(tmp_path / "gallery" / entry["adversarial"]))
    assert pixels_sha256(image) == hashes[entry["target"]]


def test_queries_may_be_all_there_is(suite: Path, results: Run) -> None:
    plan = resolve(load_suite(str(suite), {"targets": ["toy_step"], "attacks": ["square(queries=30)"], "sources": []}))
    rows = results(plan)
    assert set(rows["relation"]) == {"query"}
    assert (rows["source"] == rows["target"]).all()


def test_rows_of_query_attacks(queried: Plan, rows: pd.DataFrame) -> None:
    assert len(rows) == 5 * 9
    assert (rows["status"] == "ok").all(), rows["message"].unique()
    requested = rows[rows["relation"] == "query"]
    assert set(requested["attack_label"]) == {a.label for a in queried.attacks if a.queries}
    assert requested.groupby("attack_label")["queries"].agg(["min", "max"]).to_numpy().tolist() == [
        [25, 25],
        [60, 60],
        [30, 30],
    ]
    assert (rows.loc[rows["relation"] != "query", "queries"] == 0).all()
    expected = np.where(requested["score_clean"] > 50, -1, 1)
    assert (requested["direction"] == expected).all(), "decided by the target's own score"
    gain = requested["direction"] * (requested["score_adv"] - requested["score_clean"])
    assert np.allclose(gain, requested["own_gain"])
    assert (gain >= 0).all()
    warm = requested["attack_label"].str.startswith("warm")
    assert (requested.loc[warm, "backwards"] == 2).all()
    assert (requested.loc[~warm, ["forwards", "backwards"]] == 0).to_numpy().all()


def test_answers_on_the_way_are_kept_inside_the_budget(rows: pd.DataFrame) -> None:
    requested = rows[rows["relation"] == "query"]
    for label, group in requested.groupby("attack_label"):
        budget = group["queries"].iloc[0]
        for at in CHECKPOINTS:
            kept = group[[f"score_at_{at}", f"displaced_at_{at}"]].notna()
            assert (kept == (at <= budget)).to_numpy().all(), label
    square = requested[requested["attack_label"] == "square(queries=60)"]
    stages = square[["score_clean", "score_at_20", "score_at_50", "score_adv"]].mul(square["direction"], axis=0)
    assert (stages.diff(axis=1).iloc[:, 1:] >= 0).to_numpy().all()
    assert (stages["score_at_50"] > stages["score_clean"]).any()
    assert rows.loc[rows["relation"] != "query", [f"score_at_{at}" for at in CHECKPOINTS]].isna().to_numpy().all()


def test_the_answer_at_the_end_is_the_final_image(suite: Path, results: Run) -> None:
    keys: dict[str, Any] = {"targets": TARGETS, "sources": [], "attacks": ["random_search(queries=50)"]}
    shorter = results(resolve(load_suite(str(suite), keys)))
    assert np.array_equal(shorter["displaced_at_50"], shorter["score_displaced"])
    assert np.array_equal(shorter["score_at_50"], shorter["score_adv"]), "the last answer is the final image"


@pytest.mark.parametrize("options", [{"batch_size": 3}, {"batch_size": 100, "workers": 1}], ids=str)
def test_neither_batches_nor_workers_change_a_number(
    queried: Plan, rows: pd.DataFrame, results: Run, options: Any
) -> None:
    assert_frame_equal(results(queried, **options), rows.drop(columns="seconds"), check_exact=True)


def test_a_run_goes_on_between_images(suite: Path, tmp_path: Path) -> None:
    attacks = ["noise", "fgsm", "square(queries=20)", "warm_start(start=fgsm, queries=10)"]
    keys: dict[str, Any] = {"targets": TARGETS, "attacks": attacks, "sources": ["leave_one_out"]}
    store = Store(tmp_path / "run")
    run_plan(resolve(load_suite(str(suite), {**keys, "limit": 2})), store, Options())
    before = files(store.rows_folder)
    store = Store(store.folder)
    scorers = run_plan(resolve(load_suite(str(suite), keys)), store, Options())
    after = files(store.rows_folder)
    assert len(before) == 2
    assert len(after) == 5
    assert {name: after[name] for name in before} == before
    full = Store(tmp_path / "whole")
    again = run_plan(resolve(load_suite(str(suite), keys)), full, Options())
    assert_frame_equal(numbers(store), numbers(full), check_exact=True)
    for part, all_ in zip(scorers, again, strict=True):
        assert part.evaluated["forward"] < 0.75 * all_.evaluated["forward"]
    assert run_plan(resolve(load_suite(str(suite), keys)), Store(full.folder), Options())[0].evaluated["forward"] == 0


def test_the_cost_is_foretold(queried: Plan, tmp_path: Path) -> None:
    text = describe_plan(queried)
    assert "= 45 rows" in text
    for scorer in run_plan(queried, Store(tmp_path / "run"), Options()):
        line = next(line for line in text.splitlines() if line.startswith(repr(scorer.model)))
        planned = [int(word) for word in line.removeprefix(repr(scorer.model)).split()[:2]]
        slack = 2 * 5 * len(ATTACKS) if scorer.model.differentiable else 0  # as a source: clean and adversarial images
        assert scorer.evaluated["forward"] <= planned[0] + slack
        assert scorer.evaluated["gradient"] <= planned[1]


def test_a_target_that_does_not_answer_or_answers_with_noise_is_flagged(suite: Path, results: Run) -> None:
    targets = ["toy_constant", "toy_noisy", "toy_shut"]
    keys: dict[str, Any] = {
        "targets": targets,
        "attacks": ["square(queries=250)", "surfree(queries=40)"],
        "sources": [],
    }
    plan = resolve(load_suite(str(suite), {**keys, "limit": 2}))
    rows = results(plan).assign(seconds=0.0)
    models = {repr(t): {"stochastic": t.stochastic} for t in plan.targets}
    table = pair_table(rows, manifest(plan, rows, models=models)).table
    flags = table.set_index(["attack_label", "target"])["flags"]
    constant = rows[(rows["target"] == "toy_constant") & (rows["attack_label"] == "square(queries=250)")]
    assert constant["queries"].max() < 210, "ends quickly"
    assert flags["square(queries=250)", "toy_constant"] == "did_not_run;unchanged;no_response"
    assert "noisy_target" in flags["square(queries=250)", "toy_noisy"]
    assert flags["square(queries=250)", "toy_shut"] == ""


def test_query_attacks_stand_on_a_board_of_their_own(queried: Plan, rows: pd.DataFrame) -> None:
    facts = manifest(queried, rows, reference="fgsm")
    pairs = pair_table(rows, facts)
    board = attack_board(pairs, facts).set_index("attack_label")
    assert board["board"].to_dict() == {
        "noise": "held-out", "fgsm": "held-out", "square(queries=60)": "query", "random_search(queries=25)": "query",
        "warm_start(queries=30, start=fgsm)": "query",
    }  # fmt: skip
    assert sorted(board.loc[board["board"] == "query", "rank"]) == [1, 2, 3]
    assert sorted(board.loc[board["board"] == "held-out", "rank"]) == [1, 2]
    assert (board["coverage"] == 1).all()
    square = pairs.table[pairs.table["attack_label"] == "square(queries=60)"]
    assert board["aligned_sd"]["square(queries=60)"] == pytest.approx(square["aligned_sd_mean"].mean())
    assert set(board.loc[board["board"] == "query", "reference"]) == {"square(queries=60)"}, "the first one listed"
    assert set(board.loc[board["board"] == "held-out", "reference"]) == {"fgsm"}
    means = pairs.table.set_index(["attack_label", "target"])["aligned_sd_mean"]
    gap = means["random_search(queries=25)"] - means["square(queries=60)"]
    assert board["gap"]["random_search(queries=25)"] == pytest.approx(gap.mean())
    started = means["warm_start(queries=30, start=fgsm)"] - means["square(queries=60)"]
    assert board["gap"]["warm_start(queries=30, start=fgsm)"] == pytest.approx(started.mean()), "by target alone"
    assert board["gap"]["noise"] == pytest.approx((means["noise"] - means["fgsm"]).mean())
    without = rows[rows["relation"] != "query"]
    apart = attack_board(pair_table(without, facts), dataclasses.replace(facts, attacks=facts.attacks[:2]))
    together = attack_board(pairs, facts)
    same = together[together["board"] == "held-out"].reset_index(drop=True).drop(columns=["better", "worse"])
    assert_frame_equal(same[["attack_label", "rank"]], apart[["attack_label", "rank"]])
    models = model_board(pairs, facts).set_index("model")
    assert models["strongest_attack"]["toy_shut"] == "fgsm", "robustness is about attacks that have not seen the target"


def test_shares_past_the_boundaries_by_hand(queried: Plan, rows: pd.DataFrame) -> None:
    clean, attacked = np.array([40.0, 40.0, 80.0, 80.0]), np.array([46.0, 46.1, 72.0, 71.9])
    direction = np.array([1.0, 1.0, -1.0, -1.0])
    assert past_boundary(clean, attacked, direction, 0.1).tolist() == [0, 1, 0, 1]
    table = pair_table(rows, manifest(queried, rows)).table
    shares = table[["past_0.01", "past_0.05", "past_0.1", "past_0.2", "past_0.5"]]
    assert (shares.diff(axis=1).iloc[:, 1:] <= 0).to_numpy().all()
    chosen = table[(table["attack_label"] == "square(queries=60)") & (table["target"] == "toy_shut")].iloc[0]
    own = rows[(rows["attack_label"] == "square(queries=60)") & (rows["target"] == "toy_shut")]
    headroom = np.where(own["direction"] > 0, 100 - own["score_clean"], own["score_clean"])
    for b in (0.01, 0.05, 0.1, 0.2, 0.5):
        assert chosen[f"past_{b:g}"] == pytest.approx((own["own_gain"] > b * headroom).mean())
    assert 0 < chosen["past_0.01"] <= 1


def test_curves_go_through_the_rows(queried: Plan, rows: pd.DataFrame) -> None:
    facts = manifest(queried, rows)
    curves = curve_table(pair_table(rows, facts), facts)
    own = curves[curves["attack_label"] == "square(queries=60)"]
    assert own[own["target"] == ALL]["evaluations"].tolist() == [0, 20, 50, 60]
    shut = own[own["target"] == "toy_shut"].set_index("queries")
    square = rows[(rows["attack_label"] == "square(queries=60)") & (rows["target"] == "toy_shut")]
    for at, column in ((0, "score_clean"), (20, "score_at_20"), (60, "score_adv")):
        assert shut["gain"][at] == pytest.approx(
            (square["direction"] * (square[column] - square["score_clean"])).mean()
        )
        assert shut["srocc"][at] == pytest.approx(square["score_clean"].corr(square[column], method="spearman"))
        assert shut["gain_low"][at] <= shut["gain"][at] <= shut["gain_high"][at]
    assert list(shut.loc[0, ["gain", "aligned_sd"]]) == [0, 0]
    last = own[own["queries"] == 60].set_index("target")["gain"]
    assert last[ALL] == pytest.approx(last.drop(ALL).mean())
    fgsm = curves[(curves["attack_label"] == "fgsm") & (curves["target"] == ALL)]
    assert fgsm[["queries", "evaluations"]].to_numpy().tolist() == [[0, 4]], "two forwards and two backwards"
    warm = curves[curves["attack_label"].str.startswith("warm") & (curves["target"] == ALL)]
    assert warm[["queries", "evaluations"]].to_numpy().tolist() == [[20, 24], [30, 34]]


def test_a_command_writes_curves_and_both_boards(suite: Path, tmp_path: Path, iqarena: Callable[..., Answer]) -> None:
    text = suite.read_text().replace('"sega(samples=2)"', '"square(queries=30)", "score_boundary(queries=5)"')
    suite.write_text(text)
    answer = iqarena("run", suite, "--limit", 3, "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    out = tmp_path / "run"
    assert "Query attacks: " in answer.out
    assert "Attacks: " in answer.out
    boards = (out / "leaderboard.md").read_text()
    assert "## Query attacks" in boards
    assert "Published for score_boundary (the paper's number" in boards.replace("\\_", "_")
    assert "0.6381" in boards
    assert len(pd.read_csv(out / "curves.csv")) > 10
    page = (out / "index.html").read_text()
    assert 'href="#curves"' in page
    assert 'id="curves"' in page
    only = tmp_path / "only.toml"
    only.write_text(
        text.replace('"identity", "noise", "fgsm", "mi_fgsm(steps=2)", ', "").replace('["noise", "fgsm"]', "[]")
    )
    answer = iqarena("run", only, "--limit", 2, "--out", tmp_path / "only")
    assert answer.code == 0, answer.err
    assert "Query attacks: " in answer.out
    assert "Attacks: " not in answer.out
