"""Main effects, effects at the same SSIM and agreement on made-up rows whose answers are known."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from toymanifest import toy_manifest
from toyruns import draw_nothing

from iqarena.api.spec import parse
from iqarena.errors import SpecError
from iqarena.metrics.statistics import holm
from iqarena.report import derive
from iqarena.report.pairs import Pairs, pair_table
from iqarena.report.studies.ablation import ablation_study, factor_levels
from iqarena.report.studies.agreement import agreement_study
from iqarena.report.studies.compare import comparison
from iqarena.report.studies.same_ssim import same_ssim_study
from iqarena.report.sums import weighted_sum
from iqarena.store.manifest import GradientCounts, Manifest

TARGETS = ["a", "b", "c"]
SOURCES = {"a": 1, "b": 1, "c": 1, "ensemble(b, c)": 2, "ensemble(a, c)": 2, "ensemble(a, b)": 2}
MASKS = {"none": 0.0, "jnd(threshold=6)": 1.0, "jnd(threshold=3)|random(keep=0.5)": -2.0}
STEPS = {"1": 0.0, "5": 0.5}
GRID = {"attack": "sega", "steps": [1, 5], "mask": list(MASKS)}


def spec(mask: str, steps: str, eps: str = "8/255") -> str:
    return f"sega(eps={eps}, steps={steps}, mask={mask}, samples=20)"


def make_rows(
    effects: dict[str, float],
    *,
    sources: dict[str, int] | None = None,
    noise: float = 1.0,
    seed: int = 0,
    **columns: Any,
) -> pd.DataFrame:
    """Every attack from every source on every target outside it: its effect, and as much again for each source model
    beyond the first, in deviations of the target, plus noise; 20 images of 10 images."""
    rng = np.random.default_rng(seed)
    clean = {target: rng.uniform(10, 90, 20) for target in TARGETS}
    rows = []
    for (attack, effect), (source, size), target in itertools.product(
        effects.items(), (sources or SOURCES).items(), TARGETS
    ):
        members = source.removeprefix("ensemble(").rstrip(")").split(", ")
        if size > 1 and target in members:
            continue
        relation = "whitebox" if target in members else "transfer" if size == 1 else "ensemble_holdout"
        deviation = clean[target].std(ddof=1)
        for k, f in enumerate(clean[target]):
            s = -1 if f > 50 else 1
            change = s * deviation * (effect + (size - 1) + noise * rng.normal())
            rows.append({
                "attack": attack, "attack_label": attack, "source": source, "target": target, "relation": relation,
                "image": f"i{k:02d}", "cluster": f"c{k // 2}", "repeat": 0, "status": "ok", "message": "",
                "direction": s, "score_clean": f, "score_adv": f + change, "score_control": f - change,
                "score_displaced": f,
                "score_float": f + change, "mos": np.nan, "own_gain": 1.0, "linf": 8 / 255, "l2": 1.0, "psnr": 30.0,
                "ssim": 0.9, "changed": 1.0, "above_jnd": 0.0, "zero_gradient": 0.0, "forwards": 20, "backwards": 20,
                "queries": 0, "seconds": 0.1, "sha256": "", **columns,
            })  # fmt: skip
    return pd.DataFrame(rows)


def make_manifest(effects: Iterable[str], **more: Any) -> Manifest:
    facts = {"attacks": [{"label": attack} for attack in effects], "targets": TARGETS, "sources": list(SOURCES)}
    return toy_manifest(**{"seed": 1, **facts, **more})


FACTORIAL = {spec(mask, steps): MASKS[mask] + STEPS[steps] for steps in STEPS for mask in MASKS}
WITH_NOISE = {"noise(eps=8/255)": 0.0, **FACTORIAL}
REFERENCE = spec("jnd(threshold=6)", "1")
MANIFEST = make_manifest(WITH_NOISE, reference=REFERENCE, settings={"grid": GRID})


def main_effects(pairs: Pairs) -> dict[tuple[str, str], dict[Any, Any]]:
    study = ablation_study(pairs, MANIFEST)
    assert study is not None
    return {(r["factor"], r["level"]): r for r in study.files["main_effects.csv"].to_dict("records")}


@cache
def full(noise: float) -> Pairs:
    return pair_table(make_rows(WITH_NOISE, noise=noise), MANIFEST)


def test_factors_are_read_back_from_specs_and_sources() -> None:
    table = full(0.0).table
    levels, reference = factor_levels(table, MANIFEST, REFERENCE)
    assert reference == {"steps": "1", "mask": "jnd(threshold=6)", "sources": "2"}
    assert {name: list(levels[name].cat.categories) for name in levels} == {
        "steps": ["1", "5"], "mask": list(MASKS), "sources": ["1", "2"]
    }  # fmt: skip
    for k, actual in enumerate(levels.astype(object).to_dict("records")):
        attack, source = table["attack"][k], table["source"][k]
        assert actual["sources"] == str(SOURCES[source])
        if attack.startswith("sega"):
            assert spec(actual["mask"], actual["steps"]) == attack
        else:
            assert pd.isna(actual["mask"]), "an attack outside the grid has no level"
    other = table.assign(attack=table["attack"].str.replace("samples=20", "samples=5"))
    grid = factor_levels(other, dataclasses.replace(MANIFEST, attacks=()), REFERENCE)[0]
    assert grid["mask"].isna().all(), "nor has one that differs from the reference elsewhere"


def test_a_level_beside_the_grid_takes_no_combination_from_the_others() -> None:
    pairs = pair_table(make_rows({**WITH_NOISE, spec("edges", "1"): 7.0}, noise=0.0), MANIFEST)
    levels, _ = factor_levels(pairs.table, MANIFEST, REFERENCE)
    assert levels[["mask", "steps"]][pairs.table["attack"] == spec("edges", "1")].isna().to_numpy().all()
    pd.testing.assert_frame_equal(pd.DataFrame(main_effects(pairs)), pd.DataFrame(main_effects(full(0.0))))


def test_a_factor_counts_where_it_changes_the_images() -> None:
    """Without a mask the steps change nothing here: half an effect in two combinations of three, not a third in all."""
    rows = make_rows({**WITH_NOISE, spec("none", "5"): 0.0}, noise=0.0)
    actual = main_effects(pair_table(rows, MANIFEST))
    assert actual["steps", "5"]["difference"] == pytest.approx(0.5)
    assert actual["steps", "5"]["n_pairs"] == actual["steps", "1"]["n_pairs"] == 2 * 9
    assert actual["mask", "none"]["n_pairs"] == 2 * 9, "the masks do, at either number of steps"


def test_main_effects_without_noise_are_the_ones_put_in() -> None:
    actual = main_effects(full(0.0))
    mean_mask, mean_steps, mean_sources = np.mean([*MASKS.values()]), np.mean([*STEPS.values()]), 0.5
    for mask, effect in MASKS.items():
        line = actual["mask", mask]
        assert line["aligned_sd"] == pytest.approx(effect + mean_steps + mean_sources)
        assert line["aligned_sd_low"] == pytest.approx(line["aligned_sd_high"]) == pytest.approx(line["aligned_sd"])
        if mask != "jnd(threshold=6)":
            assert line["difference"] == pytest.approx(effect - MASKS["jnd(threshold=6)"])
            assert line["p"] == pytest.approx(2 / 2**10), "ten images, all on one side"
    assert actual["steps", "5"]["difference"] == pytest.approx(0.5)
    assert actual["steps", "5"]["verdict"] == "helped"
    assert actual["mask", "none"]["verdict"] == "hurt"
    assert actual["sources", "1"]["aligned_sd"] == pytest.approx(mean_mask + mean_steps)
    assert actual["sources", "1"]["difference"] == pytest.approx(-1)
    assert [r["level"] for r in actual.values() if r["verdict"] == "reference"] == ["1", "jnd(threshold=6)", "2"]
    compared = [r for r in actual.values() if r["verdict"] != "reference"]
    assert [r["p_holm"] for r in compared] == pytest.approx([4 * 2 / 2**10] * 4), "four comparisons in all"


def test_the_paired_p_value_is_scipys_over_images() -> None:
    actual, effects = main_effects(full(3.0)), full(3.0).rows
    held_out = effects[(effects["relation"] != "whitebox") & effects["attack"].str.startswith("sega")]
    # two targets sources of one model each, one of two: by combination and target first, as every one counts once
    cell = held_out.assign(
        mask=held_out["attack"].str.extract(r"mask=(.*), samples")[0], size=held_out["source"].map(SOURCES)
    )
    cell["steps"] = cell["attack"].str.extract(r"steps=(\d)")[0]
    means = cell.groupby(["mask", "steps", "size", "target", "cluster"])["aligned_sd"].mean()
    per_image = means.groupby(["mask", "cluster"]).mean().unstack("mask")
    for mask in ("none", "jnd(threshold=3)|random(keep=0.5)"):
        expected = scipy_stats.wilcoxon(per_image[mask], per_image["jnd(threshold=6)"])
        assert actual["mask", mask]["p"] == pytest.approx(expected.pvalue)  # pyright: ignore[reportAttributeAccessIssue]
        gap = per_image[mask].mean() - per_image["jnd(threshold=6)"].mean()
        assert actual["mask", mask]["difference"] == pytest.approx(gap)
        assert actual["mask", mask]["difference_low"] < gap < actual["mask", mask]["difference_high"]
    p, p_holm = (np.array([r[name] for r in actual.values()]) for name in ("p", "p_holm"))
    np.testing.assert_array_equal(p_holm, holm(p))


def test_levels_are_compared_on_the_targets_that_all_have() -> None:
    """A target that only the larger ensembles leave out must not pass for an effect of their size."""
    sources = {"a": 1, "b": 1, "ensemble(a, b)": 2}
    rows = make_rows(WITH_NOISE, sources=sources, noise=0.0)
    strange = rows["target"] == "c"
    rows.loc[strange, "score_adv"] += 100 * rows.loc[strange, "direction"]
    actual = main_effects(pair_table(rows, MANIFEST))
    assert actual["sources", "1"]["n_pairs"] == 2 * len(FACTORIAL), "two single sources, the one target in common"
    assert actual["sources", "1"]["difference"] == pytest.approx(-1)


def test_cells_are_one_line_per_combination_and_relation() -> None:
    study = ablation_study(full(0.0), MANIFEST)
    assert study is not None
    cells = study.files["ablation.csv"]
    assert len(cells) == len(FACTORIAL) * 3
    assert list(cells.columns[:4]) == ["steps", "mask", "sources", "relation"]
    single = cells[(cells["sources"] == "1") & (cells["relation"] == "transfer")]
    assert (single["n_pairs"] == 6).all()
    assert (single["n"] == 6 * 20).all()
    wanted = [STEPS[s] + MASKS[m] for s, m in zip(single["steps"], single["mask"], strict=True)]
    np.testing.assert_allclose(single["aligned_sd"], wanted)


def test_an_ablation_is_written_and_survives_what_failed(tmp_path: Path) -> None:
    rows = make_rows(WITH_NOISE, noise=0.5)
    failed = rows["attack"] == spec("none", "5")
    rows = rows.astype(dict.fromkeys(rows.select_dtypes("number").columns.drop("repeat"), float))
    rows.loc[failed, rows.select_dtypes("float").columns] = np.nan
    rows.loc[failed, "status"] = "error"
    manifest = dataclasses.replace(MANIFEST, gradients=GradientCounts(120, resumed=False))
    terminal = derive(rows, manifest, tmp_path)
    text = (tmp_path / "ablation.md").read_text()
    assert "**Helped**: steps = 5 instead of 1 (+0.5" in text
    assert "**Hurt**: mask = none instead of jnd(threshold=6)" in text
    assert "evaluated; the others were remembered" in terminal
    requested = 20 * len(rows[~failed].drop_duplicates(["attack", "source", "image"]))
    assert f"{requested:,} gradients of an image requested by the attacks, 120 evaluated" in text
    assert (tmp_path / "plots" / "main_effects.svg").exists()
    assert not list((tmp_path / "plots").glob("heatmap*")), "a hundred maps help nobody"
    page = (tmp_path / "index.html").read_text()
    assert "main_effects.csv" in page
    assert "steps = 5 instead of 1" in page
    everything = main_effects(pair_table(rows.assign(status="error"), MANIFEST))
    assert all(np.isnan(r["aligned_sd"]) for r in everything.values())
    assert {r["verdict"] for r in everything.values()} == {"reference", "no difference shown"}


def at_budgets(
    budgets: dict[int, tuple[float, float]], name: str = "sega"
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Rows of an attack at budgets → (effect, SSIM); images differ in SSIM, and budgets apart from 8 are searched."""
    subset, attacks = [], []
    for level, (effect, ssim) in budgets.items():
        attack = f"{name}(eps={level}/255)"
        rows = make_rows({attack: effect}, noise=0.0)
        wobble = rows["image"].str[1:].astype(int) / 1000 - 0.0095
        subset.append(rows.assign(ssim=ssim + wobble, linf=level / 255))
        attacks.append({"label": attack, "eps": level / 255, "searched": level != 8})
    return pd.concat(subset), attacks


