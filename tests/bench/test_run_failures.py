"""Runs in which something fails: an attack, a target, an image or a disk costs what is its own and nothing else."""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from torch import Tensor, nn
from toyruns import ROWS, Answer, numbers

from iqarena.api import Attack, ImageError, ImageItem, ImageSet, Model
from iqarena.api.streams import Streams
from iqarena.engine.source import Source
from iqarena.errors import StoreError
from iqarena.registry.tables import build_attack
from iqarena.runner import unwritten
from iqarena.runner.driver import Options, run_plan
from iqarena.store.folder import Store
from iqarena.suite.file import load_suite
from iqarena.suite.plan import Plan, resolve

Run = Callable[..., pd.DataFrame]


@dataclass(frozen=True, kw_only=True, repr=False)
class Choosy(Attack):
    """Fails on bright images."""

    name = "choosy"
    how: str = "raise"

    def perturb(self, x: Tensor, source: Source, streams: Streams) -> Tensor:
        bad = x.mean((1, 2, 3), keepdim=True) > 0.5
        if self.how == "raise" and bad.any():
            raise ValueError("too\nbright")
        return torch.where(bad, torch.nan, x + self.eps * source.gradient(x).sign())


@dataclass(frozen=True, kw_only=True, repr=False)
class Broken(Model):
    """A target without a score."""

    name = "broken"
    differentiable = False

    def load(self) -> nn.Module:
        class Nothing(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.full((len(x),), torch.nan)

        return Nothing()


@pytest.mark.parametrize("how", ["raise", "nan"])
def test_an_attack_that_fails_on_some_images_costs_their_rows(plan: Plan, results: Run, how: str) -> None:
    mixed = replace(plan, attacks=(build_attack("fgsm"), Choosy(how=how)))
    one, all_ = (results(mixed, batch_size=size) for size in (1, 100))
    assert_frame_equal(one, all_, check_exact=True)
    failed = one[one["status"] == "error"]
    assert set(failed["attack_label"]) == {Choosy(how=how).label}
    assert 0 < failed["image"].nunique() < 5
    assert (
        set(failed["message"])
        == {
            "raise": {"ValueError: too bright"},
            "nan": {"choosy gave NaN or infinite pixels"},
        }[how]
    )
    assert failed["score_adv"].isna().all()


def test_a_target_that_fails_costs_its_own_rows(plan: Plan, results: Run) -> None:
    rows = results(replace(plan, targets=(*plan.targets, Broken())), batch_size=3)
    failed = rows["status"] == "error"
    assert set(rows.loc[failed, "message"]) == {"broken gave a score that is not finite"}
    assert failed.equals(rows["target"] == "broken")


def test_images_that_cannot_be_used_cost_error_rows_that_say_why(
    suite: Path, photos: Path, tmp_path: Path, iqarena: Callable[..., Answer]
) -> None:
    image = cv2.imread(str(photos / "p1.png"))
    assert image is not None
    (photos / "broken.png").write_bytes((photos / "p1.png").read_bytes()[:200])
    (photos / "empty.png").write_bytes(b"")
    cv2.imwrite(str(photos / "deep.png"), image.astype(np.uint16) * 257)
    cv2.imwrite(str(photos / "see-through.png"), np.dstack([image, np.full(image.shape[:2], 100, np.uint8)]))
    cv2.imwrite(str(photos / "tiny.png"), image[:8, :8])
    cv2.imwrite(str(photos / "grey.png"), image[..., 0])
    cv2.imwrite(str(photos / "opaque.png"), np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]))
    answer = iqarena("run", suite, "--out", tmp_path / "run", "--batch-size", 3)
    rows = Store(tmp_path / "run").rows()
    failed = rows[rows["status"] == "error"]
    why = {str(image): " / ".join(subset["message"].unique()) for image, subset in failed.groupby("image")}
    assert answer.code == 3
    assert sorted(why) == ["broken.png", "deep.png", "empty.png", "see-through.png", "tiny.png"]
    for image, words in {
        "broken.png": "damaged or truncated",
        "empty.png": "an empty file",
        "deep.png": "16 bits per channel",
        "see-through.png": "transparency",
        "tiny.png": "needs images of at least 16 pixels a side, found 8×8",
    }.items():
        assert words in why[image], why[image]
    assert "Attacks: " in answer.out, "the table is there all the same"
    assert f"{len(failed)} of {12 * ROWS} rows failed; the first, of broken.png: " in answer.out
    tiny = rows[rows["image"] == "tiny.png"]
    assert (tiny["status"] == "error").all(), "every source needs 16 pixels"
    grey = rows[rows["image"] == "grey.png"]
    assert (grey["status"] == "ok").all()
    same = ["score_clean", "score_adv", "score_control", "score_displaced", "score_float"]
    opaque, plain = (rows[rows["image"] == n].reset_index(drop=True) for n in ("opaque.png", "p1.png"))
    quiet = opaque["attack_label"].isin(["identity", "fgsm", "mi_fgsm(steps=2)"])
    assert_frame_equal(opaque.loc[quiet, same], plain.loc[quiet, same], check_exact=True)


