"""The theorem where it is exact, the fit against its definition, and the sweep's report from small tables."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from iqarena.errors import StoreError
from iqarena.images.sets.pocket import PocketImages
from iqarena.registry.tables import build_attack
from iqarena.report.studies.flatness import fitted, line_through_zero, write
from iqarena.store.sweep import SweepManifest
from iqarena.testing.toys import Curved, Linear
from iqarena.tools import flatness
from iqarena.tools.sweep import cached_measurement

IMAGES = [(item.id, PocketImages().read(item)) for item in PocketImages().items()[:8]]
MANIFEST = SweepManifest(
    command="iqarena sweep cnn", data="BIQ2021", seed=0, epochs=1, limit=16, crop=32, device="cpu", images=12,
    attacks=("fgsm", "pgd", "sega"), eps=("1/255",), models={"cnn": "0" * 64}, packages={"torch": None},
    python="3.11", platform="", processor="", git_commit=None,
)  # fmt: skip


def test_a_linear_scorer_changes_by_eps_times_norm_where_the_box_leaves_room() -> None:
    id, pixels = IMAGES[0]
    (record,) = flatness.theorem(Linear(), [(id, pixels.clip(1, 254))], ["1/255"], "cpu")
    assert record["change"] == pytest.approx(record["gradient_l1"] / 255, rel=1e-3)
    assert record["eps"] == 1 / 255
    assert not record["hardened"]


def test_a_curved_scorer_comes_closer_as_eps_falls() -> None:
    records = pd.DataFrame(flatness.theorem(Curved(), IMAGES[:2], ["1/510", "16/255"], "cpu"))
    records["off"] = (records["change"] / (records["eps"] * records["gradient_l1"]) - 1).abs()
    off = records.groupby("eps")["off"].mean()
    assert off.iloc[0] < 0.1
    assert off.iloc[0] < off.iloc[1]


def test_attacked_reports_norm_and_change_of_every_attack() -> None:
    actual = flatness.attacked(Linear(), IMAGES[:2], [build_attack(f"fgsm(eps={eps}/255)") for eps in (1, 2)], "cpu")
    assert actual["gradient_l1"] == pytest.approx(40, rel=1e-4)
    assert actual["change fgsm(eps=2/255)"] == pytest.approx(2 * actual["change fgsm(eps=1/255)"], rel=0.05)


def test_the_line_through_zero_is_least_squares() -> None:
    x, y = np.array([1.0, 2.0, 4.0]), np.array([2.0, 3.0, 9.0])
    slope, r2 = line_through_zero(x, y)
    assert slope == pytest.approx(np.linalg.lstsq(x[:, None], y)[0][0])
    assert r2 == pytest.approx(1 - ((y - slope * x) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    assert line_through_zero(x, 3 * x) == (pytest.approx(3), pytest.approx(1))


@pytest.mark.parametrize(("slope", "verdict"), [(1.0, "**Confirmed**"), (0.5, "**Not confirmed**")])
def test_the_report_says_what_the_tables_say(
    tmp_path: Path, slope: float, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if slope != 1:
        monkeypatch.setattr("iqarena.report.studies.flatness.save", lambda *_: None)  # drawn once is enough
    rng = np.random.default_rng(0)
    norms = rng.uniform(10, 1000, 24)
    points = pd.DataFrame(
        {"scorer": name, "hardened": hardened, "eps": eps, "gradient_l1": norm, "change": slope * eps * norm}
        for name in ("cnn", "vit") for hardened in (False, True) for eps in (1 / 2550, 1 / 255) for norm in norms
    )  # fmt: skip
    assert fitted(points.assign(predicted=points["eps"] * points["gradient_l1"]))["slope"].tolist() == pytest.approx(
        [slope] * 4
    )
    changes = {f"change {attack}": 5.0 for attack in ("fgsm", "pgd", "sega")}
    measured = {"gradient_l1": 100.0, "srocc": 0.5, "plcc": 0.5, **changes}
    swept = [{"scorer": "cnn", "defense": "none", **measured}]
    swept += [
        {
            "scorer": "cnn",
            "defense": f"w{weight}h{h}",
            "weight": weight,
            "h": h,
            **{k: v + h for k, v in measured.items()},
        }
        for weight, h in ((1e-4, 1e-2), (1e-3, 1e-2), (1e-3, 1e-1), (1e-3, 1e-3))
    ]
    pd.DataFrame(swept).to_csv(tmp_path / "sweep.csv", index=False)
    points.to_csv(tmp_path / "theorem.csv", index=False)
    MANIFEST.write(tmp_path)
    text = write(tmp_path)
    assert verdict in text
    assert (tmp_path / "sweep.md").read_text(encoding="utf-8") == text
    if slope == 1:
        assert {path.name for path in (tmp_path / "plots").iterdir()} == {
            f"{name}.{kind}" for name in ("sweep", "theorem") for kind in ("png", "svg")
        }


def test_a_measurement_that_a_kill_left_half_written_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(path: Path, *rest: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "measured.json"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            cached_measurement(path, ["cnn"], lambda: {"srocc": 0.5})
    assert cached_measurement(path, ["cnn"], lambda: {"srocc": 0.6}) == {"srocc": 0.6}
    assert cached_measurement(path, ["cnn"], lambda: {"srocc": 0.7}) == {"srocc": 0.6}


def test_a_manifest_is_read_as_it_was_written_and_a_damaged_one_is_one_line(tmp_path: Path) -> None:
    MANIFEST.write(tmp_path)
    assert SweepManifest.read(tmp_path) == MANIFEST
    full = dataclasses.asdict(MANIFEST)
    for damaged, words in (
        ({**full, "epocs": 1}, "unknown key 'epocs'; nearest: 'epochs'"),
        ({**full, "seed": "0"}, "expected a whole number for 'seed', found '0'"),
        ({k: v for k, v in full.items() if k != "eps"}, "missing key 'eps'"),
    ):
        (tmp_path / "manifest.json").write_text(json.dumps(damaged))
        with pytest.raises(StoreError, match="run the sweep again") as caught:
            SweepManifest.read(tmp_path)
        assert words in str(caught.value)
    with pytest.raises(StoreError, match="not a sweep's manifest"):
        SweepManifest.read(tmp_path / "nowhere")
