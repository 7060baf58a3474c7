"""Diagnostics against a closed form on a linear scorer, and what rows and pairs say of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from toymanifest import toy_manifest

from iqarena.api.streams import Streams
from iqarena.engine.scorer import Scorer
from iqarena.registry.tables import build_attack, build_filter
from iqarena.report.pairs import WHY, pair_table
from iqarena.runner.driver import Options, run_plan
from iqarena.store.folder import Store
from iqarena.suite.file import load_suite
from iqarena.suite.plan import Plan, resolve
from iqarena.worker.diagnostics import Watched, own_diagnostics, watched

Run = Callable[..., pd.DataFrame]


@pytest.fixture
def diagnosed(suite: Path) -> Plan:
    keys = {
        "targets": ["toy_linear", "toy_linear(seed=1)", "toy_curved", "toy_step"],
        "sources": ["toy_linear", "toy_curved"],
        "attacks": ["identity", "noise", "fgsm", "sega(samples=2, mask=random(0.25), gradient_filter=random(0.5))"],
        "diagnostics": True,
    }
    return resolve(load_suite(str(suite), keys))


def test_cosine_and_signs_of_fgsm_have_a_closed_form(diagnosed: Plan, results: Run) -> None:
    """White-box δ = s·eps·sign w has the cosine Σ|w| / (√d ‖w‖) with w, but for what the box cuts off."""
    rows = results(diagnosed)
    rows = rows[(rows["attack_label"] == "fgsm") & (rows["target"] != "toy_step")]
    scorers = {repr(model): Scorer(model) for model in diagnosed.targets}
    for item in diagnosed.images.items():
        image = torch.from_numpy(diagnosed.images.read(item)).permute(2, 0, 1).double()
        for r in rows[rows["image"] == item.id].to_dict("records"):
            w, v = (
                scorers[r[who]].value_and_gradient(image[None].float() / 255)[1][0].double()
                for who in ("source", "target")
            )
            towards = (image + r["direction"] * 8 * w.sign()).clamp(0, 255).sub(image) * r["direction"]
            assert r["cosine"] == pytest.approx(float((towards * v).sum() / (towards.norm() * v.norm())), abs=1e-5)
            assert r["sign_agreement"] == pytest.approx(float((towards * v > 0).sum() / (towards != 0).sum()), abs=1e-6)
            if r["relation"] == "whitebox":
                assert r["cosine"] == pytest.approx(float(w.abs().sum() / (w.numel() ** 0.5 * w.norm())), abs=0.1)
                assert r["sign_agreement"] == 1
    assert rows["relation"].value_counts().to_dict() == {"transfer": 4 * 5, "whitebox": 2 * 5}


def test_what_has_no_gradient_perturbation_or_filter_has_no_diagnostics(diagnosed: Plan, results: Run) -> None:
    rows = results(diagnosed)
    identity, noise = (rows[rows["attack_label"] == name] for name in ("identity", "noise"))
    assert identity[["cosine", "energy_low", "filter_kept"]].isna().to_numpy().all()
    step = rows[(rows["target"] == "toy_step") & (rows["attack_label"] == "fgsm")]
    assert step[["cosine", "sign_agreement", "mask_kept"]].isna().to_numpy().all()
    assert step["energy_low"].notna().all()
    assert noise["mask_kept"].eq(1).all()
    sega = rows[rows["attack_label"].str.startswith("sega")]
    assert sega["filter_kept"].between(0.3, 0.7).all()
    assert sega["mask_kept"].between(0.3, 0.7).all(), "both draw the same numbers: half of the half that was kept"
    assert np.allclose(rows[["energy_low", "energy_middle", "energy_high"]].sum(axis=1)[rows["energy_low"].notna()], 1)
    assert np.allclose(noise["sign_agreement"].dropna(), 0.5, atol=0.1)


def test_diagnostics_change_no_other_number_and_not_with_the_batch(diagnosed: Plan, results: Run) -> None:
    plain = dataclasses.replace(diagnosed, suite=dataclasses.replace(diagnosed.suite, diagnostics=False))
    one, many, without = results(diagnosed), results(diagnosed, batch_size=5, workers=1), results(plain)
    pd.testing.assert_frame_equal(one, many, check_exact=True)
    pd.testing.assert_frame_equal(one.drop(columns=WHY), without.drop(columns=WHY), check_exact=True)
    assert without[WHY].isna().to_numpy().all()


def test_pairs_have_the_means_where_there_are_any(diagnosed: Plan, results: Run) -> None:
    rows = results(diagnosed).assign(seconds=0.0)
    manifest = toy_manifest()
    table = pair_table(rows, manifest).table
    pair = table[(table["attack_label"] == "fgsm") & (table["relation"] == "transfer")].iloc[0]
    same = rows[
        (rows["attack_label"] == "fgsm") & (rows["source"] == pair["source"]) & (rows["target"] == pair["target"])
    ]
    assert pair["cosine"] == pytest.approx(same["cosine"].mean())
    assert set(WHY) <= set(table)
    assert not set(WHY) & set(pair_table(rows.assign(**dict.fromkeys(WHY, np.nan)), manifest).table)


def test_the_targets_own_gradient_costs_at_most_one_an_image(diagnosed: Plan, tmp_path: Path) -> None:
    counts = {}
    for wanted in (True, False):
        plan = dataclasses.replace(diagnosed, suite=dataclasses.replace(diagnosed.suite, diagnostics=wanted))
        counts[wanted] = {
            repr(s.model): s.evaluated["gradient"] for s in run_plan(plan, Store(tmp_path / str(wanted)), Options())
        }
    extra = {name: counts[True][name] - counts[False][name] for name in counts[True]}
    assert extra == {"toy_linear(seed=0)": 0, "toy_curved(seed=0)": 0, "toy_linear(seed=1)": 5, "toy_step": 0}


@pytest.mark.parametrize(("frequency", "band"), [(0.05, "energy_low"), (0.25, "energy_middle"), (0.45, "energy_high")])
def test_a_wave_has_its_energy_in_its_band(frequency: float, band: str) -> None:
    wave = torch.sin(2 * torch.pi * frequency * torch.arange(40)).expand(1, 3, 40, 40)
    shares = own_diagnostics(wave, {})[0]
    assert shares[band] == pytest.approx(1, abs=1e-4)


def test_white_noise_has_the_shares_the_docs_say() -> None:
    shares = own_diagnostics(torch.randn(1, 3, 384, 384, generator=torch.Generator().manual_seed(0)), {})[0]
    assert [round(v, 2) for v in shares.values()] == [0.09, 0.26, 0.65]


def test_a_watched_attack_is_the_same_attack() -> None:
    attack = build_attack("sega(samples=2, mask=jnd(6)|random(0.5))")
    twin, filters = watched(attack)
    assert repr(twin) == repr(attack)
    assert set(filters) == {"filter_kept", "mask_kept"}
    assert watched(build_attack("fgsm"))[1] == {}
    half = Watched(filter=build_filter("random(0.25)"))
    t = torch.ones(2, 3, 40, 40)
    assert torch.equal(half(t, t, Streams(["a", "b"], "")), half.filter(t, t, Streams(["a", "b"], "")))
    assert half.kept[0].tolist() == pytest.approx([0.25, 0.25], abs=0.05)
