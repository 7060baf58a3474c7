"""Training defenses: the finite difference against the exact norm, and training that lowers it and can be repeated."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from opinions import write_opinions
from safetensors.torch import load_file, save, save_file
from torch import nn

from iqarena.api import IqarenaError, SpecError, WeightsError
from iqarena.cli import entry
from iqarena.files.progress import QUIET
from iqarena.images.sets.pocket import PocketImages
from iqarena.registry.tables import build_model
from iqarena.store.sweep import SweepManifest
from iqarena.testing.toys import Curved, CurvedNet, Linear
from iqarena_models import linearityiqa
from iqarena_models.defenses import hardened
from iqarena_models.defenses.adversarial import Adversarial
from iqarena_models.defenses.gradient_norm import GradientNorm, gradient_l1
from iqarena_models.defenses.jpeg import Jpeg
from iqarena_models.defenses.median_smoothing import MedianSmoothing
from iqarena_models.training.harden import train_hardened
from iqarena_models.zoo import scorers
from iqarena_models.zoo.bilinear import BilinearNet
from iqarena_models.zoo.cnn import CnnNet
from iqarena_models.zoo.hyper import HyperNet
from iqarena_models.zoo.linearity import LinearityNet
from iqarena_models.zoo.vit import VitNet

pytestmark = pytest.mark.usefixtures("tiny_ladders")
STRONG = GradientNorm(weight=1.0)


@pytest.fixture(autouse=True)
def _the_same_numbers_every_time() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_opinions(tmp_path_factory.mktemp("hardening") / "opinions", train=32)


def small(defense: hardened.Hardened, data: Path, out: Path, epochs: int = 2, **options: Any) -> dict[str, Any]:
    recipe = train_hardened(defense.defend(Curved()), lr=1e-2, crop=32)
    return recipe.train(data, out, epochs=epochs, **options)


def test_training_lowers_the_norm_and_loads_again(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = small(STRONG, data, tmp_path, epochs=4)
    assert facts["after"]["gradient_l1"] < 0.8 * facts["before"]["gradient_l1"]
    assert facts == json.loads((tmp_path / "gradient_norm-toy_curved.json").read_text())
    assert facts["sha256"] in (tmp_path / "gradient_norm-toy_curved.md").read_text()
    monkeypatch.setenv("IQARENA_WEIGHTS_DIR", str(tmp_path))
    model = GradientNorm(weight=1.0, weights=facts["file"]).defend(Curved())
    assert model.weights_sha256 == facts["sha256"]
    assert model.facts == {"hardened": facts, "training_seconds": facts["training_seconds"]}
    net, x = model.load(), torch.rand(6, 3, 32, 32)
    assert gradient_l1(net, x).mean() < gradient_l1(CurvedNet(0), x).mean()
    for key, value in load_file(tmp_path / facts["file"]).items():
        assert value.dtype == torch.float16
        torch.testing.assert_close(net.state_dict()[key], value.float())


@pytest.mark.parametrize("defense", [STRONG, Adversarial()], ids=lambda defense: defense.name)
def test_the_same_seed_gives_the_same_weights(defense: hardened.Hardened, data: Path, tmp_path: Path) -> None:
    one, same = (small(defense, data, tmp_path / name, epochs=1)["sha256"] for name in "ab")
    other = small(defense, data, tmp_path / "c", epochs=1, seed=1)["sha256"]
    assert one == same != other


def test_training_killed_for_good_goes_on_and_ends_the_same(data: Path, tmp_path: Path) -> None:
    """The process takes its own life with SIGKILL after the first of three epochs."""
    script = f"""
import os, signal
from pathlib import Path
import torch
torch.set_deterministic_debug_mode("error")
torch.set_num_threads(1)
from iqarena.testing.toys import Curved
from iqarena_models.defenses.gradient_norm import GradientNorm
from iqarena_models.training.harden import train_hardened
def log(line):
    if line.startswith("epoch 1"):
        os.kill(os.getpid(), signal.SIGKILL)
