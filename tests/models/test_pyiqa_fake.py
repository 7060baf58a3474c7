"""The adapter against a small false pyiqa that does everything the real one does to surprise its user."""

from __future__ import annotations

import pickle
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from iqarena.api import IqarenaError, SpecError, WeightsError, file_sha256
from iqarena.engine.scorer import Scorer
from iqarena.files import weights
from iqarena.registry.tables import build_model
from iqarena.testing import check_model, images
from iqarena_models import published
from iqarena_models.catalog import Metric, catalog

NAME = "hyperiqa"
FILE = catalog()[NAME].files[0]
ELSEWHERE = "https://example.invalid/backbone-00000000.pth"


class Surprising(nn.Module):
    """Asks for backbones and pickles, hides a part in a list, returns ``(N, 1)``, remembers what it saw."""

    def __init__(self, num_crop: int = 25) -> None:
        super().__init__()
        module = sys.modules["pyiqa.archs.hypernet_arch"]
        self.num_crop = num_crop
        self.trunk = timm.create_model("test_vit", pretrained=True, num_classes=0)
        torchvision.models.resnet18(weights="IMAGENET1K_V1")
        self.hidden = [nn.Linear(3, 3)]
        self.rate = nn.Linear(3, 1)
        module.load_pretrained_network(self.trunk, ELSEWHERE)
        module.load_pretrained_network(self, f"https://hub/{FILE}", True, weight_keys="params")
        self.note = torch.load(module.load_file_from_url(f"https://hub/{FILE}"), weights_only=False)["note"]
        self.encoded = self.rate.weight.exp()
        print("Loading pretrained model")

    def forward(self, x: Tensor) -> Tensor:
        assert x.is_contiguous()
        self.seen = x.shape
        return torch.sigmoid(self.rate(self.hidden[0](x.mean((2, 3))))).mean(1, keepdim=True)


def _never(*args: object, **options: object) -> None:
    raise AssertionError("pyiqa's own way to files was taken")


