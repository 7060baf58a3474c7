"""``iqarena.attack``: a run's own adversarial image, any form, one image at a time or many, and what it cost."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import iqarena
from iqarena.api import Attack
from iqarena.client.attack import Cost
from iqarena.client.effect import effect
from iqarena.errors import AttackError, ImageError, IqarenaError, SpecError
from iqarena.images.decode import decode_file
from iqarena.testing.toys import Curved, LinearNet, Steep, images

X = images().float() / 255
EPS = 8 / 255
STEEP = Steep(of=Curved())


@dataclass(frozen=True, kw_only=True, repr=False)
class Hole(Attack):
    """Gives what is no number."""

    name = "hole"

    def perturb(self, x: Tensor, *_: Any) -> Tensor:
        return x * float("nan")


def test_a_tensor_becomes_8_bit_within_the_budget_and_loses_score() -> None:
    attack = iqarena.attack("fgsm", sources="toy_linear", direction="lower", device="cpu")
    adversarial = attack(X)
    assert (adversarial.shape, adversarial.dtype, adversarial.device) == (X.shape, X.dtype, X.device)
    assert torch.equal(adversarial, (adversarial * 255).round() / 255)
    assert float((adversarial - X).abs().max()) <= EPS + 1e-6
    net = LinearNet(0)
    weights = net.weights(X)
    headroom = torch.where(weights > 0, X, 1 - X).clamp(max=EPS)  # the best that a linear scorer allows
    best = (headroom * weights.abs()).sum((1, 2, 3))
    assert torch.allclose(net(X) - net(adversarial), best, rtol=1e-4)


def test_a_tensor_between_the_levels_stays_within_its_own_budget() -> None:
    x = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    for spec in ("fgsm(eps=1/255)", "fgsm"):
        attack = iqarena.attack(spec, sources="toy_linear", device="cpu")
        adversarial = attack(x)
        assert float((adversarial - x).abs().max()) <= attack.attack.eps + 1e-6
        assert torch.equal(adversarial, (adversarial * 255).round() / 255)
    same = iqarena.attack("identity", sources="toy_linear", device="cpu")(x)
    assert torch.equal(same, (x * 255).round() / 255)


def test_neither_neighbours_nor_the_form_change_an_image(tmp_path: Path) -> None:
    attack = iqarena.attack("sega(samples=2)", sources=["toy_curved", "toy_linear"], seed=5, device="cpu")
    together = attack(X)
    arrays = [np.asarray(image) for image in images().permute(0, 2, 3, 1)]
    Image.fromarray(arrays[0]).save(tmp_path / "a.png")
    mixed = attack([tmp_path / "a.png", Image.fromarray(arrays[1]), arrays[2], arrays[3][:24], X[4]])
    assert [type(image) for image in mixed] == [Image.Image, Image.Image, np.ndarray, np.ndarray, Tensor]
    expected = [np.asarray((image * 255).round().to(torch.uint8).permute(1, 2, 0)) for image in together]
    for k in (0, 1, 2):
        assert np.array_equal(np.asarray(mixed[k]), expected[k])
    assert torch.equal(mixed[4], together[4])
    assert torch.equal(attack(X[2]), together[2])
    assert mixed[3].shape == (24, 40, 3)
    other = iqarena.attack("sega(samples=2)", sources=["toy_curved", "toy_linear"], seed=6, device="cpu")
    assert not torch.equal(other(X), together)


def test_with_a_set_s_ids_it_is_the_image_of_a_run(suite: Path, photos: Path, tmp_path: Path) -> None:
    run = iqarena.run(suite, tmp_path / "run", limit=2, device="cpu", progress=False)
    rows = run.rows.set_index(["attack_label", "source", "image"])["sha256"]
    sources = [spec.removeprefix("ensemble(").removesuffix(")") for spec in rows.index.unique("source")]
    assert len(sources) == 3
    for spec in ("noise", "mi_fgsm(steps=2)", "sega(samples=2)"):
        for source in rows.index.unique("source"):
            attack = iqarena.attack(spec, sources=source, device="cpu")
            for name in ("p0.png", "p1.png"):
                adversarial = attack(decode_file(photos / name), ids=[name])
                sha = hashlib.sha256(adversarial.tobytes()).hexdigest()
                assert {sha} == set(np.atleast_1d(rows[spec, source, name])), (spec, source, name)


class Convolution(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).square().mean((1, 2, 3))


@pytest.mark.parametrize(
    "mode", [lambda: torch.autocast("cpu", torch.bfloat16), torch.inference_mode, torch.no_grad],
    ids=["autocast", "inference", "no_grad"],
)  # fmt: skip
def test_what_torch_is_set_to_around_a_call_changes_nothing(
    photos: Path, tmp_path: Path, mode: Callable[[], AbstractContextManager[Any]]
) -> None:
    torch.manual_seed(0)
    net = Convolution(3, 8, 3)

    def results(folder: Path) -> list[Tensor]:
        source = iqarena.scorer(net, range=(0, 1))
        attack = iqarena.attack("sega(samples=2)", sources=[source, iqarena.scorer("toy_curved", device="cpu")])
        suite = {"images": {"path": str(photos)}, "targets": ["toy_curved", "toy_linear"], "attacks": ["fgsm"]}
        rows = iqarena.run(suite, folder, limit=1, device="cpu", workers=1, progress=False).rows
        assert set(rows["status"]) == {"ok"}
        adversarial = attack(X.clone())
        return [adversarial, attack.sources[0](adversarial), torch.tensor(rows["score_adv"].tolist())]

    expected = results(tmp_path / "plain")
    with mode():
        found = results(tmp_path / "around")
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_the_cost_is_counted_over_images_and_sources() -> None:
    attack = iqarena.attack("mi_fgsm(steps=3)", sources=["toy_curved", "toy_linear"], device="cpu")
    assert attack.cost == Cost()
    attack(X[:2])
    assert (attack.cost.images, attack.cost.gradients, attack.cost.scores, attack.cost.queries) == (2, 12, 0, 0)
    assert attack.cost.seconds > 0
    assert "12 gradients, 0 scores, 0 queries" in str(attack.cost)


def test_a_query_attack_asks_its_target_and_no_more_than_it_declares() -> None:
    attack = iqarena.attack("random_search(queries=30)", target=STEEP, direction="raise", device="cpu")
    adversarial = attack(X[:2])
    scorer = iqarena.scorer(STEEP, device="cpu")
    assert (scorer(adversarial) > scorer(X[:2])).all()
    assert 2 < attack.cost.queries <= 60
    assert attack.cost.gradients == 0
    assert repr(attack) == "<attack random_search(queries=30) from [] asking toy_steep(of=toy_curved)>"


def test_a_transfer_start_goes_on_with_queries() -> None:
    attack = iqarena.attack("warm_start(queries=10)", "toy_curved", target=STEEP, device="cpu")
    attack(X[:1])
    assert attack.cost.gradients > 0
    assert 1 < attack.cost.queries <= 10


def test_mid_goes_by_the_clean_score_of_the_sources() -> None:
    bright, dark = torch.full((3, 16, 16), 0.8), torch.full((3, 16, 16), 0.2)
    level = iqarena.scorer(lambda x: 100 * x.mean((1, 2, 3)), name="level")
    attack = iqarena.attack("fgsm(eps=10/255)", sources=level)
    for x, change in ((bright, -10), (dark, 10)):
        assert torch.allclose(255 * (attack(x) - x), torch.tensor(float(change)), atol=1e-3)
    assert iqarena.attack("noise", direction="raise")(bright).shape == bright.shape


def test_effect_measures_what_happened() -> None:
    level = iqarena.scorer(lambda x: 100 * x.mean((1, 2, 3)), name="level")
    x = torch.full((3, 16, 16), 0.4)
    measured = effect(x, iqarena.attack("fgsm(eps=51/255)", sources=level)(x), [level])
    assert measured.scores["level"] == (pytest.approx(40), pytest.approx(60))
    assert measured.linf == pytest.approx(51 / 255)
    assert 0 < measured.ssim < 1


CALLS: list[tuple[Callable[[], Any], type[IqarenaError], str]] = [
    (lambda: iqarena.attack("sgea", "toy_linear"), SpecError, "unknown attack 'sgea'; nearest: 'sega'"),
    (lambda: iqarena.attack("fgsm(ep=1/255)", "toy_linear"), SpecError, "no parameter 'ep'; nearest: 'eps'"),
    (lambda: iqarena.attack("fgsm"), SpecError, "fgsm: expected sources, whose gradients it goes by"),
    (lambda: iqarena.attack("fgsm", ["toy_linear", "toy_lin"]), SpecError, "'toy_lin'; nearest: 'toy_linear'"),
    (lambda: iqarena.attack("fgsm", "toy_step"), SpecError, "toy_step has no gradient; use it as a target only"),
    (lambda: iqarena.attack("fgsm", ["toy_linear"] * 2), SpecError, "sources: toy_linear(seed=0) is listed twice"),
    (lambda: iqarena.attack("fgsm", "toy_linear", direction="up"), SpecError, "direction 'up'; valid: 'lower'"),  # pyright: ignore
    (lambda: iqarena.attack("fgsm", "toy_linear", target="toy_step"), SpecError, "fgsm asks no target; leave it out"),
    (lambda: iqarena.attack("noise", direction="raise", seed=None), SpecError, "number ≥ 0, found None"),  # pyright: ignore
    (lambda: iqarena.attack("noise", direction="raise", seed="a"), SpecError, "seed: expected a whole number ≥ 0"),  # pyright: ignore
    (lambda: iqarena.attack("noise", direction="raise", seed=1.5), SpecError, "number ≥ 0, found 1.5"),  # pyright: ignore
    (lambda: iqarena.attack("nes"), SpecError, "nes: expected a target, whose scores it asks"),
    (lambda: iqarena.attack("nes", "toy_linear", target="toy_step"), SpecError, "asks its target alone"),
    (lambda: iqarena.attack("noise"), SpecError, "noise: direction 'mid' goes by the score of a source"),
    (lambda: iqarena.attack("sega(sigma=auto)", "toy_linear"), SpecError, "at least 2 scorers, found 1"),
    (lambda: iqarena.attack("fgsm", "toy_linear")(X, ids=["a"]), ImageError, "one for each of 5 images, found 1"),
    (lambda: iqarena.attack("fgsm", "toy_linear")(X * 255), ImageError, "divide by 255"),
    (lambda: iqarena.attack(Hole(), "toy_linear")(X), AttackError, "hole gave NaN or infinite pixels"),
    (lambda: iqarena.attack("fgsm", nn.Flatten())(X), IqarenaError, "Flatten: expected one score an image"),
    (lambda: iqarena.attack("fgsm", lambda x: x.mean((1, 2, 3)))(X), IqarenaError, "looks like 0–1; write range="),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "words"), CALLS, ids=[words[:40] for *_, words in CALLS])
def test_a_mistake_is_one_line(call: Callable[[], Any], kind: type, words: str) -> None:
    with pytest.raises(kind) as error:
        call()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_scorers_on_two_devices_are_refused_before_anything_is_evaluated() -> None:
    elsewhere = iqarena.scorer("toy_curved", device="cpu")
    elsewhere.engine.device = torch.device("cuda")
    other = iqarena.scorer("toy_linear", device="cpu")
    with pytest.raises(SpecError, match="expected all scorers on one device, found cpu and cuda; write device="):
        iqarena.attack("fgsm", [elsewhere, other])
    assert iqarena.scorer(other, device="cpu") is other
    assert iqarena.scorer(other, device="auto") is other
    assert iqarena.attack("fgsm", [other, "toy_curved"], device="cpu").sources[0] is other
    with pytest.raises(SpecError, match="toy_curved on cuda>: it is on cuda already; make another for cpu"):
        iqarena.attack("fgsm", [elsewhere, other], device="cpu")


def test_a_failed_call_leaves_the_cost_of_the_last_one() -> None:
    attack = iqarena.attack("fgsm", "toy_linear", device="cpu")
    attack(X[:1])
    cost = attack.cost
    with pytest.raises(ImageError):
        attack("nowhere.png")
    assert attack.cost is cost
