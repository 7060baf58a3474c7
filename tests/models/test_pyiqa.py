"""pyiqa's architectures with random parameters, through the real loading path; no network, no published file.

Scores of random parameters mean nothing; what is tested is that each is built, filled, frozen, differentiable,
deterministic and independent of its batch.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from randomweights import write_files

from iqarena.api import WeightsError
from iqarena.engine.scorer import Scorer
from iqarena.files import weights
from iqarena.registry.tables import build_model
from iqarena.testing import check_model, images
from iqarena_models import published
from iqarena_models.catalog import catalog

pytestmark = [
    pytest.mark.skipif(find_spec("pyiqa") is None, reason="pyiqa is not installed (pip install iqarena[pyiqa])"),
    pytest.mark.filterwarnings("ignore"),  # of the packages that pyiqa imports
]
FAST = ["cnniqa", "liqe"]
LARGE = ["dbcnn", "hyperiqa(crops=1)"]  # built and scored every time, with all checks among the slow tests
SLOW = [
    "arniqa", "clipiqa", "clipiqa+", "clipiqa+_rn50_512", "clipiqa+_vitL14_512",
    "liqe_mix(crops=2)", "maniqa(crops=1)",
    "metaiqa", "musiq", "musiq-ava", "nima-vgg16-ava", "paq2piq", "qualiclip", "qualiclip+", "topiq_nr",
    "topiq_iaa_res50", "tres(crops=1)", "unique", "uranker", "wadiqam_nr",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(weights.WEIGHTS_DIR, str(tmp_path))
    monkeypatch.setenv(weights.OFFLINE, "1")
    monkeypatch.setattr(published, "weight_file", lambda name: weights.WeightFile(name))
    return tmp_path


@pytest.mark.parametrize("spec", [*FAST, *(pytest.param(spec, marks=pytest.mark.slow) for spec in LARGE + SLOW)])
def test_random_weights_conform(spec: str, folder: Path) -> None:
    write_files(spec.partition("(")[0], folder)
    for name, check in check_model(build_model(spec)):
        if name == "model_scores":
            continue  # random parameters score anywhere
        try:
            check()
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


@pytest.mark.parametrize("spec", LARGE)
def test_random_weights_are_built_and_scored(spec: str, folder: Path) -> None:
    write_files(spec.partition("(")[0], folder)
    model = build_model(spec)
    side = max(model.min_size, 32)
    x = images([0, 1], (side, side + 9)).float() / 255
    scorer = Scorer(model)
    value, gradient = scorer.value_and_gradient(x)
    assert value.isfinite().all()
    torch.testing.assert_close(scorer.score(x), value)
    assert gradient.shape == x.shape
    assert gradient.isfinite().all()


def test_liqe_reads_no_sentences_that_other_parameters_have_written(folder: Path) -> None:
    write_files("liqe", folder)
    x = images([0], (224, 224)).float() / 255
    first = Scorer(build_model("liqe")).score(x)
    saved = torch.load(folder / "liqe_koniq.pt")
    saved["params"]["clip_model.text_projection"] *= -1
    torch.save(saved, folder / "liqe_koniq.pt")
    assert not torch.equal(Scorer(build_model("liqe")).score(x), first)
    assert [path.name for path in folder.iterdir()] == ["liqe_koniq.pt"]


def test_crops_of_an_image_depend_on_its_size_alone(folder: Path) -> None:
    """An image and its attacked version are cropped alike, and numpy's global stream is left alone."""
    write_files("hyperiqa", folder)
    net: Any = build_model("hyperiqa(crops=4)").load().net.net  # pyright: ignore[reportAttributeAccessIssue]
    seen: list[torch.Tensor] = []
    net.forward_patch = lambda crops: seen.append(crops) or crops.mean((1, 2, 3))[:, None]
    x = torch.rand(1, 3, 300, 400)
    net(x)
    net(torch.cat([x, x + 0.1]))
    torch.testing.assert_close(seen[1][:4], seen[0])
    torch.testing.assert_close(seen[1][4:], seen[0] + 0.1)


@pytest.mark.parametrize("name", ["niqe", "ilniqe", "nrqm"])
def test_a_matlab_file_that_is_none_is_one_line(name: str, folder: Path) -> None:
    for file in catalog()[name].files:
        (folder / file).write_bytes(b"<html>your proxy has a word with you</html>")
    with pytest.raises(WeightsError, match=r"\.mat: expected a MATLAB file: .*; get the file again"):
        build_model(name).load()


@pytest.mark.skipif(
    "IQARENA_TEST_WEIGHTS" not in os.environ, reason="needs the published files: IQARENA_TEST_WEIGHTS=folder"
)
@pytest.mark.parametrize("name", ["brisque", "niqe"])
def test_published_parameters_conform(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert catalog()[name].gradient == "straight-through"
    monkeypatch.setenv(weights.WEIGHTS_DIR, os.environ["IQARENA_TEST_WEIGHTS"])
    monkeypatch.setenv(weights.OFFLINE, "1")
    for _, check in check_model(build_model(name)):
        check()
