"""Checks of filters, on random gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from iqarena.api import Filter
from iqarena.api.streams import Streams
from iqarena.testing.plugins import Check, named, other_draws, parts, plugin_checks
from iqarena.testing.toys import ROWS, SIZE, images


def check_filter(filter: Filter) -> Iterator[Check]:
    """Named checks of a filter with its parameters."""
    yield from plugin_checks("filter", filter)
    checks = [
        _filter_keeps_its_input,
        _filter_adds_nothing,
        _filter_is_odd,
        _filter_repeats,
        _filter_ignores_neighbours,
    ]
    checks += [_filter_draws_per_image if filter.stochastic else _filter_draws_nothing, _filter_takes_any_size]
    yield from named("filter", filter, checks)


def _apply(
    filter: Filter, rows: Sequence[int] = ROWS, *, size: tuple[int, int] = SIZE, ids: str = "image", scale: float = 1,
    seed: int = 0, repeat: int = 0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """A random ``t`` and what the filter makes of it."""
    x = images(rows, size).float() / 255
    t = scale * Streams([f"t {row}" for row in rows], "t").normal(x)
    copies = t.clone(), x.clone()
    out = filter(t, x, Streams([f"{ids} {row}" for row in rows], "filter", seed, repeat))
    assert torch.equal(t, copies[0]), "t was changed in place"
    assert torch.equal(x, copies[1]), "x was changed in place"
    return t, out


def _filter_keeps_its_input(filter: Filter) -> None:
    t, out = _apply(filter)
    assert out.shape == t.shape, f"expected shape {tuple(t.shape)}, found {tuple(out.shape)}"
    assert out.dtype == t.dtype, f"expected {t.dtype}, found {out.dtype}"
    assert out.isfinite().all(), "NaN or infinite values"


def _filter_adds_nothing(filter: Filter) -> None:
    t, out = _apply(filter)
    grown = out.flatten(1).norm(dim=1) / t.flatten(1).norm(dim=1)
    assert float(grown.max()) <= 1 + 1e-5, f"the filtered t has {float(grown.max()):.4f} times the norm of t"


def _filter_is_odd(filter: Filter) -> None:
    assert torch.equal(_apply(filter, scale=-1)[1], -_apply(filter)[1]), "expected filter(-t) = -filter(t)"


def _filter_repeats(filter: Filter) -> None:
    assert torch.equal(_apply(filter)[1], _apply(filter)[1]), "the same streams gave another result"


def _filter_ignores_neighbours(filter: Filter) -> None:
    together = _apply(filter)[1]
    for size in (1, 3):
        split = torch.cat([_apply(filter, rows)[1] for rows in parts(size)])
        assert torch.equal(together, split), f"batches of {size} give other values than one batch of {len(ROWS)}"


def _filter_draws_per_image(filter: Filter) -> None:
    first = _apply(filter)[1]
    for what, (_, other) in other_draws(partial(_apply, filter)):
        same = [row for row, a, b in zip(ROWS, first, other, strict=True) if torch.equal(a, b)]
        assert not same, f"another {what} changed nothing for images {same} of a filter declared stochastic"


def _filter_draws_nothing(filter: Filter) -> None:
    first = _apply(filter)[1]
    for what, (_, other) in other_draws(partial(_apply, filter)):
        assert torch.equal(first, other), f"another {what} gave another result; declare it stochastic"


def _filter_takes_any_size(filter: Filter) -> None:
    for size in ((33, 47), (8, 9)):
        t, out = _apply(filter, [0], size=size)
        assert out.shape == t.shape, f"expected shape {tuple(t.shape)}, found {tuple(out.shape)}"