recipe = train_hardened(GradientNorm(weight=1.0).defend(Curved()), lr=1e-2, crop=32)
recipe.train(Path({str(data)!r}), Path({str(tmp_path / "cut")!r}), epochs=3, log=log)
"""
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "cut" / "gradient_norm-toy_curved.safetensors").exists()
    lines: list[str] = []
    resumed = small(STRONG, data, tmp_path / "cut", epochs=3, log=lines.append)
    assert "going on after epoch 1 of 3" in lines
    assert resumed["sha256"] == small(STRONG, data, tmp_path / "whole", epochs=3)["sha256"]
    with pytest.raises(IqarenaError, match="is of another recipe"):
        small(GradientNorm(weight=0.5), data, tmp_path / "cut", epochs=1)


def test_weights_of_something_else_are_refused(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IQARENA_WEIGHTS_DIR", str(tmp_path))
    file = small(STRONG, data, tmp_path, epochs=1)["file"]
    path, tensors = tmp_path / file, load_file(tmp_path / file)
    own = GradientNorm(weight=1.0, weights=file).defend(Curved())

    def saved(**changed: str) -> Callable[[], None]:
        about = hardened.origin(STRONG, Curved()) | changed
        return lambda: save_file(tensors, path, metadata={"iqarena": json.dumps(about)})

    cases: dict[str, Callable[[], object]] = {
        r"trained with defense gradient_norm\(weight=1, .* found adversarial": saved(defense="adversarial"),
        r"trained with scorer toy_curved, found cnn": saved(scorer="cnn"),
        r"trained with base_sha256 none, found abc": saved(base_sha256="abc"),
        r"expected tensors of toy_curved, found last": lambda: save_file(
            {"last": torch.zeros(7)}, path, metadata={"iqarena": json.dumps(hardened.origin(STRONG, Curved()))}
        ),
        r"expected safetensors": lambda: path.write_bytes(b"no tensors"),
    }
    own.load()
    for message, spoil in cases.items():
        spoil()
        with pytest.raises(WeightsError, match=message) as caught:
            own.load()
        assert "next step: iqarena train 'toy_curved' --defense 'gradient_norm(weight=1)'" in str(caught.value)


def test_what_is_not_shipped_names_the_training_command() -> None:
    for model in (GradientNorm(weight=0.5).defend(build_model("cnn")), GradientNorm().defend(Linear())):
        with pytest.raises(WeightsError, match=r"no weights come with .* next step: iqarena train .*--weights-dir"):
            model.load()
    with pytest.raises(SpecError, match="next to the scorer"):
        GradientNorm().defend(GradientNorm().defend(Curved()))
    with pytest.raises(SpecError, match="a gradient of its own"):
        GradientNorm().defend(build_model("toy_step"))


SHIPPED = sorted(path.stem.replace("-", "|", 1) for path in hardened.WEIGHTS.glob("*.safetensors"))


def test_the_shipped_weights_are_of_the_whole_zoo_and_small() -> None:
    assert [f"{defense}|{name}" for defense in ("adversarial", "gradient_norm") for name in ZOO] == SHIPPED
    assert sum(path.stat().st_size for path in hardened.WEIGHTS.glob("*.safetensors")) <= 40e6


@pytest.mark.parametrize("spec", SHIPPED)
def test_shipped_weights_are_harder_to_move_than_the_scorers_own(spec: str) -> None:
    """A smaller gradient, or smaller changes by one signed step of the size that was trained with, up and down."""
    model = build_model(spec)
    base = model.undefended
    embedded = PocketImages(crop=128)
    images = [embedded.read(item) for item in embedded.items() if item.id in ("astronaut", "china")]
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255

    def moved(net: nn.Module) -> float:
        if spec.startswith("gradient_norm"):
            return gradient_l1(net, x).mean().item()
        scores, signs = hardened.scores_and_signs(net, x)
        with torch.no_grad():
            steps = [net((x + eps * signs).clamp(0, 1)) - scores for eps in (4 / 255, -4 / 255)]
        return torch.stack(steps).abs().mean().item()

    assert moved(model.load()) < moved(base.load())
    facts = model.facts["hardened"]
    assert facts["sha256"] == model.weights_sha256
    assert facts["base_sha256"] == base.weights_sha256
    assert spec.startswith("adversarial") or facts["after"]["gradient_l1"] < facts["before"]["gradient_l1"]


ZOO = {
    "bilinear": (scorers.Bilinear, BilinearNet), "cnn": (scorers.Cnn, CnnNet), "hyper": (scorers.Hyper, HyperNet),
    "linearity": (scorers.Linearity, LinearityNet), "vit": (scorers.Vit, VitNet),
}  # fmt: skip
TRAINED = {  # beginnings of the names of all tensors that hardening may change
    "bilinear": (
        "backbone.content.convs.5.", "backbone.content.convs.6.", "backbone.distortion.fires.2.",
        "backbone.distortion.fires.3.", "norms.", "content.", "distortion.", "regression.",
    ),
    "cnn": ("first.", "body.", "head."),
    "hyper": ("backbone.stages.1.", "backbone.stages.2.", "content.", "norm.", "semantic.", "weights."),
    "linearity": ("backbone.to_16.5.", "backbone.to_16.6.", "backbone.to_32.", "reduce", "rate", "regression."),
    "vit": ("backbone.blocks.", "norm.", "embed.", "quality", "temperature"),
}  # fmt: skip


@pytest.fixture
def zoo_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the zoo's shipped weights, and of the user's."""
    monkeypatch.setattr(scorers, "WEIGHTS", tmp_path)
    monkeypatch.setenv("IQARENA_WEIGHTS_DIR", str(tmp_path))
    return tmp_path


