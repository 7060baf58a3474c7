"""Checks of every plugin, and what the checks of several kinds share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from iqarena.api import Plugin
from iqarena.engine.scorer import Scorer
from iqarena.registry.tables import build
from iqarena.testing.toys import ROWS

Check = tuple[str, Callable[[], None]]


def plugin_checks(kind: str, plugin: Plugin) -> Iterator[Check]:
    yield f"{kind}_spec_leads_back", partial(_spec_leads_back, kind, plugin)
    yield f"{kind}_is_a_value", partial(_is_a_value, plugin)


def named(kind: str, plugin: Any, checks: Sequence[Callable[[Any], None]]) -> Iterator[Check]:
    for check in checks:
        yield check.__name__.lstrip("_"), partial(check, plugin)


def _spec_leads_back(kind: str, plugin: Plugin) -> None:
    for text in (repr(plugin), plugin.label):
        built = build(kind, text)
        assert built == plugin, f"{text} builds {built!r}, expected {plugin!r}"


def _is_a_value(plugin: Plugin) -> None:
    assert hash(plugin) == hash(dataclasses.replace(plugin)), "equal plugins must have equal hashes"
    assert plugin.version >= 1, f"expected version ≥ 1, found {plugin.version}"
    assert type(plugin).__dataclass_params__.frozen, "expected @dataclass(frozen=True)"  # pyright: ignore[reportAttributeAccessIssue]


def other_draws(trial: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    yield "image id", trial(ids="other")
    yield "seed", trial(seed=1)
    yield "repeat", trial(repeat=1)


def parts(size: int) -> Iterator[range]:
    for start in range(0, len(ROWS), size):
        yield ROWS[start : start + size]


def state(scorer: Scorer) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in scorer.module.state_dict().items()}


def assert_frozen(scorer: Scorer, before: dict[str, Tensor]) -> None:
    module = scorer.module
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key]), f"the weights {key} were changed"
    assert not any(part.training for part in module.modules()), "the scorer was left in training mode"
    assert all(p.grad is None and not p.requires_grad for p in module.parameters()), "weights have collected gradients"
