"""``iqarena.scorer``: specs, modules and functions; the common scale; a caller's module is left alone."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import iqarena
from iqarena.engine import scorer as engine
from iqarena.errors import ImageError, IqarenaError, ScorerError, SpecError
from iqarena.registry.tables import build_model
from iqarena.testing.toys import CurvedNet, images

X = images().float() / 255


class Unit(nn.Module):
    """Scores on 0–1; another when it is trained, as dropout and batch statistics do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = CurvedNet(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) / 100 + (10 if self.training else 0)


class Locked(Unit):
    """Cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def test_a_spec_scores_as_the_engine_does_in_every_form() -> None:
    scorer = iqarena.scorer("toy_curved", device="cpu")
    expected = engine.Scorer(build_model("toy_curved")).score(X).tolist()
    arrays = [np.asarray(image) for image in images().permute(0, 2, 3, 1)]
    assert scorer(X).tolist() == expected
    assert scorer(list(X)) == expected
    assert scorer(arrays) == expected
    assert [scorer(x) for x in X] == expected
    assert [scorer(Image.fromarray(array)) for array in arrays] == expected
    assert isinstance(scorer(X[0]), float)
    assert (scorer.name, repr(scorer)) == ("toy_curved", "<scorer toy_curved on cpu>")
    assert iqarena.scorer(scorer) is scorer


def test_a_defended_spec_is_another_scorer() -> None:
    plain, defended = (iqarena.scorer(spec, device="cpu") for spec in ("toy_curved", "jpeg(quality=10)|toy_curved"))
    assert defended.name == "jpeg(quality=10)|toy_curved"
    assert plain(X[0]) != defended(X[0])


@pytest.mark.parametrize("make", [Unit, Locked])
def test_a_module_is_mapped_to_the_common_scale_and_left_as_it_was(make: type[Unit]) -> None:
    net = make()
    net.net.eval()  # a mixture of modes, as fine-tuning leaves it
    before = {name: value.clone() for name, value in net.state_dict().items()}
    scorer = iqarena.scorer(net, range=(0, 1))
    expected = CurvedNet(0)(X).detach()
    assert torch.allclose(scorer(X), expected, atol=1e-4)
    attack = iqarena.attack("fgsm", sources=scorer)
    assert not torch.equal(attack(X[:1]), X[:1])
    assert (net.training, net.net.training) == (True, False)
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_what_a_module_learns_later_is_not_seen() -> None:
    net = Unit()
    scorer = iqarena.scorer(net, range=(0, 1))
    first = scorer(X[0])
    with torch.no_grad():
        net.net.last.mul_(2)
    assert scorer(X[0]) == first


def test_direction_and_range_are_a_straight_line_without_clipping() -> None:
    def brightness(x: Tensor) -> Tensor:
        return 2 + 3 * x.mean((1, 2, 3))

    level = X.mean((1, 2, 3))
    up, down = (iqarena.scorer(brightness, range=(2, 5), higher_better=better) for better in (True, False))
    assert torch.allclose(up(X), 100 * level, atol=1e-3)
    assert torch.allclose(down(X), 100 - 100 * level, atol=1e-3)
    narrow = iqarena.scorer(brightness, range=(2, 2.5), name="narrow")
    assert narrow.name == "narrow"
    assert narrow(torch.ones(3, 8, 8)) == pytest.approx(600, rel=1e-5)


def test_a_column_of_scores_is_taken_and_a_first_score_near_nothing_with_a_range() -> None:
    assert iqarena.scorer(lambda x: 100 * x.mean((1, 2, 3))[:, None], name="column")(X).shape == (len(X),)
    assert iqarena.scorer(lambda x: x.mean((1, 2, 3)), range=(0, 100))(X[0]) < 1


def test_only_a_first_score_between_0_and_1_is_suspicious() -> None:
    scorer = iqarena.scorer(lambda x: 100 * x.mean((1, 2, 3)))
    scorer(torch.full((3, 8, 8), 0.5))
    assert scorer(torch.full((3, 8, 8), 0.005)) == pytest.approx(0.5, rel=1e-4)


def mean(x: Tensor) -> Tensor:
    return x.mean((1, 2, 3))


def three(x: Tensor) -> Any:
    return 3.0


def nothing(x: Tensor) -> Tensor:
    return mean(x) * torch.nan


TOY = iqarena.scorer("toy_curved", device="cpu")
REFUSED: list[tuple[Callable[[], Any], type[IqarenaError], str]] = [
    (lambda: iqarena.scorer("toy_curvd"), SpecError, "unknown model 'toy_curvd'; nearest: 'toy_curved'"),
    (lambda: iqarena.scorer("toy_curved", range=(0, 1)), SpecError, "toy_curved: its scale is known; leave out range"),
    (lambda: iqarena.scorer(TOY, higher_better=False), SpecError, "its scale is known; leave out range, higher_better"),
    (lambda: iqarena.scorer(3), SpecError, "expected a spec such as 'hyper', a torch module or a function, found int"),  # pyright: ignore
    (lambda: iqarena.scorer(Unit), SpecError, "found the class Unit, not an object of it"),  # pyright: ignore
    (lambda: iqarena.scorer(mean, range=(1, 0)), SpecError, "expected two numbers (low, high) with low < high"),
    (lambda: iqarena.scorer(mean, range=(0, float("inf"))), SpecError, "expected two numbers (low, high)"),
    (lambda: iqarena.scorer(mean, range=7), SpecError, "expected two numbers (low, high)"),  # pyright: ignore
    (lambda: iqarena.scorer("toy_curved", device="gpu"), SpecError, "device: expected auto, cpu, cuda or cuda:N"),
    (lambda: iqarena.scorer(mean)(X), ScorerError, "mean: expected scores on 0–100, found 0."),
    (lambda: iqarena.scorer(Unit().eval())(X), ScorerError, "write range=(0, 1), or range=(0, 100) if it is not"),
    (lambda: iqarena.scorer(nn.Conv2d(3, 4, 3))(X), ScorerError, "Conv2d: expected one score an image, shape (1,)"),
    (lambda: iqarena.scorer(lambda x: x.mean())(X), ScorerError, "<lambda>: expected one score an image, shape (1,)"),
    (lambda: iqarena.scorer(three)(X), ScorerError, "three: expected a tensor of scores (N,), found float"),
    (lambda: iqarena.scorer(nn.Linear(3, 1))(X), ScorerError, "Linear failed on an image of 40×32: RuntimeError: "),
    (lambda: iqarena.scorer(lambda x: sys.exit(0))(X), ScorerError, "<lambda> failed on an image of 40×32: SystemExit"),
    (lambda: iqarena.scorer(nothing)(X), ScorerError, "expected finite scores, found nan for an image of 40×32"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "words"), REFUSED, ids=[words[:40] for *_, words in REFUSED])
def test_what_is_no_scorer_is_refused_in_one_line(call: Callable[[], Any], kind: type, words: str) -> None:
    with pytest.raises(kind) as error:
        call()
    assert words in str(error.value)
    assert issubclass(kind, iqarena.IqarenaError)


def test_an_image_that_is_too_small_is_an_error_of_the_image() -> None:
    with pytest.raises(IqarenaError, match="needs images of at least 16 pixels a side, found 8×8"):
        iqarena.scorer("toy_curved", device="cpu")(torch.rand(3, 8, 8))


def test_an_error_names_the_path_that_was_given(tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "one.png", tmp_path / "b.png"]
    for path, size in zip(paths, ((40, 32), (1, 1), (40, 32)), strict=True):
        Image.new("RGB", size, "teal").save(path)
    too_small = rf"^{paths[1]}: toy_curved\(seed=0\) needs images of at least 16 pixels"
    for call in (iqarena.scorer("toy_curved", device="cpu"), iqarena.attack("fgsm", "toy_curved", device="cpu")):
        for given in (paths, str(paths[1]), [X[0], paths[1]]):
            with pytest.raises(ImageError, match=too_small):
                call(given)
    with pytest.raises(ScorerError, match=f"^{paths[0]}: nothing: expected finite scores"):
        iqarena.scorer(nothing)(paths[:1])
