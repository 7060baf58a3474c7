"""The displaced control on scorers: what it takes away, what it leaves, and an attack on the control itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from iqarena.api import Attack, Source
from iqarena.images.degrade import degrade
from iqarena.report.boards import attack_board
from iqarena.report.pairs import pair_table
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


def board_of(folder: Path, attacks: list[Attack | str], **keys: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Attack board and pairs of a run of these attacks."""
    specs = [attack for attack in attacks if isinstance(attack, str)]
    plan = resolve(load_suite({"attacks": specs, "sources": ["each"], **keys}))
    plan = replace(plan, attacks=(*plan.attacks, *(attack for attack in attacks if not isinstance(attack, str))))
    store = Store(folder)
    run_plan(plan, store, Options(workers=1))
    rows = store.rows()
    assert (rows["status"] == "ok").all()
    manifest = build_manifest(plan, Options(), "a test")
    pairs = pair_table(rows, manifest)
    return attack_board(pairs, manifest).set_index("attack_label"), pairs.table


SMALL = {"images": "scenes(crop=96)", "targets": ["cnn", "linearity"]}


def test_floors_have_no_aligned_effect(tmp_path: Path) -> None:
    floors = [
        "noise",
        "noise(mask=jnd(6))",
        "uap",
        Degraded(kind="blur", strength=0.6),
        Degraded(kind="jpeg", strength=40.0),
    ]
    board, _ = board_of(tmp_path, [*floors, "fgsm"], **SMALL, limit=26)
    for label in board.index.drop("fgsm"):
        assert board["aligned_sd_low"][label] <= 0 <= board["aligned_sd_high"][label], label
    assert board["aligned_sd_low"]["fgsm"] > 0


@pytest.mark.parametrize("attack", ["fgsm", "mi_fgsm(steps=4)"])
def test_raising_grows_with_the_budget(tmp_path: Path, attack: str) -> None:
    name, _, rest = attack.rstrip(")").partition("(")
    specs = [f"{name}({', '.join(filter(None, [rest, f'eps={eps}/255']))})" for eps in (2, 4, 8, 16)]
    _, pairs = board_of(tmp_path, specs, **SMALL, limit=8, direction="raise")
    own = pairs[pairs["relation"] == "whitebox"].groupby("attack", sort=False)["aligned_sd_mean"].mean()
    effects = [own[[label for label in own.index if f"eps={eps}/255" in label]].item() for eps in (2, 4, 8, 16)]
    assert effects == sorted(effects)
    assert effects[0] > 0


def test_an_attack_on_the_control_is_flagged_and_the_others_are_not(tmp_path: Path) -> None:
    _, pairs = board_of(tmp_path, ["noise", "fgsm", "mi_fgsm(steps=4)", OnControl()], **SMALL, limit=16)
    white = pairs[pairs["relation"] == "whitebox"]
    flags = white.groupby("attack_label")["flags"].agg(set).to_dict()
    assert flags == {"noise": {""}, "fgsm": {""}, "mi_fgsm(steps=4)": {""}, "on_control": {"control_driven"}}