def test_the_effect_at_an_ssim_is_interpolated_between_its_neighbours() -> None:
    rows, attacks = at_budgets({8: (2.0, 0.80), 4: (1.0, 0.95), 5: (1.4, 0.91), 6: (1.6, 0.87)})
    manifest = make_manifest([], attacks=attacks, settings={"ssim": 0.9})
    study = same_ssim_study(pair_table(rows, manifest), manifest)
    assert study is not None
    line = study.files["same_ssim.csv"].iloc[0]
    beyond_first = 3 / 9  # of nine held-out pairs, three are of ensembles of two, each worth 1 more
    assert line["levels"] == "5–6"
    assert line["budget"] == pytest.approx(5.25)
    assert line["aligned_sd"] == pytest.approx(1.4 + 0.25 * 0.2 + beyond_first)
    # a replicate with other images has another SSIM at both budgets, and so another place between them
    images = np.arange(20) / 1000 - 0.0095
    weights = pair_table(rows, manifest).weights
    shift = weights @ images / weights.sum(axis=1)
    drawn = 1.4 + (0.91 + shift - 0.9) / 0.04 * 0.2 + beyond_first
    assert line["aligned_sd_low"] == pytest.approx(np.quantile(drawn, 0.025))
    assert line["aligned_sd_high"] == pytest.approx(np.quantile(drawn, 0.975))
    assert study.files["ssim_levels.csv"]["level"].tolist() == [4, 5, 6, 8]


