"""A short version of the training of published architectures: each learns, is killed, goes on, and is loaded back."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from opinions import write_opinions
from safetensors.torch import save_file
from timm import create_model
from torch import Tensor

from iqarena.api import IqarenaError, SpecError, WeightsError
from iqarena.cli.train import train as command
from iqarena.engine.scorer import Scorer
from iqarena.files import weights
from iqarena.files.cache import CACHE
from iqarena.images.decode import decode_file
from iqarena.images.tensors import to_float
from iqarena.registry.tables import build_model, training_of
from iqarena_models import linearityiqa, published
from iqarena_models.backbone import Backbone
from iqarena_models.liqe_style import LiqeStyleNet
from iqarena_models.training.checkpoint import State
from iqarena_models.training.data import read_opinions
from iqarena_models.training.losses import fidelity, monotonicity, norm_in_norm
from iqarena_models.zoo.backbones.package import Package
from iqarena_models.zoo.net import MEAN, STD

SMALL = "test_resnet"  # timm's own network for tests
NAMES = ["hyperiqa", "dbcnn", "liqe_style", "linearityiqa"]
TRAIN, VAL = 8, 4


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_ladders: None) -> Path:
    """Images with opinion scores, and a weights folder that nothing is downloaded to."""
    monkeypatch.setenv(weights.WEIGHTS_DIR, str(tmp_path))
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    monkeypatch.setenv(weights.OFFLINE, "1")
    monkeypatch.setattr(linearityiqa, "SIZE", (48, 64))
    write_opinions(tmp_path / "data", train=TRAIN, val=VAL, height=70, width=96)
    return tmp_path


def needs_pyiqa(name: str) -> Any:
    missing = name in ("hyperiqa", "dbcnn") and find_spec("pyiqa") is None
    ours = pytest.mark.filterwarnings("ignore")  # of the packages that pyiqa imports
    slow = [pytest.mark.slow] if name in ("hyperiqa", "dbcnn") else []  # the large two, one of them at 224 pixels
    return pytest.param(name, marks=[pytest.mark.skipif(missing, reason="pyiqa is not installed"), ours, *slow])


def learn(spec: str, folder: Path, out: str, epochs: int = 2, **options: Any) -> tuple[dict[str, Any], list[str]]:
    lines: list[str] = []
    recipe = training_of(spec.partition("(")[0])(build_model(spec), **options)
    return recipe.train(folder / "data", folder / out, epochs=epochs, log=lines.append), lines


@pytest.mark.parametrize("name", [needs_pyiqa(name) for name in NAMES])
def test_it_goes_on_where_it_was_killed_and_its_scorer_is_the_one_that_was_validated(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = f"{name}(backbone={SMALL}{', crops=1' if name == 'hyperiqa' else ''})"
    options: dict[str, Any] = {"from_scratch": True}
    if name in ("dbcnn", "liqe_style"):  # HyperIQA's head takes 224 pixels and nothing else
        options["side"] = 64
    undisturbed, lines = learn(spec, folder, "undisturbed", **options)
    assert len(lines) == 2
    store = State.store

    def killed(state: State, path: Path) -> None:
        store(state, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(State, "store", killed)
        with pytest.raises(KeyboardInterrupt):
            learn(spec, folder, "cut", **options)
    resumed, lines = learn(spec, folder, "cut", **options)
    assert lines[0] == "going on after epoch 1 of 2"
    assert resumed["sha256"] == undisturbed["sha256"]
    assert json.loads((folder / "cut" / f"{name}.json").read_text()) == resumed
    assert resumed["sha256"] in (folder / "cut" / f"{name}.md").read_text()
    monkeypatch.setenv(weights.WEIGHTS_DIR, str(folder / "undisturbed"))
    model = build_model(undisturbed["use"])
    assert model.weights_sha256 == undisturbed["sha256"]
    scorer, opinions = Scorer(model), read_opinions(folder / "data")
    scores = [float(scorer.score(to_float([decode_file(opinions.files[i])]))) for i in opinions.val]
    plcc = np.corrcoef(scores, opinions.mos[opinions.val])[0, 1]
    assert plcc == pytest.approx(undisturbed["validation_plcc"], abs=1e-3)


def test_linearityiqa_learns_and_starts_again_from_what_it_learned(folder: Path) -> None:
    options = {"from_scratch": True, "lr": 3e-3, "variant": 0.5, "monotonicity": 0.1}
    facts, _ = learn(f"linearityiqa(backbone={SMALL})", folder, "a", epochs=12, **options)
    assert facts["validation_srocc"] > 0.8
    assert (facts["variant"], facts["monotonicity"]) == (0.5, 0.1)
    (folder / "own.pth").write_bytes((folder / "a" / "linearityiqa.pth").read_bytes())
    again, _ = learn(f"linearityiqa(backbone={SMALL}, weights=own.pth)", folder, "b", epochs=1, lr=1e-9)
    assert again["starts_from"] == "own.pth"
    assert again["validation_srocc"] > 0.8


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(find_spec("pyiqa") is None, reason="pyiqa is not installed")
def test_published_layouts_are_starts_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from randomweights import write_files

    monkeypatch.setattr(published, "weight_file", lambda name: weights.WeightFile(name))
    write_files("liqe", folder)
    facts, _ = learn("liqe(weights=liqe_koniq.pt)", folder, "out", epochs=1)
    before, after = (torch.load(p)["params"] for p in (folder / "liqe_koniq.pt", folder / "out" / "liqe.pth"))
    assert before.keys() == after.keys()
    changed = {key for key in before if not torch.equal(before[key].float(), after[key])}
    assert changed, "nothing was learned"
    assert all(key.startswith("clip_model.visual.") for key in changed), "the sentences stay as they were"
    monkeypatch.setenv(weights.WEIGHTS_DIR, str(folder / "out"))
    assert build_model(facts["use"]).weights_sha256 == facts["sha256"]


def test_a_backbone_is_timm_s_network_with_its_own_normalisation(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x, name = torch.rand(1, 3, 64, 96), "tf_efficientnet_lite0"
    packaged = create_model(name, num_classes=1000).state_dict()
    monkeypatch.setattr(Package, "tensors", lambda package: {f"other.{key}": value for key, value in packaged.items()})
    backbone = Backbone(name, {16: 7, 32: None}, imagenet=True).eval()
    z = (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        adapted, plain = backbone(z)
        expected = backbone.net((255 * x - 127.5) / 127.5)[-1]
    torch.testing.assert_close(plain, expected, rtol=1e-3, atol=1e-4)
    assert adapted.shape == (1, 7, 4, 6)
    assert bool((adapted >= 0).all())
    assert backbone.widths == [7, 320]
    assert torch.equal(backbone.net.conv_stem.weight, packaged["conv_stem.weight"]), "the weights of the package"  # pyright: ignore


def test_imagenet_weights_are_found_by_timm_s_name_and_never_downloaded_offline(folder: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"expected the weights test_resnet\.r160_in1k\.safetensors, found none in .*huggingface"
    ):
        Backbone(SMALL, {32: None}, imagenet=True)
    state = {key: torch.full_like(value, 0.5) for key, value in create_model(SMALL).state_dict().items()}
    save_file(state, folder / "test_resnet.r160_in1k.safetensors")
    actual = Backbone(SMALL, {32: None}, imagenet=True).net.state_dict()["conv1.0.weight"]
    assert bool((actual == 0.5).all())


def test_what_cannot_be_trained_is_one_line(folder: Path) -> None:
    for name, message in {
        "resnet5": "backbone: expected a network that timm knows, found 'resnet5'",
        "test_vit": r"backbone test_vit: expected features at 1/32 of the image, found 1/\[16\]",
    }.items():
        with pytest.raises(SpecError, match=message):
            LiqeStyleNet(name)
    for name in ("hyperiqa", "linearityiqa"):
        with pytest.raises(
            SpecError, match=f"{name}: expected weights trained with backbone=resnet18, found none; see"
        ):
            _ = build_model(f"{name}(backbone=resnet18)").weights_sha256
    data = ["--data", str(folder / "data"), "--out", str(folder / "out"), "--epochs", "1"]
    for arguments, message in {
        (
            "hyperiqa",
        ): "hyperiqa: expected weights=a checkpoint to start from, backbone=a timm network, or --from-scratch",
        ("liqe",): r"liqe: expected weights=a checkpoint to start from \(they hold CLIP; without any: liqe_style\)",
        ("linearityiqa", "--set", "variante=1"): "--set: this training has no number 'variante'; nearest: 'variant'",
        ("linearityiqa", "--set", "variant=much"): "--set variant: expected a positive number, found 'much'",
        ("liqe_style(max_side=64)",): "training of liqe_style expects no max_side; leave it out",
    }.items():
        if find_spec("pyiqa") is None and arguments[0] in ("hyperiqa", "liqe"):
            continue
        with pytest.raises(IqarenaError, match=message) as caught:
            CliRunner().invoke(command, [*arguments, *data], catch_exceptions=False, standalone_mode=False)
        assert "\n" not in str(caught.value)


def numpy_unit(v: np.ndarray, q: float) -> np.ndarray:
    v = v - v.mean()
    return v / (np.abs(v) ** q).sum() ** (1 / q)


@pytest.mark.parametrize(("p", "q"), [(1, 2), (2, 2), (1, 1), (2, 1), (3, 2)])
def test_norm_in_norm_and_its_variant_against_their_formulas(p: float, q: float) -> None:
    r, y = np.random.default_rng(0).normal(size=(2, 12))
    a, b = numpy_unit(r, q), numpy_unit(y, q)
    rho = np.corrcoef(r, y)[0, 1]
    largest = (2 * 12 ** max(0, 1 / p - 1 / q)) ** p
    plain, second = (float((np.abs(part - b) ** p).sum() / largest) for part in (a, rho * a))
    actual = [float(norm_in_norm(*map(torch.from_numpy, (r, y)), p=p, q=q, variant=v)) for v in (0, 1, 0.25)]
    assert actual == pytest.approx([plain, second, 0.75 * plain + 0.25 * second], rel=1e-5)
    if p == q == 2:  # the paper: these are PLCC in disguise
        assert actual[:2] == pytest.approx([(1 - rho) / 2, (1 - rho**2) / 4], rel=1e-5)


def test_ranking_terms_against_a_loop_over_pairs() -> None:
    r, y = np.random.default_rng(1).normal(size=(2, 7))
    y[3] = y[5]
    pairs = [(i, j) for i in range(7) for j in range(7) if i != j]
    wrong = [max(0.0, (r[i] - r[j]) * np.sign(y[j] - y[i])) for i, j in pairs]
    tensors: tuple[Tensor, Tensor] = (torch.from_numpy(r), torch.from_numpy(y))
    assert float(monotonicity(*tensors)) == pytest.approx(np.mean(wrong) / (1 + max(wrong)))
    assert float(monotonicity(tensors[1], tensors[1])) == 0

    def one(i: int, j: int) -> float:
        from scipy.stats import norm

        p, actual = (1 + np.sign(y[i] - y[j])) / 2, norm.cdf((r[i] - r[j]) / np.sqrt(2))
        return 1 - np.sqrt(p * actual) - np.sqrt((1 - p) * (1 - actual))

    assert float(fidelity(*tensors)) == pytest.approx(np.mean([one(i, j) for i, j in pairs]))
    assert float(fidelity(1000 * tensors[1], tensors[1])) < 0.02  # the equal pair alone is undecided


CHECKED: dict[str, Callable[..., Tensor]] = {
    "norm_in_norm": norm_in_norm,
    "monotonicity": monotonicity,
    "fidelity": fidelity,
}


@pytest.mark.parametrize("name", CHECKED)
def test_losses_have_slopes_and_do_not_look_at_the_order_of_a_batch(name: str) -> None:
    r, y = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    order = torch.tensor([4, 0, 8, 2, 6, 1, 3, 7, 5])
    torch.testing.assert_close(CHECKED[name](r, y), CHECKED[name](r[order], y[order]))
    y[1] = y[2]
    r.requires_grad_(True)
    assert bool(torch.autograd.grad(CHECKED[name](r, y), r)[0].isfinite().all())
