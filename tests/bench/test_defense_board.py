"""The board of defenses and the signs of gradient masking, on synthetic rows whose answers are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from toymanifest import toy_manifest

from iqarena.report import derive
from iqarena.report.contents import contents
from iqarena.report.figures.defense_plot import front
from iqarena.report.pairs import pair_table
from iqarena.report.specs import split_target
from iqarena.report.studies.defenses import defense_study
from iqarena.report.studies.masking import masking_table, signs
from iqarena.report.text.tables import reconstruction_table
from iqarena.runner.driver import Options
from iqarena.runner.manifest import build_manifest
from iqarena.store.manifest import Manifest
from iqarena.suite.file import load_suite
from iqarena.suite.plan import resolve

PGD4, PGD8, SQUARE, NOISE = "pgd(eps=4/255)", "pgd(eps=8/255)", "square(eps=8/255, queries=9)", "noise(eps=8/255)"
JPEG = "jpeg(quality=50)"
IMAGES = 12
# points that each attack gains: whitebox small and large budget, from the same scorer undefended, from another, queries
STRENGTH = {"cnn": (10, 20, None, 2, 5), f"{JPEG}|cnn": (6, 12, 8, 1, 4), "flip|cnn": (9, 18, 8, 1, 4)}
SECONDS = {"cnn": 0.01, f"{JPEG}|cnn": 0.03, "flip|cnn": 0.01}


def make_rows(strength: dict[str, tuple[Any, ...]], mos: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    order = np.linspace(10, 40, IMAGES)  # below 50: every attack raises
    rows = []
    for target, (small, large, same, other, query) in strength.items():
        lines = [
            (PGD4, target, "whitebox", small), (PGD8, target, "whitebox", large),
            (PGD8, split_target(target)[1], "same_scorer", same),
            (PGD8, "hyper", "transfer", other), (SQUARE, target, "query", query), (NOISE, target, "whitebox", 0.5),
        ]  # fmt: skip
        clean = order if target == "cnn" else order[::-1] + 1 if target.startswith("flip") else order + 2
        for attack, source, relation, gain in (line for line in lines if line[3] is not None):
            asks, looks = attack == SQUARE, attack not in (SQUARE, NOISE)
            for k in range(IMAGES):
                moved = gain + 0.1 * rng.normal()
                rows.append({
                    "attack": attack, "attack_label": attack, "source": source, "target": target, "relation": relation,
                    "image": f"i{k:02d}", "cluster": f"c{k // 2}", "repeat": 0, "status": "ok", "message": "",
                    "direction": 1.0, "score_clean": clean[k], "score_adv": clean[k] + moved,
                    "score_control": clean[k] - moved, "score_displaced": clean[k],
                    "score_float": clean[k] + moved + 0.25,
                    "mos": float(k) if mos else np.nan, "own_gain": 5.0, "zero_gradient": 0.0 if looks else np.nan,
                    "linf": 4 / 255 if attack == PGD4 else 8 / 255, "l2": 2.0, "psnr": 32.0, "ssim": 0.9,
                    "changed": 1.0, "above_jnd": 0.1, "forwards": 2.0, "backwards": float(looks),
                    "queries": 9.0 * asks, "no_response": 0.0 if asks else np.nan, "seconds": 0.1, "sha256": "",
                    "score_seconds": SECONDS.get(target, 0.01),
                })  # fmt: skip
    return pd.DataFrame(rows)


def make_manifest(rows: pd.DataFrame) -> Manifest:
    budgets = {PGD4: 4 / 255, PGD8: 8 / 255, SQUARE: 8 / 255, NOISE: 8 / 255}
    models = {
        t: {"label": t.replace("(quality=50)", ""), "random_defense": t.startswith("flip"),
            "hardened": t.startswith("hard"), "facts": {"training_seconds": 7200}}
        for t in rows["target"].unique()
    }  # fmt: skip
    attacks = [{"label": attack, "eps": eps, "floor": attack == NOISE} for attack, eps in budgets.items()]
    return toy_manifest(attacks, seed=3, targets=list(models), sources=["cnn", "vit"], models=models)


def board_of(rows: pd.DataFrame) -> pd.DataFrame:
    manifest = make_manifest(rows)
    study = defense_study(pair_table(rows, manifest), manifest)
    assert study is not None
    return study.files["leaderboard_defenses.csv"].set_index("label")


def test_readers_see_labels_and_files_hold_specs() -> None:
    rows = make_rows(STRENGTH)
    shown = contents(rows, make_manifest(rows))
    models = next(section.table for section in shown.sections if section.table.title == "Models")
    assert {"cnn", "jpeg|cnn"} <= {row[models.header.index("Model")] for row in models.rows}
    for table in [section.table for section in shown.sections] + shown.remarks:
        assert JPEG not in str(table.rows)
    assert JPEG + "|cnn" in set(shown.files["pairs.csv"]["target"])
    assert JPEG + "|cnn" in set(shown.files["leaderboard_models.csv"]["model"])


def test_readings_of_papers_in_defenses_stand_with_those_in_attacks() -> None:
    targets = ["median_smoothing|gaussian|toy_curved", "jpeg|toy_curved"]
    plan = resolve(load_suite({"images": "pocket", "targets": targets, "sources": ["own"], "attacks": ["fgsm", "uap"]}))
    table = reconstruction_table(build_manifest(plan, Options(), "a test"))
    smoothing, gaussian = (defense.reconstructed for defense in plan.targets[0].defenses)
    assert table is not None
    assert table.rows == [["uap", plan.attacks[1].reconstructed], [targets[0], f"{smoothing}; {gaussian}"]]


def test_a_target_is_split_into_defenses_and_scorer() -> None:
    assert split_target("cnn") == ("", "cnn")
    assert split_target("jpeg(quality=50)|flip(p=1)|toy(of=jpeg|cnn)") == (
        "jpeg(quality=50)|flip(p=1)",
        "toy(of=jpeg|cnn)",
    )


def test_the_board_is_what_the_rows_say() -> None:
    rows = make_rows(STRENGTH)
    board = board_of(rows)
    assert list(board.index) == ["jpeg", "flip", "undefended"]
    own = rows[(rows["target"] == f"{JPEG}|cnn") & (rows["attack"] == PGD8) & (rows["relation"] == "whitebox")]
    plain = rows[(rows["target"] == "cnn") & (rows["attack"] == PGD8) & (rows["relation"] == "whitebox")]
    moved, undefended = (r["score_adv"] - r["score_clean"] for r in (own, plain))
    jpeg: Any = board.loc["jpeg"]
    assert jpeg["gain"] == pytest.approx(moved.mean())
    clean = rows[rows["target"] == f"{JPEG}|cnn"].drop_duplicates("image")["score_clean"]
    assert jpeg["gain_sd"] == pytest.approx(moved.mean() / clean.std())
    assert jpeg["gain_cut"] == pytest.approx(undefended.mean() - moved.mean())
    assert jpeg["mae"] == pytest.approx(moved.abs().mean())
    headroom = np.maximum(own["score_clean"], 100 - own["score_clean"])
    assert jpeg["r"] == pytest.approx(np.log10(headroom / moved.abs()).mean())
    expected = own["score_clean"].corr(own["score_adv"], method="spearman")
    assert jpeg["srocc_kept"] == pytest.approx(expected)
    assert jpeg["gain_cut_low"] < jpeg["gain_cut"] < jpeg["gain_cut_high"]
    assert jpeg["gain_whitebox"] == pytest.approx(moved.mean())
    assert jpeg[["gain_transfer", "gain_same_scorer", "gain_query", "gain_noise"]].tolist() == pytest.approx(
        [1, 8, 4, 0.5], abs=0.15
    )
    assert (jpeg["shift"], jpeg["slowdown"], jpeg["srocc_to_undefended"]) == pytest.approx((2, 3, 1))
    assert board.loc["flip", "srocc_to_undefended"] == pytest.approx(-1)
    none: Any = board.loc["undefended"]
    zeros = ["gain_cut", "gain_cut_low", "gain_cut_high", "shift"]
    assert none[zeros].tolist() == [0, 0, 0, 0]
    assert (none["srocc_to_undefended"], none["slowdown"]) == pytest.approx((1, 1))
    assert np.isnan(none["mos_srocc_lost"])


def test_the_strongest_attack_may_be_any_that_looks_and_never_noise() -> None:
    rows = make_rows({"cnn": (10, 20, None, 2, 5), f"{JPEG}|cnn": (1, 2, 9, 1, 4)})
    rows.loc[rows["attack"] == NOISE, "score_adv"] += 30
    manifest = make_manifest(rows)
    study = defense_study(pair_table(rows, manifest), manifest)
    assert study is not None
    each = study.files["defenses_by_scorer.csv"].set_index("label")
    assert each.loc["jpeg", "strongest"] == f"{PGD8} from cnn"
    assert each.loc["jpeg", "relation"] == "same_scorer"
    assert each.loc["jpeg", "gain"] == pytest.approx(9, abs=0.2)
    assert "transfer_beats_whitebox: pgd(eps=8/255) from cnn gains 9.0 points" in str(each.loc["jpeg", "masking"])


def test_a_defense_is_compared_on_its_own_scorers_only() -> None:
    strength = STRENGTH | {"vit": (15, 30, None, 2, 5), f"{JPEG}|vit": (5, 10, 8, 1, 4)}
    board = board_of(make_rows(strength))
    assert board.loc["jpeg", "gain_cut"] == pytest.approx(((20 - 12) + (30 - 10)) / 2, abs=0.2)
    assert board.loc["flip", "gain_cut"] == pytest.approx(20 - 18, abs=0.2)
    assert (board["n_scorers"] == [2, 1, 2]).all()


def test_opinion_scores_and_training_time_are_used_where_there_are_any() -> None:
    rows = make_rows(STRENGTH | {"hard|cnn": (3, 5, 4, 1, 2)}, mos=True)
    board = board_of(rows)
    assert board.loc["flip", "mos_srocc_lost"] == pytest.approx(2)  # from 1 to −1
    assert board.loc["jpeg", "mos_srocc_lost"] == pytest.approx(0)
    assert board["training_seconds"].dropna().to_dict() == {"hard": 7200}


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ((6, 12, 8, 1, 4), []),
        ((6, 12, 15, 1, 4), ["transfer_beats_whitebox"]),
        ((6, 12, 8, 14, 4), ["transfer_beats_whitebox"]),
        ((6, 12, 8, 1, 15), ["query_beats_whitebox"]),
        ((13, 12, 8, 1, 4), ["budget_not_stronger"]),
    ],
)
def test_each_sign_of_masking_is_raised_by_its_cause_alone(gains: tuple[int, ...], expected: list[str]) -> None:
    rows = make_rows({"cnn": STRENGTH["cnn"], f"{JPEG}|cnn": gains})
    manifest = make_manifest(rows)
    pairs = pair_table(rows, manifest)
    assert [name for name, _ in signs(pairs, f"{JPEG}|cnn", manifest)] == expected
    assert signs(pairs, "cnn", manifest) == []
    assert (masking_table(pairs, manifest) is None) == (not expected)


def test_zero_gradients_and_random_scores_are_signs_with_their_numbers() -> None:
    rows = make_rows(STRENGTH)
    blind = (rows["target"] == f"{JPEG}|cnn") & (rows["relation"] == "whitebox") & (rows["image"] < "i03")
    rows.loc[blind, "zero_gradient"] = 1.0
    manifest = make_manifest(rows)
    pairs = pair_table(rows, manifest)
    assert [name for name, _ in signs(pairs, f"{JPEG}|cnn", manifest)] == ["zero_gradient"]
    assert "on 25 % of the images" in signs(pairs, f"{JPEG}|cnn", manifest)[0][1]
    actual = dict(signs(pairs, "flip|cnn", manifest))
    assert actual == {
        "random_scores": "declared random; rounding the attacked image to 8 bits moves the score by 0.25 points"
    }


def test_a_weaker_budget_is_no_evidence_of_masking() -> None:
    """A transfer attack with more room than any white-box attack may gain more without a sign."""
    rows = make_rows({"cnn": STRENGTH["cnn"], f"{JPEG}|cnn": (6, 12, 15, 1, 20)})
    rows = rows[(rows["attack"] != PGD8) | (rows["relation"] != "whitebox")]
    manifest = make_manifest(rows)
    assert signs(pair_table(rows, manifest), f"{JPEG}|cnn", manifest) == []


def test_the_front_is_what_no_other_beats() -> None:
    x = np.array([0.0, 1.0, 1.0, 2.0, 3.0])
    y = np.array([0.0, 5.0, 7.0, 6.0, 8.0])
    assert front(x, y) == [0, 2, 4]


def test_failed_rows_and_missing_references_leave_gaps_not_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iqarena.report.figures.plots.save", lambda *args, **options: None)
    rows = make_rows({f"{JPEG}|cnn": STRENGTH[f"{JPEG}|cnn"]})
    assert board_of(rows)["gain_cut"].isna().all()
    rows = make_rows(STRENGTH)
    numeric = rows.select_dtypes("number").columns.drop("repeat")
    failed = rows["target"] == f"{JPEG}|cnn"
    rows.loc[failed, numeric] = np.nan
    rows.loc[failed, "status"] = "error"
    board = board_of(rows)
    assert list(board.index) == ["flip", "undefended", "jpeg"]
    derive(rows, make_manifest(rows), tmp_path)
    assert "jpeg" in (tmp_path / "leaderboard_defenses.csv").read_text("utf-8")


def test_no_defense_no_board() -> None:
    rows = make_rows({"cnn": STRENGTH["cnn"]})
    manifest = make_manifest(rows)
    assert defense_study(pair_table(rows, manifest), manifest) is None
    assert masking_table(pair_table(rows, manifest), manifest) is None