def test_the_boards_show_declared_budgets_and_the_table_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = draw_nothing(monkeypatch.setattr)
    actual, merged = [], []
    for name, strength in (("sega", 1.0), ("fgsm", 0.5), ("noise", 0.0)):
        rows, attacks = at_budgets({8: (2 * strength, 0.88), 7: (strength, 0.92)}, name)
        actual.append(rows)
        merged += attacks
    rows, far = at_budgets({8: (1.0, 0.99)}, "faint")
    manifest = make_manifest([], attacks=[*merged, *far], settings={"ssim": 0.9})
    derive(pd.concat([*actual, rows]), manifest, tmp_path)
    board = pd.read_csv(tmp_path / "leaderboard_attacks.csv")
    assert sorted(board["attack_label"]) == [
        "faint(eps=8/255)",
        "fgsm(eps=8/255)",
        "noise(eps=8/255)",
        "sega(eps=8/255)",
    ]
    table = pd.read_csv(tmp_path / "same_ssim.csv")
    assert table["attack"].tolist() == ["sega", "fgsm", "noise", "faint"]
    assert table["aligned_sd"][:3].tolist() == pytest.approx([1.5 + 1 / 3, 0.75 + 1 / 3, 1 / 3], rel=1e-5)
    assert table["rank"].tolist()[:3] == [1, 2, 3]
    assert table.iloc[3][["rank", "aligned_sd", "levels"]].isna().all()
    assert "Attacks at the same SSIM, 0.9" in (tmp_path / "leaderboard.md").read_text()
    assert "same_ssim" in drawn


