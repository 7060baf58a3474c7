"""Checks of defenses: in front of a scorer, and of purifications alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from iqarena.api import Defense, Model, Purification, RandomPurification
from iqarena.api.streams import Streams
from iqarena.testing.models import check_model
from iqarena.testing.plugins import Check, named, plugin_checks
from iqarena.testing.toys import SIZE, images


def check_defense(defense: Defense, model: Model) -> Iterator[Check]:
    """Named checks of a defense, and of ``model`` behind it as a scorer."""
    yield from plugin_checks("defense", defense)
    yield "defense_is_in_front", partial(_is_in_front, defense, model)
    if isinstance(defense, Purification):
        checks = [_purification_keeps_size_and_box, _purification_ignores_neighbours, _purification_takes_any_size]
        checks += [_purification_gradient_is_right if defense.differentiable else _purification_gradient_goes_through]
        random = isinstance(defense, RandomPurification)
        checks += [_purification_draws_by_pixels_and_seed if random else _purification_draws_nothing]
        yield from named("purification", defense, checks)
    yield from check_model(defense.defend(model))


def _is_in_front(defense: Defense, model: Model) -> None:
    defended = defense.defend(model)
    assert repr(defended) == f"{defense!r}|{model!r}"
    assert defended.defenses == (defense, *model.defenses)
    assert defended.undefended == model.undefended
    if not isinstance(defense, RandomPurification):
        assert not defense.stochastic, "expected a RandomPurification, because it declares stochastic = True"
    elif not defense.stochastic:
        raise AssertionError("a RandomPurification declares stochastic = False")


def _x(rows: Sequence[int] = range(5), size: tuple[int, int] = SIZE) -> Tensor:
    return images(rows, size).float() / 255


def _purify(defense: Purification, x: Tensor, draw: int = 0) -> Tensor:
    return defense.before(nn.Identity()).purify(x, draw)


def _purification_keeps_size_and_box(defense: Purification) -> None:
    x = _x()
    before = x.clone()
    out = _purify(defense, x)
    assert out.shape == x.shape, f"expected shape {tuple(x.shape)}, found {tuple(out.shape)}"
    assert out.dtype == x.dtype, f"expected {x.dtype}, found {out.dtype}"
    assert bool(((out >= 0) & (out <= 1)).all()), f"expected values in [0, 1], found {out.min():.4g} to {out.max():.4g}"
    assert torch.equal(x, before), "the images were changed in place"


def _purification_ignores_neighbours(defense: Purification) -> None:
    x = _x()
    for size in (1, 3):
        parts = torch.cat([_purify(defense, part) for part in x.split(size)])
        assert torch.equal(_purify(defense, x), parts), f"batches of {size} give other images"


def _purification_takes_any_size(defense: Purification) -> None:
    for size in ((33, 47), (16, 17)):
        assert _purify(defense, _x([0], size)).shape[-2:] == size


def _purification_gradient_is_right(defense: Purification) -> None:
    x = (0.1 + 0.8 * torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(0))).double().requires_grad_()
    torch.autograd.gradcheck(lambda z: defense.apply(z, Streams(["a"], "check")), x, fast_mode=True)


def _purification_gradient_goes_through(defense: Purification) -> None:
    """Straight-through: the value is the purified image's, the gradient the identity's, both exactly."""
    x = _x().requires_grad_()
    weights = Streams(["a"] * len(x), "check").normal(x)
    purified = _purify(defense, x)
    assert torch.equal(purified, defense.apply(x.detach(), Streams(["a"] * len(x), "")))
    assert torch.equal(torch.autograd.grad((weights * purified).sum(), x)[0], weights)


def _purification_draws_nothing(defense: Purification) -> None:
    x = _x()
    one, other = (defense.apply(x, Streams([name] * len(x), name)) for name in "ab")
    assert torch.equal(one, other), "other streams gave another result; extend RandomPurification"


def _purification_draws_by_pixels_and_seed(defense: Purification) -> None:
    x = _x().repeat(5, 1, 1, 1) + torch.arange(25).view(-1, 1, 1, 1) / 2550  # each differs from all others
    x = x.clamp(0, 1)
    assert torch.equal(_purify(defense, x), _purify(defense, x)), "the same images gave another result"
    changed = x.clone()
    changed[:, 0, 0, 0] = 1 - changed[:, 0, 0, 0]
    inside = (slice(None), slice(None), slice(8, -8), slice(8, -8))  # out of reach of the changed pixel
    for what, other in (("another pixel", _purify(defense, changed)), ("another draw", _purify(defense, x, 1))):
        assert not torch.equal(_purify(defense, x)[inside], other[inside]), f"{what} changed no draw"