def test_a_small_image_is_still_scored_by_who_takes_it(suite: Path, photos: Path, results: Run) -> None:
    image = cv2.imread(str(photos / "p1.png"))
    assert image is not None
    cv2.imwrite(str(photos / "tiny.png"), image[:8, :8])
    keys = {"targets": ["toy_linear", "toy_curved", "toy_step"], "sources": ["toy_linear"]}
    rows = results(resolve(load_suite(str(suite), keys)), batch_size=100)
    failed = rows[rows["status"] == "error"]
    assert set(zip(failed["image"], failed["target"], strict=True)) == {("tiny.png", "toy_curved(seed=0)")}


def test_when_everything_fails_there_is_still_a_table(
    suite: Path, photos: Path, tmp_path: Path, iqarena: Callable[..., Answer]
) -> None:
    for path in photos.iterdir():
        path.write_bytes(b"no image")
    answer = iqarena("run", suite, "--out", tmp_path / "run")
    assert answer.code == 3
    assert f"{5 * ROWS} of {5 * ROWS} rows failed; the first, of p0.png: " in answer.out
    assert "fgsm" in answer.out
    assert (tmp_path / "run" / "leaderboard_attacks.csv").exists()


@dataclass(frozen=True, kw_only=True, repr=False)
class Strange(ImageSet):
    """Somebody else's image set, which breaks its contract."""

    name = "strange"

    def items(self) -> list[ImageItem]:
        return [ImageItem(id=name, cluster=name) for name in ("raises", "grey", "says so")]

    def read(self, item: ImageItem) -> np.ndarray:
        if item.id == "raises":
            raise KeyError("what")
        if item.id == "says so":
            raise ImageError("says so: gone")
        return np.zeros((32, 32), np.uint8)


def test_an_image_set_may_fail_in_any_way(plan: Plan, results: Run) -> None:
    rows = results(replace(plan, images=Strange()), batch_size=3)
    assert rows.groupby("image")["message"].first().str[:24].to_dict() == {
        "raises": "KeyError: 'what'",
        "grey": "ValueError: expected a u",
        "says so": "says so: gone",
    }
    assert len(rows) == 3 * ROWS


def test_an_image_that_cannot_be_read_again_costs_what_is_not_stored_of_it(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured stays, as a share may be away for a moment; rows of an attack that has changed do not."""
    store, some = Store(tmp_path / "run"), replace(plan, attacks=plan.attacks[:2])
    run_plan(some, store, Options())
    before = numbers(store)

    def away(images: ImageSet, item: ImageItem) -> np.ndarray:
        raise ImageError("stale file handle")

    monkeypatch.setattr(type(plan.images), "read", away)
    run_plan(plan, store, Options())
    after = store.rows()
    assert_frame_equal(numbers(store)[after["status"] == "ok"].reset_index(drop=True), before, check_exact=True)
    assert set(after["message"]) == {"", "stale file handle"}
    assert len(after) == 5 * ROWS

    monkeypatch.setattr(type(plan.attacks[1]), "version", 99)
    run_plan(some, store, Options())
    rows = store.rows()
    assert set(rows.loc[rows["attack"] == repr(plan.attacks[1]), "status"]) == {"error"}
    assert set(rows.loc[rows["attack"] == repr(plan.attacks[0]), "status"]) == {"ok"}


def test_a_full_disk_stops_all_workers_and_keeps_what_is_stored(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: pd.DataFrame
) -> None:
    store, sync, calls, lock = Store(tmp_path / "run"), os.fsync, iter(range(1000)), threading.Lock()
    synced = 0

    def full_after_a_while(handle: int) -> None:
        nonlocal synced
        with lock:
            synced = next(calls)
        if synced >= 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_after_a_while)
        patch.setattr(unwritten, "AT_MOST", 0)  # every cell is a write
        with pytest.raises(StoreError, match="No space left on device"):
            run_plan(plan, store, Options(workers=3))
    assert synced < 8 + 3, "each worker at most tried once more"
    kept = numbers(store)
    assert 0 < len(kept) < 5 * ROWS
    assert not list(store.folder.glob("**/*.part"))
    run_plan(plan, store, Options(workers=3))
    assert_frame_equal(numbers(store), undisturbed, check_exact=True)
    assert set(kept["key"]) < set(undisturbed["key"])


def test_a_full_disk_is_one_line_of_the_command(
    suite: Path, tmp_path: Path, iqarena: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, full = Path.replace, {".parquet"}

    def rename(self: Path, target: Path) -> Path:
        if target.suffix in full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", rename)
    answer = iqarena("run", suite, "--out", tmp_path / "run")
    last = answer.err.strip().splitlines()[-1]
    assert answer.code == 2
    assert last.startswith("iqarena: cannot write ")
    assert last.endswith("No space left on device; what is stored stays, mend that and run again")
    assert "Traceback" not in answer.err
    full = {".csv"}  # only when the boards are written
    answer = iqarena("run", suite, "--out", tmp_path / "run")
    assert answer.code == 2
    assert re.fullmatch(
        r"iqarena: cannot write \S+\.csv: No space left on device; what is stored stays, mend that and run again",
        answer.err.strip().splitlines()[-1],
    )
    assert len(Store(tmp_path / "run").rows()) == 5 * ROWS