def agreeing(pairs: int = 9) -> pd.DataFrame:
    """Attacks whose cosine with every target grows with their effect, and noise with neither."""
    effects = {"one": 0.5, "two": 1.0, "three": 2.0, "noise": -5.0}
    rows = make_rows(effects, noise=0.1, energy_low=0.5)
    rows["cosine"] = rows["attack"].map({"one": 0.1, "two": 0.2, "three": 0.3, "noise": 0.0}) + rows["source"].map(
        SOURCES
    )
    rows.loc[rows["attack"] == "noise", ["forwards", "backwards"]] = 0
    return rows


def test_agreement_is_the_rank_correlation_over_pairs_without_floors(tmp_path: Path) -> None:
    rows = agreeing()
    manifest = make_manifest(["one", "two", "three", "noise"])
    pairs = pair_table(rows, manifest)
    study = agreement_study(pairs)
    assert study is not None
    table = pairs.table
    real = table[(table["relation"] != "whitebox") & (table["attack"] != "noise")]
    expected = scipy_stats.spearmanr(real["cosine"], real["aligned_sd_mean"])[0]
    summary = study.table.summary["Rank correlation"]
    assert summary.startswith(f"Spearman's ρ = {expected:.2f} of mean cosine")
    assert f"over {len(real)} points" in summary
    places = real.groupby(["source", "target"])[["cosine", "aligned_sd_mean"]]
    ranks = places.rank() - places.rank().groupby([real["source"], real["target"]]).transform("mean")
    within = ranks["cosine"].corr(ranks["aligned_sd_mean"])
    assert within < 1
    assert f"ranked within it: ρ = {within:.2f}." in summary
    assert [row[0] for row in study.table.rows] == ["three", "two", "one", "noise"]
    derive(rows, manifest, tmp_path)
    assert (tmp_path / "plots" / "agreement.png").exists()
    assert agreement_study(pair_table(rows.drop(columns="cosine"), manifest)) is None


