"""The universal perturbation: one for all images, made once a run, never from the image under attack."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from iqarena.api.streams import Streams
from iqarena.engine.scorer import Scorer
from iqarena.engine.source import Source
from iqarena.images.sets.pocket import PocketImages
from iqarena.testing import Curved, images
from iqarena_attacks._images import embedded, others, references
from iqarena_attacks.admix import Admix
from iqarena_attacks.uap import Uap


def _source(scorers: Sequence[Scorer], x: Tensor, s: float = 1) -> Source:
    return Source(scorers, x, Streams([str(i) for i in range(len(x))], "uap"), sign=x.new_full((len(x),), s))


def _perturb(attack: Uap, scorers: Sequence[Scorer], x: Tensor, s: float, id: str = "") -> Tensor:
    return attack.perturb(x, _source(scorers, x, s), Streams([id] * len(x), "uap")) - x


def test_it_is_one_perturbation_and_made_once_a_run() -> None:
    attack, scorers = Uap(steps=5), [Scorer(Curved()), Scorer(Curved(seed=1))]
    x = images(range(4), (64, 48)).float() / 255
    up = _perturb(attack, scorers, x, 1)
    assert (up - up[:1]).abs().max() < 1e-6
    assert [s.evaluated["gradient"] for s in scorers] == [5, 5]
    view = _source(scorers, x[:1])
    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(lambda _: torch.equal(_perturb(attack, scorers, x, 1), up), range(3)))
    attack.perturb(x[:1], view, Streams(["one"], "uap"))
    assert (view.forwards, view.backwards) == (10, 10), "charged again"
    assert [s.evaluated["gradient"] for s in scorers] == [5, 5], "and not made again"
    down = _perturb(attack, scorers, x, -1)
    assert [s.evaluated["gradient"] for s in scorers] == [10, 10], "lowering needs another one"
    assert not torch.equal(down, -up)
    _perturb(attack, scorers[:1], x, 1)
    assert scorers[0].evaluated["gradient"] == 15, "and so does another source"


def test_it_is_tiled_to_any_size() -> None:
    attack, scorers = Uap(steps=2), [Scorer(Curved())]
    large = _perturb(attack, scorers, torch.full((1, 3, 300, 500), 0.5), 1)
    assert torch.allclose(large[..., :12, :], large[..., 288:, :], atol=1e-6)
    assert torch.allclose(large[..., :116], large[..., 384:], atol=1e-6)
    small = _perturb(attack, scorers, torch.full((1, 3, 20, 30), 0.5), 1)
    assert torch.allclose(small, large[..., :20, :30], atol=1e-6)


def test_the_own_reference_image_is_left_out_of_training() -> None:
    items = PocketImages().items()
    clusters = [item.cluster for item in items]
    unknown, crops = [""] * len(items), torch.rand(len(items), 3, 40, 40)
    for x, ids in ((embedded().float() / 255, unknown), (crops, [item.id for item in items])):
        for item, kept in zip(items, others(x, ids), strict=True):
            assert {clusters[i] for i in kept} == set(clusters) - {item.cluster}, item.id
    assert others(images(range(3)).float() / 255, unknown[:3]) == [tuple(range(len(references())))] * 3
    attack, scorers = Uap(steps=3), [Scorer(Curved())]
    shown, named, other = (
        _perturb(attack, scorers, x, 1, id)[..., :40, :40]
        for x, id in ((references()[:1].float() / 255, ""), (crops[:1], items[0].id), (crops[:1], ""))
    )
    assert torch.allclose(shown, named, atol=1e-6)
    assert not torch.allclose(shown, other, atol=1e-6)


def test_admix_asks_for_what_is_not_the_attacked_image(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def recorded(x: Tensor, ids: Sequence[str]) -> list[tuple[int, ...]]:
        asked.append(tuple(ids))
        return others(x, ids)

    monkeypatch.setattr("iqarena_attacks.admix.others", recorded)
    x = torch.rand(1, 3, 40, 40)
    Admix(steps=1, samples=1, scales=1).perturb(x, _source([Scorer(Curved())], x), Streams(["bridge"], "admix"))
    assert asked == [("bridge",)]


def test_a_forecast_is_told_how_large_the_images_are_that_it_trains_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    real = Scorer.value_and_gradient

    def recorded(scorer: Scorer, x: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(tuple(x.shape[-2:]))
        return real(scorer, x)

    monkeypatch.setattr(Scorer, "value_and_gradient", recorded)
    _perturb(Uap(steps=2), [Scorer(Curved())], images(range(1), (64, 48)).float() / 255, 1)
    assert set(seen) == {Uap.trains_on}
