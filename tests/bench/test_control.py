"""The displaced control on scorers: what it takes away, what it leaves, and an attack on the control itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from iqarena.api import Attack, Source, Streams
from iqarena.images.degrade import degrade
from iqarena.report.pairs import pair_table
from iqarena.report.verdicts import control_driven, decided
from iqarena.runner.driver import Options, run_plan
from iqarena.runner.manifest import build_manifest
from iqarena.store.folder import Store
from iqarena.suite.file import load_suite
from iqarena.suite.plan import resolve


@dataclass(frozen=True, kw_only=True, repr=False)
class OnControl(Attack):
    """One signed step on ``f(x + δ) − f(x + δ')``: where it rises, the image half an image away falls."""

    name = "on_control"

    def perturb(self, x: Tensor, source: Source, streams: Any) -> Tensor:
        g = source.gradient(x)
        half = (x.shape[-2] // 2, x.shape[-1] // 2)
        return x + self.eps * (g - g.roll(half, (-2, -1))).sign()


@dataclass(frozen=True, kw_only=True, repr=False)
class Clipped(Attack):
    """``noise`` that cuts its image to the box by itself, as iterated and query attacks do."""

    name = "clipped"
    access = "none"
    floor = True

    def perturb(self, x: Tensor, source: Source, streams: Streams) -> Tensor:
        return (x + self.eps * streams.shared("noise").signs(x)).clamp(0, 1)


@dataclass(frozen=True, kw_only=True, repr=False)
class Degraded(Attack):
    """What a camera or an encoder does, inside the budget."""

    name = "degraded"
    access = "none"
    floor = True
    kind: str = "blur"
    strength: float = 1.0

    def perturb(self, x: Tensor, source: Source, streams: Any) -> Tensor:
        pixels = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        worse = [degrade(image, self.kind, self.strength, 0) for image in pixels]
        return torch.stack([torch.from_numpy(image) for image in worse]).permute(0, 3, 1, 2).to(x) / 255


@dataclass(frozen=True, kw_only=True, repr=False)
class Universal(Attack):
    """The same smooth pattern on every image, which nobody fitted to any scorer."""

    name = "universal"
    access = "none"
    floor = True

    def perturb(self, x: Tensor, source: Source, streams: Any) -> Tensor:
        coarse = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))
        return x + self.eps * interpolate(coarse, x.shape[-2:], mode="bicubic").sign()


def pairs_of(folder: Path, attacks: list[Attack | str], **keys: Any) -> pd.DataFrame:
    """Pairs of a run of these attacks from one embedded scorer on itself."""
    specs = [attack for attack in attacks if isinstance(attack, str)]
    suite = {"images": "pocket(crop=96)", "targets": ["linearity"], "sources": ["each"], "attacks": specs, **keys}
    plan = resolve(load_suite(suite))
    plan = replace(plan, attacks=(*plan.attacks, *(attack for attack in attacks if not isinstance(attack, str))))
    store = Store(folder)
    run_plan(plan, store, Options())
    rows = store.rows()
    assert (rows["status"] == "ok").all()
    return pair_table(rows, build_manifest(plan, Options(), "a test")).table.set_index("attack_label")


def test_floors_have_no_aligned_effect(tmp_path: Path) -> None:
    """Nothing for what does not follow the image. Blur and JPEG do follow its edges: a tenth of a deviation at most,
    not told from nothing on these images."""
    followers = [Degraded(kind="blur", strength=0.6), Degraded(kind="jpeg", strength=40.0)]
    table = pairs_of(tmp_path, ["noise", "noise(mask=jnd(6))", Universal(), *followers, "fgsm"], limit=26)
    effect, low, high = (table[f"aligned_sd_mean{end}"] for end in ("", "_low", "_high"))
    strange, edges = ["noise", "noise(mask=jnd)", "universal"], [follower.label for follower in followers]
    for label in (*strange, *edges):
        assert low[label] <= 0 <= high[label], label
    assert (high - low)[strange].max() < 0.15
    assert effect[edges].abs().max() < 0.12
    assert low["fgsm"] > 0.3


def test_an_attack_that_cuts_to_the_box_itself_gains_little_on_its_control(tmp_path: Path) -> None:
    effect = pairs_of(tmp_path, ["noise", Clipped()], limit=26)["aligned_sd_mean"]
    assert abs(effect["clipped"] - effect["noise"]) < 0.02


@pytest.mark.parametrize("attack", ["fgsm({})", "mi_fgsm({}, steps=4)"])
def test_raising_grows_with_the_budget(tmp_path: Path, attack: str) -> None:
    """Lowering need not: noise lowers too, so that the control falls with it."""
    table = pairs_of(tmp_path, [attack.format(f"eps={eps}/255") for eps in (1, 2, 4, 8)], limit=8, direction="raise")
    effects = [table[table["linf"].round(4) == round(eps / 255, 4)]["aligned_sd_mean"].item() for eps in (1, 2, 4, 8)]
    assert effects == sorted(effects)
    assert effects[0] > 0


def test_an_attack_on_the_control_is_flagged_and_the_others_are_not(tmp_path: Path) -> None:
    table = pairs_of(
        tmp_path, ["identity", "noise", "fgsm", "mi_fgsm(steps=4)", "sega(samples=4)", OnControl()], limit=16
    )
    assert table["aligned_sd_mean"]["on_control"] > 0
    assert {label for label, flags in table["flags"].items() if "control_driven" in flags} == {"on_control"}


@pytest.mark.parametrize(
    ("l2", "gain", "control", "flagged"),
    [
        (6.0, 12.0, 9.0, False),  # as noise of its size
        (6.0, 12.0, 5.0, True),  # four points behind it, of an effect of seven
        (2.0, 6.0, 2.0, False),  # a third of the size: noise of that size has three, one more
        (2.0, 6.0, -2.0, True),
        (2.0, -3.0, -2.0, False),  # there is no effect that could be the control's
        (6.0, 58.0, 5.0, False),  # four points of fifty-three
    ],
)
def test_a_control_is_compared_with_noise_of_its_size(l2: float, gain: float, control: float, flagged: bool) -> None:
    table = pd.DataFrame({
        "attack": ["noise", "crafted"], "source": "a", "target": "b", "changed": 1.0, "l2": [6.0, l2],
        "gain_mean": [9.0, gain], "control_gain_mean": [9.0, control],
    })  # fmt: skip
    spread = np.random.default_rng(0).normal(0, 0.5, (200, 2))
    controls, gains = (table[f"{name}_mean"].to_numpy() + spread for name in ("control_gain", "gain"))
    assert control_driven(table, controls, gains, {"noise"}) == ({1: "control_driven"} if flagged else {})


def test_a_difference_is_shown_by_test_and_interval() -> None:
    for p, low, high, shown in [(0.01, 0.1, 0.2, True), (0.01, -0.1, 0.2, False), (0.06, 0.1, 0.2, False)]:
        assert decided({"p_holm": p, "gap_low": low, "gap_high": high}, "gap") is shown