def test_a_weighted_sum_does_not_look_at_pairs_of_weight_zero() -> None:
    rows = make_rows({"one": 1.0, "two": 2.0})
    full = pair_table(rows, make_manifest([]))
    one = np.array(full.table["attack"] == "one", float)
    before = weighted_sum(full, one)
    subset, cut = (np.where(one > 0, values, np.nan) for values in (full.samples, full.clusters))
    hole = dataclasses.replace(full, samples=subset, clusters=cut)
    after = weighted_sum(hole, one)
    assert (after.value, after.p) == (before.value, before.p)
    np.testing.assert_array_equal(after.samples, before.samples)
    assert np.isnan(weighted_sum(full, 0 * one).value)


def test_specs_are_written_as_they_were_read() -> None:
    for text in ("sega", spec("jnd(threshold=3)|random(keep=0.5)", "5"), "ensemble(a, b|c)", "x(-1e-3, y=2)"):
        assert str(parse(text)) == text


# ---- two attacks side by side


def test_a_comparison_is_over_the_held_out_pairs_that_both_attacks_have() -> None:
    effects = {"fgsm": 0.5, "pgd": 0.2}
    rows = make_rows(effects)
    rows = rows[(rows["attack"] != "pgd") | (rows["source"] != "a")]  # pgd was not run from there
    pairs = pair_table(rows, make_manifest(effects))
    held_out = pairs.table[
        pairs.table["relation"].isin(["transfer", "ensemble_holdout"]) & (pairs.table["source"] != "a")
    ]
    wide = held_out.pivot(index=["source", "target"], columns="attack", values="aligned_sd_mean")
    total, *targets = comparison(pairs, "fgsm", "pgd").rows
    assert [row[0] for row in targets] == TARGETS
    assert [int(row[-1]) for row in (total, *targets)] == [7, 3, 2, 2]
    assert float(total[1]) == pytest.approx(wide["fgsm"].mean(), abs=6e-4)
    gap = (wide["fgsm"] - wide["pgd"]).mean()
    assert float(total[3].split()[0]) == pytest.approx(gap, abs=6e-3)
    index = pd.MultiIndex.from_frame(pairs.table[["attack", "source", "target"]])
    clusters = pd.DataFrame(pairs.clusters.T, index=index)
    images = {attack: clusters.loc[attack].loc[wide.index.tolist()].to_numpy().mean(0) for attack in effects}
    _, p = scipy_stats.wilcoxon(images["fgsm"], images["pgd"])
    assert float(total[4]) == pytest.approx(p, rel=0.05)
    back = comparison(pairs, "pgd", "fgsm").rows[0]
    assert back[1:3] == total[2:0:-1]
    assert back[3].startswith("−")


def test_a_comparison_needs_two_attacks_with_common_pairs() -> None:
    effects = {"fgsm": 0.5, "pgd": 0.2}
    rows = make_rows(effects)
    rows = rows[(rows["attack"] == "fgsm") == (rows["source"] == "a")]
    pairs = pair_table(rows, make_manifest(effects))
    with pytest.raises(SpecError, match=r"no attack 'pgdd'.*pgd"):
        comparison(pairs, "fgsm", "pgdd")
    with pytest.raises(SpecError, match="held-out pairs that both fgsm and pgd were measured on, found none"):
        comparison(pairs, "fgsm", "pgd")