def write_random(name: str, folder: Path, seed: int = 0) -> None:
    torch.manual_seed(seed)
    tensors = save({key: value.half().contiguous() for key, value in ZOO[name][1]().state_dict().items()})
    (folder / f"{name}.safetensors").write_bytes(tensors)
    (folder / f"{name}.json").write_text(json.dumps({"sha256": hashlib.sha256(tensors).hexdigest()}))
    scorers._facts.cache_clear()


@pytest.mark.parametrize("name", ZOO)
def test_the_zoos_scorers_are_hardened_where_it_is_declared(name: str, data: Path, zoo_weights: Path) -> None:
    """Random weights: what changes, what is stored, and that it is laid over nothing else."""
    write_random(name, zoo_weights)
    scorer = ZOO[name][0]()
    defense = Adversarial() if name in ("bilinear", "cnn") else GradientNorm()
    facts = train_hardened(defense.defend(scorer), lr=1e-2, crop=64).train(data, zoo_weights, limit=8)
    stored = load_file(zoo_weights / facts["file"])
    model = type(defense)(weights=facts["file"]).defend(scorer)
    before, after = scorer.load().state_dict(), model.load().state_dict()
    changed = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert changed == stored.keys()
    assert all(key.startswith(TRAINED[name]) for key in changed)
    assert all(any(key.startswith(beginning) for key in changed) for beginning in TRAINED[name])
    if name == "vit":
        parts = {tuple(key.split(".")[2:4]) for key in changed if ".blocks." in key}
        assert {part for block, part in parts if block != "5"} == {"norm1", "norm2", "scale1", "scale2"}
        assert {part for block, part in parts if block == "5"} > {"query", "key", "value", "out", "fc1", "fc2"}
    assert facts["bytes"] < 6.5e6, "two of each of the five are within 40 MB"
    assert facts["base_sha256"] == scorer.weights_sha256 != model.weights_sha256 == facts["sha256"]
    write_random(name, zoo_weights, seed=1)
    with pytest.raises(WeightsError, match=r"expected weights trained with base_sha256 \w+, found \w+; next step"):
        model.load()


def test_defenses_of_image_and_weights_compose(data: Path, zoo_weights: Path) -> None:
    write_random("cnn", zoo_weights)
    scorer = scorers.Cnn()
    file = train_hardened(GradientNorm().defend(scorer), crop=64).train(data, zoo_weights, limit=8)["file"]
    hard = GradientNorm(weights=file).defend(scorer)
    model = Jpeg(quality=70).defend(hard)
    assert model.label == f"jpeg(quality=70)|gradient_norm(weights={file})|cnn"
    assert model.weights_sha256 == hard.weights_sha256
    x = torch.rand(2, 3, 64, 72)
    with torch.no_grad():
        purified = Jpeg(quality=70).before(nn.Identity()).purify(x)
        assert torch.equal(model.load()(x), hard.load()(purified))
        assert not torch.equal(model.load()(x), hard.load()(x))
        low, high = MedianSmoothing(n=20).defend(hard).load().certificate(x).T  # pyright: ignore[reportCallIssue]
    assert (low < high).all()


def test_a_shipped_chain_is_built_from_its_spec() -> None:
    spec = "jpeg(quality=70)|gradient_norm|cnn"
    assert build_model(spec).label == spec
    assert build_model(spec).weights_sha256 == build_model("gradient_norm|cnn").weights_sha256


