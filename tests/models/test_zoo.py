"""The zoo's scorers as plugins: weights that are checked, and what the cards of the shipped ones claim."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from iqarena.api import WeightsError
from iqarena.images.decode import decode_file
from iqarena.images.sets.database import data_folder
from iqarena.images.tensors import to_float
from iqarena.metrics.correlation import agreement
from iqarena.registry.tables import build_model
from iqarena_models.training.data import read_opinions
from iqarena_models.training.measure import central_part, embedded_images, falls_on_ladders
from iqarena_models.zoo import scorers
from iqarena_models.zoo.cnn import CnnNet

PLUGINS = {
    plugin.name: plugin for plugin in (scorers.Bilinear, scorers.Cnn, scorers.Hyper, scorers.Linearity, scorers.Vit)
}


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
    with pytest.raises(WeightsError, match="expected the parameters of CnnNet, found another architecture's") as error:
        scorers.Cnn().load()
    assert "\n" not in str(error.value)


def test_a_pickle_with_code_in_it_is_never_unpickled(weights: Path) -> None:
    marker = weights / "code ran"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (marker,)  # pyright: ignore[reportReturnType]

    write(weights, pickle.dumps({"weights": Payload()}))
    with pytest.raises(WeightsError, match=r"expected safetensors: .*; install iqarena again"):
        scorers.Cnn().load()
    assert not marker.exists()


def test_no_two_embedded_scorers_share_pretrained_weights() -> None:
    backbones = [backbone for name in PLUGINS for backbone in build_model(name).backbones]
    assert len(set(backbones)) == len(backbones) == 4, "cnn is trained from scratch"


@pytest.mark.parametrize("name", PLUGINS)
def test_shipped_weights_keep_what_their_cards_claim(name: str) -> None:
    facts = build_model(name).facts
    data = (scorers.WEIGHTS / f"{name}.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() == facts["sha256"]
    assert len(data) == facts["bytes"] <= 25_000_000
    card = (scorers.WEIGHTS / f"{name}.md").read_text(encoding="utf-8")
    for claim in (facts["sha256"], facts["data"], facts["licence"], f"SROCC {facts['validation_srocc']:.4f}"):
        assert claim in card


def test_the_shipped_weights_keep_their_size_together() -> None:
    assert sum((scorers.WEIGHTS / f"{name}.safetensors").stat().st_size for name in PLUGINS) <= 70_000_000


@pytest.mark.parametrize("name", PLUGINS)
def test_scores_fall_with_growing_degradation(name: str) -> None:
    crops = [central_part(image, 160) for image in embedded_images()[::2]]
    for kind, measured in falls_on_ladders(build_model(name).load(), crops).items():
        assert measured["steps_that_fall"] >= 0.95, kind
        assert measured["mean_scores"] == sorted(measured["mean_scores"], reverse=True), kind


@pytest.mark.slow
@pytest.mark.parametrize("name", PLUGINS)
@torch.no_grad()
def test_the_card_s_agreement_is_measured_again(name: str) -> None:
    data = data_folder() / "biq2021_dev"
    if not data.is_dir():
        pytest.skip(f"needs the training data, see models/README.md, in {data}")
    opinions = read_opinions(data)
    net = build_model(name).load()
    scores = [float(net(to_float([decode_file(opinions.files[row])]))) for row in opinions.val]
    srocc = agreement(np.array(scores), opinions.mos[opinions.val])["srocc"]
    assert srocc == pytest.approx(PLUGINS[name]().facts["validation_srocc"], abs=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in scorers.WEIGHTS.glob("*.safetensors")))
def test_the_card_s_ladders_are_measured_again(name: str) -> None:
    measured = falls_on_ladders(PLUGINS[name]().load(), embedded_images())
    for kind, claimed in PLUGINS[name]().facts["monotone"].items():
        assert measured[kind]["steps_that_fall"] == pytest.approx(claimed["steps_that_fall"], abs=0.02)
        assert measured[kind]["mean_scores"] == pytest.approx(claimed["mean_scores"], abs=0.1)