@pytest.fixture(autouse=True)
def pyiqa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    arch = types.ModuleType("pyiqa.archs.hypernet_arch")
    vars(arch).update(
        HyperNet=Surprising, load_pretrained_network=_never, load_file_from_url=_never, DEFAULT_CACHE_DIR="/nowhere"
    )
    configs = types.ModuleType("pyiqa.default_model_configs")
    vars(configs).update(DEFAULT_CONFIGS={NAME: {"metric_opts": {"type": "HyperNet"}}})
    for name, module in {
        "pyiqa": types.ModuleType("pyiqa"),
        "pyiqa.archs": types.ModuleType("pyiqa.archs"),
        "pyiqa.archs.hypernet_arch": arch,
        "pyiqa.default_model_configs": configs,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv(weights.WEIGHTS_DIR, str(tmp_path))
    monkeypatch.setenv(weights.OFFLINE, "1")
    monkeypatch.setattr(published, "weight_file", lambda name: weights.WeightFile(name))
    torch.manual_seed(0)
    state = {"rate.weight": torch.randn(1, 3), "rate.bias": torch.zeros(1)}
    with monkeypatch.context() as patch:  # a network of the same shape as the one that is loaded
        patch.setattr(timm, "create_model", _tiny)
        patch.setattr(torchvision.models, "resnet18", lambda weights: None)
    trunk = {f"trunk.{key}": value + 1 for key, value in _tiny().state_dict().items()}
    torch.save({"params": state | trunk, "note": "kept"}, tmp_path / FILE)
    monkeypatch.setattr(timm, "create_model", _tiny)
    return arch


def _tiny(name: str = "", pretrained: bool = False, **options: object) -> nn.Module:
    assert not pretrained, "a backbone would have been downloaded"
    return nn.Linear(2, 2)


def inner(module: nn.Module) -> Any:
    """pyiqa's network inside a loaded model."""
    return module.net.net  # pyright: ignore[reportAttributeAccessIssue]


def test_it_is_built_from_its_own_file_alone_and_silently(
    pyiqa: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_rng_state()
    net = inner(build_model(NAME).load())
    assert torch.equal(torch.get_rng_state(), before)
    assert net.note == "kept"
    assert torch.equal(net.trunk.bias, checkpoint()["params"]["trunk.bias"]), "the backbone of the checkpoint"
    assert not net.encoded.requires_grad, "no graph from building"
    assert capsys.readouterr().out == ""
    assert timm.create_model is _tiny
    assert pyiqa.load_file_from_url is _never
    assert pyiqa.DEFAULT_CACHE_DIR == "/nowhere"
    assert torch.load.__module__ == "torch.serialization"


def checkpoint() -> dict:
    return torch.load(Path(weights.search_folders()[0]) / FILE, weights_only=True)


def test_scores_are_per_image_on_the_common_scale() -> None:
    x = images().float() / 255
    scorer = Scorer(build_model(NAME))
    native = scorer.module.net(x)  # pyright: ignore
    assert native.shape == (len(x),)
    assert torch.allclose(scorer.score(x).float(), 100 * native, rtol=1e-5)


def test_a_part_that_is_hidden_in_a_list_is_frozen_and_moved_with_the_rest() -> None:
    module = Scorer(build_model(NAME)).module
    hidden = inner(module).hidden[0]
    assert any(part is hidden for part in module.modules())
    assert not any(p.requires_grad for p in hidden.parameters())


@pytest.mark.parametrize(("name", "check"), list(check_model(published.__getattr__(NAME)())))
def test_conformance(name: str, check: Callable[[], None]) -> None:
    check()


def test_range_and_direction_are_the_catalogue_s(monkeypatch: pytest.MonkeyPatch) -> None:
    x = images().float() / 255
    plain = Scorer(build_model(NAME)).score(x)
    metric = Metric(NAME, "", (-1, 3), files=(FILE,), arch="hypernet_arch", lower_better=True)
    monkeypatch.setattr(published.PyiqaModel, "metric", property(lambda self: metric))
    assert torch.allclose(Scorer(build_model(NAME)).score(x), 100 * (3 - plain / 100) / 4, atol=1e-4)


def test_parameters_of_a_model_stand_in_its_spec() -> None:
    model = build_model(f"{NAME}(crops=5, max_side=20)")
    assert repr(model) == f"{NAME}(max_side=20, crops=5)"
    net = model.load()
    assert inner(net).num_crop == 5
    net(torch.rand(2, 3, 30, 40))
    assert inner(net).seen == (2, 3, 15, 20)
    net(torch.rand(1, 3, 20, 10))
    assert inner(net).seen == (1, 3, 20, 10)
    for spec, message in {
        "dbcnn(crops=5)": r"dbcnn: expected no crops, it looks at the whole image",
        "hyperiqa(crops=0)": "expected crops ≥ 1 or none, found 0",
        "liqe(max_side=200)": "liqe: expected max_side ≥ 224 pixels, found 200",
        "piqe(weights=mine)": "piqe: expected no weights, it has no parameters",
    }.items():
        with pytest.raises(SpecError, match=message):
            build_model(spec)


def test_a_file_of_ones_own_and_its_hash_are_part_of_the_identity(tmp_path: Path) -> None:
    saved = checkpoint()
    saved["params"]["rate.bias"] += 1
    torch.save(saved, tmp_path / "mine.pth")
    own, theirs = build_model(f"{NAME}(weights=mine.pth)"), build_model(NAME)
    x = images().float() / 255
    assert bool((Scorer(own).score(x) > Scorer(theirs).score(x)).all())
    assert own.weights_sha256 == file_sha256(tmp_path / "mine.pth") != theirs.weights_sha256


def test_wrong_checkpoints_are_one_line(tmp_path: Path) -> None:
    def refused(data: bytes | dict, message: str) -> None:
        path = tmp_path / FILE
        path.write_bytes(data) if isinstance(data, bytes) else torch.save(data, path)
        with pytest.raises(WeightsError, match=message) as caught:
            Scorer(build_model(NAME))
        assert "\n" not in str(caught.value)

    good = (tmp_path / FILE).read_bytes()
    refused({"params": {"conv.weight": torch.zeros(1)}}, "expected the parameters of Surprising, found another")
    refused(good[: len(good) // 2], f"{FILE}: expected a checkpoint of tensors: .*; get the file again")
    refused(
        b"<html>blocked</html>",
        "expected a checkpoint of tensors: found something that starts with b'<html>blocke'; get",
    )
    marker = tmp_path / "code ran"
    refused(pickle.dumps({"params": _Payload(marker)}), "expected a checkpoint of tensors")
    assert not marker.exists()
    (tmp_path / FILE).unlink()
    with pytest.raises(WeightsError, match=f"expected the weights {FILE}, found none in"):
        Scorer(build_model(NAME))


class _Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.marker,)


def test_a_file_that_pyiqa_never_asks_for_is_no_silent_success(
    pyiqa: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forgetful(nn.Module):
        pass

    monkeypatch.setattr(pyiqa, "HyperNet", Forgetful)
    with pytest.raises(WeightsError, match=rf"hyperiqa: expected pyiqa 0\.1\.16, .* never asked for {FILE}"):
        build_model(NAME).load()


def test_without_pyiqa_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa.archs.hypernet_arch", None)
    with pytest.raises(IqarenaError, match=r"expected pyiqa 0\.1\.16 .*; pip install 'iqarena\[pyiqa\]'"):
        build_model(NAME).load()


def test_threads_take_turns_in_what_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    from iqarena_models.pyiqa_adapter import PerImage

    inside: list[int] = []

    class Remembers(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            inside.append(1)
            assert sum(inside) == 1
            threading.Event().wait(0.01)
            inside.append(-1)
            return x.mean((1, 2, 3))

    net, failures = PerImage(Remembers(), stateful=True), []

    def work() -> None:
        try:
            net(torch.rand(1, 3, 4, 4))
        except AssertionError as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(inside) == 8
