"""Warm start — a transfer attack's image from which a query attack goes on: what transfer saves in queries.

    x₀ = start(x), crafted on the source;    x' = then(x), its search beginning at x₀ brought into ``then``'s reach

The source never holds the target; the relation is ``query``, because the target's scores are seen. A start that does
not help, as one query tells, is given up for the clean image. ``eps`` caps that of ``then``. The combination is ours.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import Tensor

from iqarena.api import Attack, Source, SpecError, Streams
from iqarena_attacks.query._frame import Queries, Query
from iqarena_attacks.query.score_boundary import ScoreBoundary
from iqarena_attacks.sega import Sega


@dataclass(frozen=True, kw_only=True, repr=False)
class WarmStart(Attack):
    """queries: as in ``then``, which is given these
    start: transfer attack whose image is gone on from
    then: query attack that goes on
    """

    name = "warm_start"
    access = "gradient+score"
    reconstructed = "the combination is ours; so is what its parts say of themselves"

    eps: float = 1.0
    queries: Queries = 8000
    start: Attack = Sega()  # noqa: RUF009 (frozen)
    then: Query = ScoreBoundary()  # noqa: RUF009 (frozen)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start.access != "gradient":
            raise SpecError(f"{self.name}: expected start to take gradients of a source, found {self.start!r}")
        if not isinstance(self.then, Query):
            raise SpecError(f"{self.name}: expected then to be a query attack (square …), found {self.then!r}")
        default = type(self.then).queries
        if self.then.queries not in (default, self.queries):
            then = dataclasses.replace(self.then, queries=default)
            meant = dataclasses.replace(self, queries=self.then.queries, then=then)
            raise SpecError(f"{self.name}: expected no queries in then, which is given those of {self.name},"
                            f" found {self.then.label}; write {meant.label}")  # fmt: skip

    @property
    def stochastic(self) -> bool:
        return True

    @property
    def cost(self) -> int:
        return self.start.cost

    @property
    def min_members(self) -> int:
        return self.start.min_members

    def perturb(self, x: Tensor, source: Source, streams: Streams) -> Tensor:
        begun = self.start.perturb(x, source, streams)
        then = dataclasses.replace(self.then, eps=min(self.eps, self.then.eps), queries=self.queries)
        return then.perturb_from(begun, x, source, streams)
