"""How a source and a target stand to each other; a report needs no more of a suite than this."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

Relation = Literal[
    "whitebox", "same_scorer", "same_backbone", "transfer", "ensemble_holdout", "ensemble_member", "query"
]
HELD_OUT = ("transfer", "ensemble_holdout")  # the attack never saw the target, nor a network that it contains
RELATED = ("same_scorer", "same_backbone")


def only_relatives(relations: Collection[str]) -> bool:
    """Whether sources in these relations to a target share networks with it, and none is a stranger."""
    return "same_backbone" in relations and set(relations).isdisjoint(HELD_OUT)
