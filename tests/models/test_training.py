"""A short version of the real training: seeded, resumable, clear about bad data, and loadable afterwards."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from iqarena.api import ImageError
from iqarena.images.sets.pocket import PocketImages
from iqarena.registry.tables import build_model
from iqarena_models.pocket import zoo
from iqarena_models.training import loop
from iqarena_models.training.batches import draw_batch
from iqarena_models.training.data import VIEWS, _in_units, load_training_data
from iqarena_models.training.losses import correlation_mse, norm_in_norm, rank_hinge
from iqarena_models.training.pocket import train_pocket
from iqarena_models.training.recipes import RECIPES

PICTURES = 32


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic pictures whose opinion score falls with their blur."""
    folder = tmp_path_factory.mktemp("opinions")
    (folder / "images").mkdir()
    rng, rows = np.random.default_rng(0), []
    for i in range(PICTURES):
        sigma = float(rng.uniform(0.3, 4))
        picture = cv2.GaussianBlur(rng.integers(0, 256, (96, 128, 3)).astype(np.uint8), (0, 0), sigma)
        cv2.imwrite(str(folder / "images" / f"{i:02}.png"), picture)
        rows.append((f"{i:02}.png", round(1 - sigma / 4, 4), "train" if i < PICTURES - 8 else "val"))
    pd.DataFrame(rows, columns=["image", "mos", "split"]).to_csv(folder / "mos.csv", index=False)
    return folder


@pytest.fixture(autouse=True)
def _two_ladders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the card's ladders on two photographs instead of eleven."""
    items = PocketImages.items
    monkeypatch.setattr(PocketImages, "items", lambda images: [i for i in items(images) if "+" not in i.id][:2])


def train(name: str, data: Path, out: Path, epochs: int = 1) -> dict:
    return train_pocket(name, data, out, epochs=epochs, say=lambda line: None)


def test_the_same_seed_gives_the_same_weights_and_the_zoo_loads_them(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = train("cnn", data, tmp_path / "a" / "cnn")
    again = train("cnn", data, tmp_path / "b" / "cnn")
    assert facts["sha256"] == again["sha256"]
    assert json.loads((tmp_path / "a" / "cnn" / "cnn.json").read_text()) == facts
    assert facts["sha256"] in (tmp_path / "a" / "cnn" / "cnn.md").read_text()
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path / "a" / "cnn")
    zoo._facts.cache_clear()
    try:
        score = build_model("cnn").load()(torch.rand(2, 3, 64, 80))
    finally:
        zoo._facts.cache_clear()
    assert score.shape == (2,)
    assert bool(((score > 0) & (score < 100)).all())


