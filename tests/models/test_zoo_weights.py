"""The zoo's scorers as plugins: weights that are checked, and what the cards of the shipped ones claim."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from iqarena.api import WeightsError
from iqarena_models.zoo import scorers
from iqarena_models.zoo.cnn import CnnNet

PLUGINS = {
    plugin.name: plugin for plugin in (scorers.Bilinear, scorers.Cnn, scorers.Hyper, scorers.Linearity, scorers.Vit)
}
SHIPPED = sorted(path.stem for path in scorers.WEIGHTS.glob("*.safetensors"))


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the weights of an untrained ``cnn``, in the place of the shipped ones."""
    monkeypatch.setattr(scorers, "WEIGHTS", tmp_path)
    data = save({key: value.half().contiguous() for key, value in CnnNet().state_dict().items()})
    write(tmp_path, data)
    return tmp_path


def write(folder: Path, data: bytes) -> None:
    (folder / "cnn.safetensors").write_bytes(data)
    (folder / "cnn.json").write_text(json.dumps({"sha256": hashlib.sha256(data).hexdigest()}))


def test_loading_gives_the_stored_scorer_and_leaves_the_random_stream_alone(weights: Path) -> None:
    before = torch.random.get_rng_state()
    net = scorers.Cnn().load()
    assert torch.equal(before, torch.random.get_rng_state())
    assert not net.training
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in net.modules())
    assert net(torch.full((1, 3, 64, 64), 0.5)).shape == (1,)


def test_changed_missing_and_foreign_weights_are_refused_in_one_line(weights: Path) -> None:
    path = weights / "cnn.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"?")
    with pytest.raises(WeightsError, match=r"expected sha256 \w+…, found \w+…; install iqarena again"):
        scorers.Cnn().load()
    path.unlink()
    with pytest.raises(WeightsError, match="found no such file"):
        scorers.Cnn().load()


def test_tensors_of_another_network_are_refused_in_one_line(weights: Path) -> None:
    write(weights, save({"one": torch.zeros(1)}))
    with pytest.raises(WeightsError, match="expected safetensors of CnnNet") as error:
        scorers.Cnn().load()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_keep_what_their_cards_claim(name: str) -> None:
    facts = PLUGINS[name]().facts
    data = (scorers.WEIGHTS / f"{name}.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() == facts["sha256"]
    assert len(data) == facts["bytes"] <= 25_000_000
    card = (scorers.WEIGHTS / f"{name}.md").read_text(encoding="utf-8")
    for claim in (facts["sha256"], facts["data"], facts["licence"], f"SROCC {facts['validation_srocc']:.4f}"):
        assert claim in card
    for ladder in facts["monotone"].values():
        assert ladder["steps_that_fall"] > 0.95
        assert ladder["mean_scores"] == sorted(ladder["mean_scores"], reverse=True)


def test_the_shipped_weights_keep_their_size_together() -> None:
    assert sum((scorers.WEIGHTS / f"{name}.safetensors").stat().st_size for name in SHIPPED) <= 70_000_000
