"""The embedded zoo: what its cards claim is what its files hold, and nothing but checked tensors is loaded."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from timm import create_model

from iqarena.api import WeightsError
from iqarena.engine.scorer import Scorer
from iqarena.images.sets.pocket import PocketImages
from iqarena.registry.tables import build_model
from iqarena_models.pocket import trunk, zoo
from iqarena_models.pocket.cnn import CnnNet
from iqarena_models.pocket.net import fold
from iqarena_models.training.measure import falls_on_ladders

NAMES = ["bilinear", "cnn", "hyper", "linearity", "vit"]


@pytest.mark.parametrize("name", NAMES)
def test_weights_cards_and_promises(name: str) -> None:
    facts = build_model(name).facts
    data = (zoo.WEIGHTS / f"{name}.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() == facts["sha256"]
    assert len(data) == facts["bytes"] <= 12_000_000
    card = (zoo.WEIGHTS / f"{name}.md").read_text(encoding="utf-8")
    for said in (facts["sha256"], facts["data"], facts["licence"], f"SROCC {facts['validation_srocc']:.4f}"):
        assert said in card
    assert facts["validation_srocc"] >= 0.62
    for ladder in facts["monotone"].values():
        assert ladder["fall_at_every_step"] > 0.8  # 9 of 11 photographs
        assert ladder["steps_that_fall"] > 0.95
        assert ladder["mean_scores"] == sorted(ladder["mean_scores"], reverse=True)


def test_the_zoo_as_a_whole_keeps_its_size_and_has_one_strong_scorer() -> None:
    facts = [build_model(name).facts for name in NAMES]
    assert sum(f["bytes"] for f in facts) <= 40_000_000
    assert max(f["validation_srocc"] for f in facts) >= 0.77
    assert sum(f["backbone"] != "none" for f in facts) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_card_s_ladders_are_measured_again(name: str) -> None:
    images = PocketImages()
    pristine = [images.read(item) for item in images.items() if "+" not in item.id]
    measured = falls_on_ladders(build_model(name).load(), pristine)  # pyright: ignore[reportArgumentType]
    for kind, claimed in build_model(name).facts["monotone"].items():
        assert measured[kind]["steps_that_fall"] == pytest.approx(claimed["steps_that_fall"], abs=0.02)
        assert measured[kind]["mean_scores"] == pytest.approx(claimed["mean_scores"], abs=0.1)


def test_a_folded_scorer_scores_as_the_unfolded_one() -> None:
    torch.manual_seed(0)
    net = CnnNet().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features) / 5
            module.running_var = torch.rand(module.num_features) + 0.5
    x = torch.rand(2, 3, 80, 96)
    with torch.no_grad():
        before = net(x)
        torch.testing.assert_close(fold(net)(x), before, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("variant", ["lite0", "lite1"])
def test_the_folded_trunk_is_timm_s_model_with_the_pretrained_weights(variant: str) -> None:
    reference = create_model(f"tf_efficientnet_{variant}", pretrained=False, num_classes=0).eval()
    trunk.load_imagenet(reference, variant)
    stem, tail = trunk.build_trunk(variant, imagenet=True)
    x = torch.rand(1, 3, 96, 128)
    with torch.no_grad():
        z = stem(x)
        for stage in tail:
            z = stage(z)
        expected = reference.blocks(reference.bn1(reference.conv_stem((255 * x - 127) / 128)))  # pyright: ignore
    torch.testing.assert_close(z, expected, atol=2e-4, rtol=1e-4)


@pytest.fixture
def tampered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of ``cnn``'s weights that a test may spoil."""
    for suffix in ("safetensors", "json"):
        shutil.copy(zoo.WEIGHTS / f"cnn.{suffix}", tmp_path)
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path)
    return tmp_path / "cnn.safetensors"


def test_a_wrong_hash_is_refused(tampered: Path) -> None:
    tampered.write_bytes(tampered.read_bytes()[:-1] + b"\x00\x01")
    with pytest.raises(WeightsError, match=r"expected sha256 [0-9a-f]{12}…, found") as caught:
        Scorer(build_model("cnn"))
    assert "\n" not in str(caught.value)


def test_a_pickle_with_code_in_it_is_never_unpickled(tampered: Path) -> None:
    marker = tampered.with_name("code ran")

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (marker,)  # pyright: ignore[reportReturnType]

    tampered.write_bytes(pickle.dumps({"weights": Payload()}))
    with pytest.raises(WeightsError, match="expected sha256"):
        Scorer(build_model("cnn"))
    assert not marker.exists()


def test_missing_weights_are_named(tampered: Path) -> None:
    tampered.unlink()
    with pytest.raises(WeightsError, match="found no such file; install iqarena again"):
        build_model("cnn").load()