def test_a_killed_training_goes_on_and_ends_the_same(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train("cnn", data, tmp_path / "whole" / "cnn", epochs=2)
    save, saved = loop.save_state, []

    def killed(*args: object) -> None:
        save(*args)  # pyright: ignore[reportArgumentType]
        saved.append(args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_state", killed)
        with pytest.raises(KeyboardInterrupt):
            train("cnn", data, tmp_path / "cut" / "cnn", epochs=2)
    assert len(saved) == 1
    lines: list[str] = []
    resumed = train_pocket("cnn", data, tmp_path / "cut" / "cnn", epochs=2, say=lines.append)
    assert lines[0] == "going on after epoch 1 of 2"
    assert resumed["sha256"] == whole["sha256"]


@pytest.mark.parametrize("name", [n for n in RECIPES if n != "cnn"])
def test_every_recipe_takes_a_step_and_leaves_its_stem_alone(name: str, data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    recipe = replace(RECIPES[name], batch=8, ranked=2)
    before = recipe.start()
    pictures = load_training_data(data, tmp_path / "cache", limit=8, progress=False)
    trained = loop.train(recipe, pictures, tmp_path / name, epochs=1, progress=False)
    after = trained.net.state_dict()
    assert all(bool(value.isfinite().all()) for value in after.values())
    if before.stem is not None:
        for key, value in before.state_dict().items():
            if key.startswith("stem."):
                torch.testing.assert_close(after[key], value.half().float())


def test_views_are_the_picture_its_mirror_and_two_degradations(data: Path, tmp_path: Path) -> None:
    found = load_training_data(data, tmp_path, limit=8, progress=False)
    assert found.views.shape == (len(VIEWS), 16, 3, 256, 256)
    np.testing.assert_array_equal(found.views[1], found.views[0][..., ::-1])
    assert not np.array_equal(found.views[2], found.views[3])
    assert found.mos.max() > 1  # mapped to 0–100
    _, z, y = draw_batch(found, None, found.train, replace(RECIPES["cnn"], ranked=3), "cpu")
    assert z.shape == (8 + 2 * 3, 3, RECIPES["cnn"].crop, RECIPES["cnn"].crop)
    np.testing.assert_allclose(y.numpy(), found.mos[found.train])


@pytest.mark.parametrize("apart", [True, False])
def test_degraded_views_are_as_strong_as_is_said(data: Path, tmp_path: Path, apart: bool) -> None:
    found = load_training_data(data, tmp_path, limit=8, apart=apart, progress=False)
    weak, strong = found.strength.T
    assert bool((weak < strong).all())
    assert bool((strong - weak).min() < 0.4) != apart
    errors = (found.views[2:].astype(float) - found.views[0]) ** 2
    assert bool((errors[0].mean((1, 2, 3)) < errors[1].mean((1, 2, 3))).all())


def test_equal_steps_of_strength_are_equal_ratios() -> None:
    blur = [_in_units("blur", u, apart=False) for u in (0, 0.5, 1)]
    assert blur == pytest.approx([0.4, (0.4 * 6) ** 0.5, 6])
    quality = [100 - _in_units("jpeg", u, apart=False) for u in (0, 0.5, 1)]
    assert quality == pytest.approx([70, (70 * 4) ** 0.5, 4])


def test_losses_against_their_definitions() -> None:
    rng = np.random.default_rng(0)
    r, y = rng.normal(size=(2, 16))
    a, b = (v - v.mean() for v in (r, y))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    r_t, y_t = torch.from_numpy(r), torch.from_numpy(y)
    assert float(norm_in_norm(r_t, y_t)) == pytest.approx(np.abs(a - b).sum() / (2 * np.sqrt(16)), rel=1e-6)
    assert float(norm_in_norm(3 * y_t + 5, y_t)) == pytest.approx(0, abs=1e-6)
    expected = (1 - np.corrcoef(r, y)[0, 1]) / 2 + 0.1 * np.mean((r - y) ** 2)
    assert float(correlation_mse(r_t, y_t)) == pytest.approx(expected, rel=1e-6)
    assert float(rank_hinge(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 0.5)) == pytest.approx(0.75)


def test_unusable_data_is_one_clear_line(data: Path, tmp_path: Path) -> None:
    table = pd.read_csv(data / "mos.csv")

    def broken(change: pd.DataFrame) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        (folder / "images").symlink_to(data / "images")
        change.to_csv(folder / "mos.csv", index=False)
        return folder

    nan = table.assign(mos=table["mos"].where(table.index != 3))
    cases = {
        r"without an opinion score, the first is 03\.png": nan,
        r"missing split": table.drop(columns="split"),
        r"1 pictures of mos\.csv are missing, the first is gone\.png": table.replace("05.png", "gone.png"),
        r"expected at least 4 pictures of split 'val' .* found 0": table.assign(split="train"),
        r"expected at least 8 pictures of split 'train' .* found 1": table.tail(9),
        r"split 'train' and unequal scores": table.assign(mos=0.5),
        rf"{PICTURES} pictures without an opinion score, the first is 00\.png": table.assign(mos="good"),
    }
    for message, change in cases.items():
        with pytest.raises(ImageError, match=message) as caught:
            load_training_data(broken(change), tmp_path / "cache", progress=False)
        assert "\n" not in str(caught.value)
    with pytest.raises(ImageError, match="found no such file"):
        load_training_data(tmp_path / "nowhere", tmp_path / "cache", progress=False)


def test_stored_views_are_not_those_of_other_pictures(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    before = load_training_data(tmp_path / "data", tmp_path / "cache", progress=False)
    cv2.imwrite(str(tmp_path / "data" / "images" / "00.png"), np.zeros((96, 128, 3), np.uint8))
    repainted = load_training_data(tmp_path / "data", tmp_path / "cache", progress=False)
    assert before.digest == repainted.digest
    assert before.views[0, 0].any()
    assert not repainted.views[0, 0].any()
