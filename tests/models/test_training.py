"""The one training loop: seeded, resumable to the bit, clear about bad data, honest about what is stored."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from toyruns import files

from iqarena.api import ImageError, IqarenaError, StoreError, WeightsError
from iqarena.cli import entry
from iqarena.images.decode import decode_file
from iqarena.images.tensors import to_float
from iqarena.metrics.correlation import agreement
from iqarena.registry.tables import build_model
from iqarena_models.training import data, loop
from iqarena_models.training.checkpoint import State
from iqarena_models.training.data import Images, prefetch, read_opinions
from iqarena_models.training.losses import on_opinions_and_ranks
from iqarena_models.training.measure import falls_on_ladders
from iqarena_models.training.recipe import Recipe, constant, linear_fall, one_cycle, tenth_in_thirds
from iqarena_models.training.recipes import RECIPES, train_zoo, zoo
from iqarena_models.training.views import Batch, Views
from iqarena_models.zoo.bilinear import BilinearNet
from iqarena_models.zoo.cnn import CnnNet
from iqarena_models.zoo.hyper import HyperNet
from iqarena_models.zoo.linearity import LinearityNet
from iqarena_models.zoo.net import ScorerNet, mean_std
from iqarena_models.zoo.vit import VitNet

pytestmark = pytest.mark.usefixtures("tiny_ladders")


class Toy(ScorerNet):
    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Conv2d(3, 6, 5, 2), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout2d(0.1)))
        self.head = nn.Linear(12, 1)

    def ratings(self, x: Tensor) -> Tensor:
        assert self.backbone is not None
        return self.head(mean_std(self.backbone(x)))


def recipe(**changes: Any) -> Recipe:
    views = Views((24, (32, 32)), degraded=2)
    numbers = {"views": views, "epochs": 2, "batch": 8, "lr": 3e-2, "ema": 0.9, "min_size": 1, **changes}
    return zoo("toy", Toy, design="A toy.", **numbers)


def test_the_same_seed_gives_the_same_weights_and_the_card_says_what_is_stored(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    facts = recipe(epochs=8).train(folder, tmp_path / "a" / "toy", command="iqarena train toy")
    torch.manual_seed(6)
    again = recipe(epochs=8).train(folder, tmp_path / "b" / "toy")
    assert facts["sha256"] == again["sha256"]
    assert facts["sha256"] != recipe(epochs=8).train(folder, tmp_path / "c" / "toy", seed=1)["sha256"]
    assert facts["validation_srocc"] > 0.8
    out = tmp_path / "a" / "toy"
    assert json.loads((out / "toy.json").read_text()) == facts
    card = (out / "toy.md").read_text()
    for text in (facts["sha256"], facts["data"], facts["recipe"], facts["licence"], "`iqarena train toy` with torch"):
        assert text in card
    tensors = load_file(out / "toy.safetensors")
    assert all(value.dtype in (torch.float16, torch.int64) for value in tensors.values())
    net = Toy().eval()
    net.load_state_dict(tensors)
    opinions = read_opinions(folder)
    with torch.no_grad():
        scores, ratings = (
            np.array([float(f(to_float([decode_file(opinions.files[i])]))) for i in rows])
            for f, rows in ((net, opinions.val), (lambda x: net.ratings(x), opinions.train))
        )
    measured = agreement(scores, opinions.mos[opinions.val].astype(float))
    assert facts["validation_srocc"] == pytest.approx(measured["srocc"], abs=1e-4)
    assert facts["validation_plcc"] == pytest.approx(measured["plcc"], abs=1e-4)
    slope, intercept = np.polyfit(ratings, opinions.mos[opinions.train], 1)
    assert [float(net.scale), float(net.shift)] == pytest.approx([slope, intercept], rel=0.02)


def kill_after_the_first_epoch(patch: pytest.MonkeyPatch) -> None:
    store = State.store

    def killed(state: State, path: Path) -> None:
        store(state, path)
        raise KeyboardInterrupt

    patch.setattr(State, "store", killed)


@pytest.mark.parametrize("changes", [{}, {"ema": None, "patience": 5}], ids=["average", "best"])
def test_a_killed_training_goes_on_and_ends_the_same(
    changes: dict[str, Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = recipe(epochs=3, **changes).train(folder, tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        kill_after_the_first_epoch(patch)
        with pytest.raises(KeyboardInterrupt):
            recipe(epochs=3, **changes).train(folder, tmp_path / "cut")
    assert not (tmp_path / "cut" / "toy.safetensors").exists()
    lines: list[str] = []
    resumed = recipe(epochs=3, **changes).train(folder, tmp_path / "cut", log=lines.append)
    assert lines[0] == "going on after epoch 1 of 3"
    assert resumed["sha256"] == undisturbed["sha256"]
    stored = files(tmp_path / "cut")
    with pytest.raises(IqarenaError, match="is of another recipe, data, seed or number of epochs; choose"):
        recipe(epochs=3, **changes, lr=1e-3).train(folder, tmp_path / "cut", log=lines.append)
    assert files(tmp_path / "cut") == stored


def test_a_full_disk_loses_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = recipe().train(folder, tmp_path / "undisturbed")
    sync, synced = os.fsync, []

    def full(handle: int) -> None:
        synced.append(handle)
        if len(synced) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"cannot write .*checkpoint\.pt: No space left .* run again") as error:
        recipe().train(folder, tmp_path / "cut")
    assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["checkpoint.pt"]
    lines: list[str] = []
    assert recipe().train(folder, tmp_path / "cut", log=lines.append)["sha256"] == undisturbed["sha256"]
    assert lines[0] == "going on after epoch 1 of 2"


def test_a_loss_that_is_not_finite_ends_the_training(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(IqarenaError, match="epoch 1: expected a finite loss, found nan; lower the lr"):
        recipe(loss=lambda net, batch: net.ratings(batch.images).sum() * torch.nan).train(folder, tmp_path)


def test_the_best_epoch_is_kept_and_patience_ends_the_training(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = iter([0.5, 0.7, 0.6, 0.4, 0.8, 0.8])  # four epochs, full images, crops; a fifth would be the best
    kept: list[dict[str, Tensor]] = []
    monkeypatch.setattr(loop.Measure, "agreement", lambda *_: {"srocc": next(measured), "plcc": 0.5, "p": 0.5})
    average = loop.State.keep
    monkeypatch.setattr(loop.State, "keep", lambda state: (average(state), kept.append(state.kept)))
    facts = recipe(epochs=9, patience=2, ema=None).train(folder, tmp_path)
    assert facts["selected"] == "epoch 2 of 4, by validation SROCC"
    assert len(kept) == 2
    stored = load_file(tmp_path / "toy.safetensors")["head.weight"]
    torch.testing.assert_close(stored, kept[1]["head.weight"].half())


NETS = {"bilinear": BilinearNet, "cnn": CnnNet, "hyper": HyperNet, "linearity": LinearityNet, "vit": VitNet}


@pytest.mark.parametrize("name", NETS)
def test_every_recipe_of_the_zoo_takes_a_step(name: str, folder: Path, tmp_path: Path) -> None:
    """From random weights, and for once without the full resolution."""
    shipped = train_zoo(build_model(name))
    changes: dict[str, Any] = {"build": NETS[name], "batch": 8, "views": Views((64,), degraded=1)}
    facts = replace(shipped, **changes).train(folder, tmp_path, epochs=1, limit=8)
    untrained, stored = NETS[name]().state_dict(), load_file(tmp_path / f"{name}.safetensors")
    assert stored.keys() == untrained.keys()
    assert all(bool(value.isfinite().all()) for value in stored.values())
    assert facts["backbone"] == "none" or "PyPI" in facts["licence"]


def test_the_command_trains_by_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(RECIPES, "cnn", recipe())
    command = ["train", "cnn", "--data", str(folder), "--epochs", "1", "--leave-out", "3", "--device", "cpu"]
    with pytest.raises(SystemExit) as done:
        entry([*command, "--out", str(tmp_path / "out")])
    assert not done.value.code
    assert "toy.safetensors: validation SROCC" in capsys.readouterr().out
    facts = json.loads((tmp_path / "out" / "toy.json").read_text())
    assert facts["command"] == "iqarena train cnn --data opinions --seed 0 --epochs 1 --leave-out 3"
    for wrong, message in {
        ("--from-scratch",): "--from-scratch: training of 'cnn' has no such choice; leave it out",
        ("--set", "lr=1"): "--set: this training has no numbers to set, found 'lr=1'",
    }.items():
        with pytest.raises(SystemExit):
            entry([*command, *wrong])
        assert message in capsys.readouterr().err


def test_a_broken_checkpoint_is_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(WeightsError, match=r"checkpoint\.pt: expected a checkpoint of tensors") as caught:
        recipe().train(folder, tmp_path)
    assert "\n" not in str(caught.value)


def test_images_kept_apart_are_neither_trained_on_nor_validated_on(folder: Path, tmp_path: Path) -> None:
    opinions = read_opinions(folder, leave_out="3")
    names = [path.name for path in opinions.files]
    assert [names[i] for i in opinions.excluded] == [name for name in names if "3" in name]
    assert all("3" not in names[i] for i in (*opinions.train, *opinions.val))
    facts = recipe(batch=4).train(folder, tmp_path / "out", leave_out="3")
    assert facts["excluded"]["images"] == 3
    assert f"{facts['excluded']['full']['srocc']:.4f}" in (tmp_path / "out" / "toy.md").read_text()
    with pytest.raises(ImageError, match="expected images whose name holds 'ss02', found none"):
        read_opinions(folder, leave_out="ss02")
    assert len(read_opinions(folder, limit=9).train) == 9


def test_the_backbone_learns_slower_and_the_schedules_have_their_ends() -> None:
    optimizer = loop._optimizer(recipe(backbone_lr=0.25), Toy())
    peaks = {len(group["params"]): group["peak"] for group in optimizer.param_groups}
    assert peaks == {4: 0.25 * 3e-2, 2: 3e-2}  # convolution and normalisation; the head
    assert [constant(0.3), linear_fall(0), linear_fall(0.75)] == [1, 1, 0.25]
    assert [one_cycle(t) for t in (0, 0.075, 0.15, 0.575, 1)] == pytest.approx([0.04, 0.52, 1, 0.5, 0])
    assert [tenth_in_thirds(t) for t in (0, 0.34, 0.67, 0.99)] == pytest.approx([1, 0.1, 0.01, 0.01])


def test_the_moving_average_is_its_sum() -> None:
    net = nn.Linear(1, 1, bias=False)
    state, values = State(net, torch.optim.SGD(net.parameters()), []), [1.0, 5.0, -2.0]
    for value in values:
        net.weight.data.fill_(value)
        state.average(0.5)
    assert float(state.kept["weight"]) == 0.25 * 1 + 0.25 * 5 + 0.5 * -2
    with state.kept_weights():
        assert torch.equal(net.weight, state.kept["weight"])
    assert net.weight.item() == -2


def test_degraded_images_are_ranked_with_a_margin_that_grows_with_their_distance() -> None:
    ratings = torch.tensor([[0.9, 0.0], [0.9, 0.2], [0.9, -0.1], [0.9, -1.0]])  # two images, one weak, one strong
    mos, strength = torch.tensor([40.0, 60.0]), torch.tensor([[0.2, 0.6]])

    class Net(Toy):
        def ratings(self, x: Tensor) -> Tensor:
            return ratings

    net = Net()  # shift 50, scale 15
    seen: list[Tensor] = []

    def criterion(r: Tensor, y: Tensor) -> Tensor:
        seen.extend([r, y])
        return torch.tensor(7.0)

    loss = on_opinions_and_ranks(criterion, slope=2.0, weight=0.5)
    value = float(loss(net, Batch(torch.zeros(4, 3, 8, 8), mos, strength)))
    assert value == pytest.approx(7 + 0.5 * (0.4 - 0.1) + 0.5 * 0)  # 0.1 apart instead of 0.4; 0.9 and not 0.8 at least
    assert seen[0].shape == (2, 2)
    torch.testing.assert_close(seen[1], torch.tensor([-10 / 15, 10 / 15]))
    assert float(loss(net, Batch(torch.zeros(2, 3, 8, 8), mos, torch.zeros(0, 2)))) == 7


def test_ladders_count_the_steps_that_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    images = list(np.random.default_rng(0).integers(100, 156, (3, 48, 48, 3)).astype(np.uint8))
    ladders = falls_on_ladders(lambda x: 100 * x.std(), images)  # contrast: blur takes it away, noise adds some
    assert list(ladders) == ["blur", "noise", "jpeg"]
    for kind, share in (("blur", 1.0), ("noise", 0.0)):
        assert (ladders[kind]["fall_at_every_step"], ladders[kind]["steps_that_fall"]) == (share, share)
        scores = ladders[kind]["mean_scores"]
        assert scores == sorted(scores, reverse=share == 1)
    assert ladders["blur"]["mean_scores"][0] == pytest.approx(np.mean([100 * i.std() / 255 for i in images]), abs=0.02)


def test_unusable_data_is_one_clear_line(folder: Path, tmp_path: Path) -> None:
    table = pd.read_csv(folder / "mos.csv")

    def broken(change: pd.DataFrame) -> Path:
        other = tmp_path / str(len(list(tmp_path.iterdir())))
        other.mkdir()
        (other / "images").symlink_to(folder / "images")
        change.to_csv(other / "mos.csv", index=False)
        return other

    nan = table.assign(mos=table["mos"].where(table.index != 3))
    cases = {
        r"without an opinion score, the first is 03\.png": nan,
        r"missing split": table.drop(columns="split"),
        r"1 images of mos\.csv are missing, the first is gone\.png": table.replace("05.png", "gone.png"),
        r"expected at least 4 images of split 'val' .* found 0": table.assign(split="train"),
        r"expected at least 8 images of split 'train' .* found 1": table.tail(9),
        r"split 'train' and unequal scores": table.assign(mos=0.5),
        r"24 images without an opinion score, the first is 00\.png": table.assign(mos="good"),
        r"expected train or val in the column split, found 'test'": table.replace("val", "test"),
        r"expected each image once, found '00\.png' again": pd.concat([table, table.head(1).assign(split="val")]),
        r"expected opinion scores on 0–1 or 0–100, found 1 to 5; rescale": table.assign(mos=1 + table.index % 5),
        r"expected opinion scores on 0–1 or 0–100, found -0\.48\d* to ": table.assign(mos=table["mos"] - 0.5),
        r"expected opinion scores on 0–1 or 0–100, found 0 to 230; ": table.assign(mos=10 * table.index),
    }
    for message, change in cases.items():
        with pytest.raises(ImageError, match=message) as caught:
            read_opinions(broken(change))
        assert "\n" not in str(caught.value)
    with pytest.raises(ImageError, match="found no such file"):
        read_opinions(tmp_path / "nowhere")


def test_a_broken_image_is_named_before_training_starts(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "data")
    path = tmp_path / "data" / "images" / "05.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ImageError, match=r"05\.png: expected an 8-bit .* found a damaged or truncated file") as caught:
        recipe().train(tmp_path / "data", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").iterdir()), "no half of a cache stays"


def test_stored_images_are_those_of_the_files(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, tmp_path / "data")
    paths = sorted((tmp_path / "data" / "images").iterdir())
    first = tmp_path / "data" / "images" / "00.png"
    for repaint in (False, True):
        if repaint:
            cv2.imwrite(str(first), np.zeros((48, 40, 3), np.uint8))
        images = Images(paths, tmp_path / "cache")
        for i, path in enumerate(paths):
            np.testing.assert_array_equal(images[i], decode_file(path))
    stored = images[3].copy()
    for path in (tmp_path / "cache").glob("*"):  # zeros of the same length, cut short, not there
        for damaged in (bytes(path.stat().st_size), path.read_bytes()[:100], None):
            path.write_bytes(damaged) if damaged else path.unlink()
            np.testing.assert_array_equal(Images(paths, tmp_path / "cache")[3], stored)
    lines: list[str] = []
    np.testing.assert_array_equal(Images(paths, first / "no folder", lines.append)[3], stored)
    assert len(lines) == 1
    assert "decoded again in every epoch" in lines[0]
    monkeypatch.setattr(data, "CACHE_BYTES", 1000)
    np.testing.assert_array_equal(Images(paths, tmp_path / "small")[3], stored)
    assert not list((tmp_path / "small").iterdir())


def test_prefetching_keeps_the_order_and_raises_what_was_raised() -> None:
    assert list(prefetch(range(50), lambda i: i * i)) == [i * i for i in range(50)]
    with pytest.raises(ZeroDivisionError):
        list(prefetch([1, 0, 2], lambda i: 1 // i))
