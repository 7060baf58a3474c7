"""Rows → tables, plots and page, on seeded synthetic rows whose answers are known."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats as scipy_stats
from toyrows import ATTACKS, fail, make_manifest, make_rows

from iqarena.errors import StoreError
from iqarena.report import derive
from iqarena.report.boards import attack_board, model_board
from iqarena.report.figures.plots import figure_name
from iqarena.report.pairs import pair_table, tidy
from iqarena.report.specs import short_source
from iqarena.report.studies.relatives import relatives_table
from iqarena.report.text.tables import attack_table


@pytest.fixture
def rows() -> pd.DataFrame:
    return make_rows()


def test_a_pair_equals_its_rows_by_hand(rows: pd.DataFrame) -> None:
    table = pair_table(rows, make_manifest(rows)).table
    chosen = (rows["attack_label"] == "fgsm") & (rows["source"] == "cnn") & (rows["target"] == "vit")
    of_pair = rows[chosen]
    pair = table[(table["attack_label"] == "fgsm") & (table["source"] == "cnn") & (table["target"] == "vit")].iloc[0]
    aligned = of_pair["direction"] * (of_pair["score_adv"] - of_pair["score_displaced"])
    directed = of_pair["direction"] * (of_pair["score_adv"] - of_pair["score_control"]) / 2
    deviation = of_pair["score_clean"].std()
    assert (pair["relation"], pair["n"], pair["n_failed"], pair["flags"]) == ("transfer", 12, 0, "")
    assert pair["directed_sd_mean"] == pytest.approx(directed.mean() / deviation)
    assert pair["aligned_sd_mean"] == pytest.approx(aligned.mean() / deviation)
    assert pair["aligned_sd_median"] == pytest.approx(aligned.median() / deviation)
    assert pair["aligned_sd_raise"] == pytest.approx(aligned[of_pair["direction"] == 1].mean() / deviation)
    assert pair["aligned_sd_lower"] == pytest.approx(aligned[of_pair["direction"] == -1].mean() / deviation)
    control = of_pair["direction"] * (of_pair["score_displaced"] - of_pair["score_clean"])
    assert pair["control_gain_mean"] == pytest.approx(control.mean())
    assert pair["gain_mean"] == pytest.approx(
        (of_pair["direction"] * (of_pair["score_adv"] - of_pair["score_clean"])).mean()
    )
    assert pair["srocc"] == pytest.approx(scipy_stats.spearmanr(of_pair["score_clean"], of_pair["score_adv"])[0])
    assert pair["mos_krocc"] == pytest.approx(scipy_stats.kendalltau(of_pair["mos"], of_pair["score_adv"])[0])
    assert pair["float_gap"] == pytest.approx(0.5)
    for name in ("gain_mean", "gain_median", "aligned_sd_mean", "aligned_sd_median", "directed_sd_mean", "srocc"):
        assert pair[f"{name}_low"] <= pair[name] <= pair[f"{name}_high"]
        assert pair[f"{name}_low"] < pair[f"{name}_high"]


def test_rounding_is_averaged_over_the_images_whose_unrounded_score_is_known(rows: pd.DataFrame) -> None:
    """One that was kept with 8 bits has none."""
    rows.loc[rows["image"] != rows["image"].iloc[0], "score_float"] = np.nan
    assert pair_table(rows, make_manifest(rows)).table["float_gap"].to_numpy() == pytest.approx(0.5)


def test_a_constant_in_a_score_changes_no_effect(rows: pd.DataFrame) -> None:
    raised = rows.copy()
    scores = ["score_clean", "score_adv", "score_control", "score_displaced", "score_float"]
    raised.loc[rows["target"] == "vit", scores] += 7.5
    before, after = (pair_table(r, make_manifest(rows)).table for r in (rows, raised))
    for name in ("aligned_sd_mean", "aligned_sd_mean_low", "directed_sd_mean", "gain_mean", "srocc", "p"):
        np.testing.assert_allclose(before[name], after[name], atol=1e-9)


def test_one_test_an_attack_against_the_reference_over_all_pairs_that_both_have(rows: pd.DataFrame) -> None:
    manifest = make_manifest(rows)  # the reference is mi_fgsm
    lost = (rows["attack_label"] == "fgsm") & (rows["target"] == "cnn")
    pairs = pair_table(fail(rows, lost), manifest)
    board = attack_board(pairs, manifest).set_index("attack_label")
    here = pairs.rows[pairs.rows["relation"].isin(["transfer", "ensemble_holdout"]) & (pairs.rows["target"] != "cnn")]
    means = here.groupby(["attack_label", "source", "target", "cluster"])["aligned_sd"].mean()
    by_cluster = means.groupby(["attack_label", "cluster"]).mean()
    expected = scipy_stats.wilcoxon(by_cluster["fgsm"].to_numpy(), by_cluster["mi_fgsm"].to_numpy())
    assert board["p"]["fgsm"] == pytest.approx(expected.pvalue)  # pyright: ignore[reportAttributeAccessIssue]
    assert board["gap"]["fgsm"] == pytest.approx(by_cluster["fgsm"].mean() - by_cluster["mi_fgsm"].mean())
    others = board.drop(index="mi_fgsm")
    assert ((others["gap_low"] <= others["gap"]) & (others["gap"] <= others["gap_high"])).all()
    assert set(board["reference"]) == {"mi_fgsm"}
    assert np.isnan(board["p"]["mi_fgsm"])
    np.testing.assert_allclose(others["p_holm"], np.minimum(1, 4 * others["p"]))  # all are the smallest possible
    assert board["verdict"].to_dict() == {
        "sega(mask=jnd(6)|soft)": "not decided", "mi_fgsm": "reference", "fgsm": "not decided",
        "noise": "not decided", "identity": "not decided",
    }, "six reference images cannot decide four tests: 4 · 2⁻⁵ > 0.05"  # fmt: skip


def test_enough_images_decide_attacks_and_pairs_and_too_few_say_so() -> None:
    many = make_rows(images=40)  # 20 reference images
    manifest = make_manifest(many)
    pairs = pair_table(many, manifest)
    board = attack_board(pairs, manifest).set_index("attack_label")
    assert board["verdict"].to_dict() == {
        "sega(mask=jnd(6)|soft)": "stronger", "mi_fgsm": "reference", "fgsm": "weaker", "noise": "weaker",
        "identity": "weaker",
    }  # fmt: skip
    assert (board["tested"].drop("mi_fgsm") == 9).all()
    assert board["better"]["sega(mask=jnd(6)|soft)"] > 0
    assert "too few" not in attack_table(attack_board(pairs, manifest)).note
    few = make_rows(images=12)
    pairs = pair_table(few, make_manifest(few))
    assert pairs.table["p"].notna().sum() == 4 * 12
    assert pairs.table["p_holm"].isna().all(), "the smallest p of six images times 48 is above 5 %"
    note = attack_table(attack_board(pairs, make_manifest(few))).note
    assert "Not told apart from mi_fgsm: sega(mask=jnd(6)|soft), fgsm, identity, noise." in note
    assert "There are too few reference images to decide single pairs." in note
    unnamed = attack_table(attack_board(pairs, make_manifest(few, reference=None)))
    assert "No attack of this run is the named reference" in unnamed.note
    assert "Verdict" not in unnamed.header


def test_pairs_are_tested_against_the_reference_over_clusters(rows: pd.DataFrame) -> None:
    pairs = pair_table(rows, make_manifest(rows))
    table = pairs.table
    assert table.loc[table["attack_label"] == "mi_fgsm", ["gap", "p"]].isna().to_numpy().all()
    chosen = (table["attack_label"] == "fgsm") & (table["source"] == "cnn") & (table["target"] == "vit")
    here = pairs.rows[(pairs.rows["source"] == "cnn") & (pairs.rows["target"] == "vit")]
    means = here.groupby(["attack_label", "cluster"])["aligned_sd"].mean()
    expected = scipy_stats.wilcoxon(means["fgsm"].to_numpy(), means["mi_fgsm"].to_numpy())
    assert table.loc[chosen, "p"].item() == pytest.approx(expected.pvalue)  # pyright: ignore[reportAttributeAccessIssue]
    assert table.loc[chosen, "gap"].item() == pytest.approx(means["fgsm"].mean() - means["mi_fgsm"].mean())


def test_relatives_are_not_held_out_and_stand_in_a_table_of_their_own(rows: pd.DataFrame) -> None:
    manifest = make_manifest(rows)
    assert relatives_table(pair_table(rows, manifest)) is None
    kin = rows["relation"].isin(["transfer", "ensemble_holdout"]) & (rows["target"] == "vit")
    kin |= (rows["source"] == "hyper") & (rows["target"] == "cnn")
    rows.loc[kin, "relation"] = "same_backbone"
    pairs = pair_table(rows, manifest)
    board = attack_board(pairs, manifest).set_index("attack_label")
    held_out = pairs.table[pairs.table["relation"].isin(["transfer", "ensemble_holdout"])]
    assert board["n_pairs"]["fgsm"] == (held_out["attack_label"] == "fgsm").sum() == 5
    own = pairs.table[(pairs.table["relation"] == "same_backbone") & (pairs.table["attack_label"] == "fgsm")]
    assert board["same_backbone_aligned_sd"]["fgsm"] == pytest.approx(own["aligned_sd_mean"].mean())
    table = relatives_table(pairs)
    assert table is not None
    assert table.summary == {"Attacked by relatives alone, and so on no held-out board": "vit"}
    (line,) = (row for row in table.rows if row[0] == "fgsm")
    assert line[-2:] == ["3", "3"], "single sources: two on vit and one on cnn; strangers: the other three"
    rows.loc[kin, "relation"] = "same_scorer"
    trained_on = relatives_table(pair_table(rows, manifest))
    assert trained_on is not None
    assert trained_on.rows == table.rows, "a hardened sibling is a relative as well"
    rows.loc[rows["target"] == "vit", "target"] = "jpeg|vit"
    defended = relatives_table(pair_table(rows, manifest))
    assert defended is not None
    assert {row[-2] for row in defended.rows if row[0] == "fgsm"} == {"1"}, "of undefended targets"


def test_flags(rows: pd.DataFrame) -> None:
    rows.loc[(rows["attack_label"] == "fgsm") & (rows["source"] == "cnn"), "own_gain"] = -1.0
    rows.loc[(rows["attack_label"] == "mi_fgsm") & (rows["source"] == "vit"), ["zero_gradient", "linf"]] = 1.0
    manifest = make_manifest(rows)
    pairs = pair_table(rows, manifest)
    flags = pairs.table.set_index(["attack_label", "source"])["flags"]
    assert set(flags["fgsm", "cnn"]) == {"did_not_run"}
    assert set(flags["mi_fgsm", "vit"]) == {"zero_gradient;over_budget"}
    assert (flags[["identity", "noise", "sega(mask=jnd(6)|soft)"]] == "").all()
    board = attack_board(pairs, manifest).set_index("attack_label")
    assert board["n_flagged"].to_dict() == {a: 2 if a in ("fgsm", "mi_fgsm") else 0 for a in ATTACKS}


def test_attacks_are_ranked_by_held_out_pairs_alone(rows: pd.DataFrame) -> None:
    manifest = make_manifest(rows)
    board = attack_board(pair_table(rows, manifest), manifest)
    assert board["attack_label"].tolist()[:3] == ["sega(mask=jnd(6)|soft)", "mi_fgsm", "fgsm"]
    assert board["tie_group"].tolist() == [1, 2, 3, 4, 4]
    assert board["win_rate"].is_monotonic_decreasing
    floors = board.set_index("attack_label").loc[["identity", "noise"]]
    assert ((floors["aligned_sd_low"] <= 0) & (floors["aligned_sd_high"] >= 0)).all()
    white = rows["relation"] == "whitebox"
    rows.loc[white, "score_adv"] = rows.loc[white, "score_clean"]
    other = attack_board(pair_table(rows, manifest), manifest)
    untouched = [c for c in board.columns if not c.startswith("whitebox")]
    pd.testing.assert_frame_equal(board[untouched], other[untouched])
    assert not board["whitebox_aligned_sd"].equals(other["whitebox_aligned_sd"])


def test_the_board_mean_counts_each_pair_once(rows: pd.DataFrame) -> None:
    manifest = make_manifest(rows)
    pairs = pair_table(rows, manifest)
    board = attack_board(pairs, manifest).set_index("attack_label")
    table = pairs.table[pairs.table["attack_label"] == "fgsm"].set_index("relation")["aligned_sd_mean"]
    assert board["transfer_aligned_sd"]["fgsm"] == pytest.approx(table["transfer"].mean())
    assert board["ensemble_holdout_aligned_sd"]["fgsm"] == pytest.approx(table["ensemble_holdout"].mean())
    assert board["aligned_sd"]["fgsm"] == pytest.approx(table[["transfer", "ensemble_holdout"]].mean())


def test_replicates_are_paired_over_attacks(rows: pd.DataFrame) -> None:
    twin = rows[rows["attack_label"] == "fgsm"].assign(attack="twin(eps=8/255)", attack_label="twin")
    board = attack_board(pair_table(pd.concat([rows, twin]), make_manifest(rows)), make_manifest(rows))
    assert board["win_rate"].mean() == pytest.approx(0.5)  # what one wins another loses; ties are shared
    same = board.set_index("attack_label").loc[["fgsm", "twin"]]
    for column in ("rank", "rank_low", "rank_high", "tie_group", "aligned_sd", "aligned_sd_low", "win_rate"):
        assert same[column].nunique() == 1, column


def test_models_are_ranked_without_floors_and_without_pairs_that_did_not_run(rows: pd.DataFrame) -> None:
    manifest = make_manifest(rows)
    against_vit = (rows["target"] == "vit") & (rows["attack_label"] != "identity")
    rows.loc[against_vit, "score_adv"] += 6 * rows.loc[against_vit, "direction"]
    board = model_board(pair_table(rows, manifest), manifest).set_index("model")
    assert board["rank"]["vit"] == 3
    assert set(board["strongest_attack"]) == {"sega(mask=jnd(6)|soft)"}
    assert all(source.startswith("ensemble(") for source in board["strongest_source"])
    rows.loc[rows["attack_label"] == "fgsm", "own_gain"] = 0.0
    stronger = model_board(pair_table(rows, manifest), manifest).set_index("model")
    assert (stronger["aligned_sd"] - board["aligned_sd"] > 0).to_numpy().all()  # the weakest real attack is out
    assert (stronger["n_pairs"] == 2 * 3).all()


def test_tables_depend_on_rows_and_seed_alone(rows: pd.DataFrame, tmp_path: Path) -> None:
    names = ["pairs.csv", "leaderboard_attacks.csv", "leaderboard_models.csv"]
    shuffled = rows.sample(frac=1, random_state=1)
    for folder, r, seed in (("a", rows, 5), ("b", shuffled, 5), ("c", rows, 6)):
        manifest = make_manifest(rows, seed=seed, started=folder)
        pairs = pair_table(r, manifest)
        (tmp_path / folder).mkdir()
        tables = (pairs.table, attack_board(pairs, manifest), model_board(pairs, manifest))
        for name, table in zip(names, tables, strict=True):
            tidy(table).to_csv(tmp_path / folder / name, index=False, float_format="%.6g")
    for name in names:
        first = (tmp_path / "a" / name).read_bytes()
        assert first == (tmp_path / "b" / name).read_bytes()
        assert first != (tmp_path / "c" / name).read_bytes()
        assert b"-0," not in first


def test_failed_rows_lower_coverage_and_an_attack_that_always_fails_stays_on_the_board(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    rows = fail(rows, (rows["attack_label"] == "fgsm") | ((rows["attack_label"] == "noise") & (rows["image"] == "i00")))
    manifest = make_manifest(rows)
    text = derive(rows, manifest, tmp_path)
    board = pd.read_csv(tmp_path / "leaderboard_attacks.csv").set_index("attack_label")
    assert board["coverage"]["fgsm"] == 0
    assert board["coverage"]["noise"] == pytest.approx(11 / 12)
    assert board["coverage"]["mi_fgsm"] == 1
    numbers = board.loc[["fgsm"], ["rank", "aligned_sd", "srocc", "win_rate", "ssim", "seconds"]]
    assert numbers.isna().to_numpy().all()
    pairs = pd.read_csv(tmp_path / "pairs.csv")
    assert set(pairs.loc[pairs["attack_label"] == "fgsm", "n_failed"]) == {12}
    assert pairs.loc[pairs["attack_label"] == "fgsm", "flags"].isna().all()
    assert not (tmp_path / "plots" / "heatmap_fgsm.png").exists()
    assert re.search(r"fgsm +0/108", text)
    failed = int((rows["status"] == "error").sum())
    assert f"{len(rows) - failed} of {len(rows)} planned rows" in text
    assert "out of &lt;" not in (tmp_path / "leaderboard.md").read_text()
    assert r"out of \| \<memory\>" in (tmp_path / "leaderboard.md").read_text()


@pytest.mark.parametrize("case", ["one image", "constant scores", "all failed", "one pair"])
def test_degenerate_runs_give_empty_cells_and_no_warning(rows: pd.DataFrame, tmp_path: Path, case: str) -> None:
    if case == "one image":
        rows = rows[rows["image"] == "i00"]
    elif case == "constant scores":
        rows = rows.assign(score_clean=50.0, score_adv=50.0, score_control=50.0, score_displaced=50.0, mos=np.nan)
    elif case == "all failed":
        rows = fail(rows, rows["status"] == "ok")
    else:
        rows = rows[(rows["attack_label"] == "fgsm") & (rows["source"] == "cnn") & (rows["target"] == "cnn")]
    text = derive(rows, make_manifest(rows), tmp_path)
    pairs = pd.read_csv(tmp_path / "pairs.csv")
    if case != "one pair":
        assert pairs[["aligned_sd_mean", "srocc", "srocc_low", "p"]].isna().to_numpy().all()
        texts = [text, *((tmp_path / name).read_text() for name in ("leaderboard.md", "pairs.csv", "index.html"))]
        assert not any(re.search(r"\bnan\b", t, re.IGNORECASE) for t in texts)
    if case == "one image":
        assert pairs["gain_mean"].notna().all()
        assert pairs["gain_mean_low"].isna().all()
    board = pd.read_csv(tmp_path / "leaderboard_attacks.csv")
    assert len(board) == len(ATTACKS)
    assert board["rank"].isna().all()


def test_no_rows_is_a_user_error(rows: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="found none"):
        derive(rows[:0], make_manifest(rows), tmp_path)


@pytest.fixture(scope="module")
def derived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a whole run with one kept image."""
    out, rows = tmp_path_factory.mktemp("run"), make_rows()
    kept = out / "gallery"
    kept.mkdir()
    for name, level in (("i00__clean.png", 100), ("i00__fgsm__adv.png", 108)):
        Image.fromarray(np.full((24, 32, 3), level, np.uint8)).save(kept / name)
    entry = {"image": "i00", "attack_label": "fgsm", "source": "ensemble(cnn, hyper)", "target": ""}
    files = {"clean": "i00__clean.png", "adversarial": "i00__fgsm__adv.png"}
    (kept / "gallery.json").write_text(json.dumps([entry | files]))
    derive(rows, make_manifest(rows), out, kept)
    return out