def test_a_published_scorer_is_hardened_like_any(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random parameters: only the path is tested."""
    monkeypatch.setattr(linearityiqa, "SIZE", (14, 20))
    monkeypatch.setenv("IQARENA_WEIGHTS_DIR", str(tmp_path))
    torch.manual_seed(0)
    net = linearityiqa.LinearityNet("resnet18")
    torch.save({"model": net.state_dict(), "k": [10.0, 3.0], "b": [60.0, 1.0]}, tmp_path / "mine.pth")
    model = build_model("linearityiqa(resnet=resnet18, weights=mine.pth)")
    recipe = train_hardened(GradientNorm().defend(model), crop=32)
    facts = recipe.train(data, tmp_path, epochs=1, limit=16)
    defended = build_model(f"gradient_norm(weights={facts['file']})|{model!r}")
    assert facts["base_sha256"] == model.weights_sha256 != defended.weights_sha256
    before, after = model.load().state_dict(), defended.load().state_dict()
    changed = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert changed
    assert not {key for key in changed if "running" in key}, "batch statistics are frozen"


def test_the_command_trains_and_says_what_came_of_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "toy_curved", "--data", str(data), "--epochs", "1", "--set", "crop=32", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as done:
        entry([*command, "--defense", "gradient_norm(weight=1e-3, h=1e-2)", "--device", "cpu"])
    assert not done.value.code
    assert "gradient_norm-toy_curved.safetensors: validation SROCC" in capsys.readouterr().out
    facts = json.loads((tmp_path / "gradient_norm-toy_curved.json").read_text())
    command_again = "iqarena train 'gradient_norm(weight=1e-3, h=1e-2)|toy_curved' --data opinions --seed 0"
    assert facts["command"] == f"{command_again} --epochs 1 --set crop=32"
    for wrong, message in {
        "jpeg": "no training for 'jpeg'",
        "gradient_norm(weight=-1)": "expected weight ≥ 0",
        "gradient_nrom": "nearest: 'gradient_norm'",
    }.items():
        with pytest.raises(SystemExit):
            entry([*command, "--defense", wrong])
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        entry(["train", "linearityiqa", "--data", str(data), "--set", "crop=32"])
    assert "--set: this training has no number 'crop'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        entry([*command, "--defense", "gradient_norm", "--set", "crop=0"])
    assert "--set crop: expected a positive whole number, found '0'" in capsys.readouterr().err


def test_quiet_silences_the_bars_of_a_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(QUIET, "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    command = ["train", "gradient_norm|toy_curved", "--data", str(data), "--epochs", "1", "--set", "crop=32"]
    bars = []
    for quiet in ([], ["--quiet"]):
        folder = tmp_path / str(len(bars))
        with pytest.raises(SystemExit):
            entry([*command, "--limit", "16", "--out", str(folder / "out"), "--device", "cpu", *quiet])
        bars.append(capsys.readouterr().err)
    assert all(what in bars[0] for what in ("epoch 1/1", "scoring", "decoding images"))
    assert bars[1] == ""


def test_the_sweep_measures_every_combination_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("iqarena.report.studies.flatness.save", lambda *_: None)
    out, suite = tmp_path / "sweep", tmp_path / "toy.toml"
    attacks = '["noise", "fgsm", "pgd(steps=2)", "square(queries=5)"]'
    suite.write_text(
        f'images = "pocket(crop=32)"\nlimit = 2\ntargets = ["toy_curved", "toy_linear"]\nattacks = {attacks}\n'
    )
    command = ["sweep", "toy_curved", "--data", str(data), "--limit", "16", "--crop", "32", "--attacked", "1"]
    command += ["--suite", str(suite), "--out", str(out), "--device", "cpu"]
    defenses = ["--defense", "gradient_norm(weight=1e-2)", "--defense", "gradient_norm(weight=1e-2, h=0.1)"]
    for _ in range(2):
        with pytest.raises(SystemExit) as done:
            entry([*command, *defenses])
        assert not done.value.code
    log = capsys.readouterr().out
    assert log.count("gradient_norm(weight=0.01, h=0.1)|toy_curved\n") == 1  # the second time nothing is trained
    rows = pd.read_csv(out / "sweep.csv")
    assert rows["defense"].tolist() == ["none", "gradient_norm(weight=0.01)", "gradient_norm(weight=0.01, h=0.1)"]
    assert rows["change fgsm"].gt(0).all()
    assert [column for column in map(str, rows) if "change" in column] == ["change fgsm", "change pgd(steps=2)"]
    points = pd.read_csv(out / "theorem.csv")
    assert points["model"].unique().tolist() == ["toy_curved", "toy_linear"]  # none is shipped hardened
    assert points["image"].nunique() == 2
    manifest = SweepManifest.read(out)
    assert (manifest.attacks, manifest.images, manifest.image_set) == (("fgsm", "pgd(steps=2)"), 1, "pocket(crop=32)")
    for wrong, words in (
        (["--defense", "jpeg"], "no training for 'jpeg'"),
        (["--defense", "adversarial"], "expected the numbers weight and h to sweep over"),
        ([*defenses, "--defense", "adversarial"], "expected one defense with several parameters"),
        ([], "Missing option '--defense'"),
        ([*defenses, "--attack", "noise"], "expected an attack that goes by gradients alone"),
    ):
        with pytest.raises(SystemExit) as done:
            entry([*command, *wrong])
        assert done.value.code == 2
        assert words in capsys.readouterr().err
    (out / "manifest.json").write_text('{"suite": "pocket"}')
    with pytest.raises(SystemExit):
        entry([*command, *defenses])
    assert "not a sweep's manifest" in capsys.readouterr().err
    assert (out / "manifest.json").read_text() == '{"suite": "pocket"}'