def test_derive_writes_a_whole_and_escaped_page(derived: Path) -> None:
    page = (derived / "index.html").read_text()
    links = set(re.findall(r'(?:href|src)="([^"#]+)"', page))
    assert {"pairs.csv", "plots/attacks.svg", "plots/gallery.jpg", "plots/heatmap_sega_mask_jnd_6_soft.png"} <= links
    assert all((derived / link).stat().st_size > 0 for link in links)
    assert "toy &amp; co" in page
    assert "a &lt;reading&gt;" in page
    assert "http" not in page  # self-contained
    for label in ATTACKS:
        assert f">{label}</td>" in page
    with Image.open(derived / "plots" / "gallery.jpg") as figure:
        colours = figure.convert("RGB").getcolors(maxcolors=2**24)
    assert colours is not None
    assert len(colours) > 50  # images were drawn, not only their captions


def test_markdown_tables_keep_their_columns(derived: Path) -> None:
    blocks = re.findall(r"(?:^\|.*\n)+", (derived / "leaderboard.md").read_text(), re.MULTILINE)
    assert len(blocks) == 3  # attacks, models, reconstructions
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_the_report_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import iqarena.report; print('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": _root()}
    )
    assert done.stdout.strip() == "False"  # and drawing libraries wait until something is drawn


def test_names_for_sources_and_files() -> None:
    assert short_source("ensemble(bilinear, jpeg(q=50)|cnn, vit)") == "ensemble of 3"
    assert short_source("jpeg(q=50)|cnn") == "jpeg(q=50)|cnn"
    assert figure_name("sega(eps=8/255, mask=jnd(6)|soft)") == "sega_eps_8_255_mask_jnd_6_soft"
    long = [figure_name("a" * 100 + end) for end in "xy"]
    assert long[0] != long[1]
    assert max(map(len, long)) <= 80


def _root() -> str:
    import iqarena.report

    return str(Path(iqarena.report.__file__).parents[2])
