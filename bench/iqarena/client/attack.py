"""``iqarena.attack``: an attack, bound to its sources, called with images as a caller has them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn

from iqarena import api
from iqarena.api.attack import Policy
from iqarena.api.streams import Streams
from iqarena.client.checks import check_whole
from iqarena.client.inputs import Images, ImagesLike, to_array
from iqarena.client.modes import plain_torch
from iqarena.client.scorer import Scorer, finite, scorer
from iqarena.engine.craft import craft
from iqarena.engine.direction import directions
from iqarena.engine.score_oracle import ScoreOracle
from iqarena.engine.source import Source
from iqarena.errors import AttackError, ImageError, IqarenaError, SpecError, nearest
from iqarena.images.tensors import to_uint8
from iqarena.registry.tables import build_attack
from iqarena.store.keys import foreign
from iqarena.suite.sources import parse_source
from iqarena.worker.batch import clean_sha256
from iqarena.worker.measure import reason

ScorerLike = str | api.Model | Scorer | nn.Module | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Cost:
    """What one call cost, over all its images and sources."""

    images: int = 0
    gradients: int = 0  # backward passes, each with its forward pass
    scores: int = 0  # forward passes of sources without a backward one
    queries: int = 0  # scores of the target
    seconds: float = 0.0  # wall time of crafting, without the clean scores that decide the direction

    def __str__(self) -> str:
        counts = f"{self.gradients} gradients, {self.scores} scores, {self.queries} queries"
        return f"{counts}, {self.seconds:.2f} s"


def attack(
    spec: str | api.Attack,
    sources: ScorerLike | Sequence[ScorerLike] = (),
    *,
    target: ScorerLike | None = None,
    direction: Policy = "mid",
    seed: int = 0,
    device: str | None = None,
) -> BoundAttack:
    """An attack that is called like a function: ``adversarial = attack(images)``.

    ``spec`` is a spec (``"sega(eps=8/255)"``; see ``iqarena list attacks``). ``sources`` are the scorers whose
    gradients it goes by, several being an ensemble: specs, what :func:`iqarena.scorer` made (which knows a module's own
    scale), modules or functions on 0–100. A query attack asks the scores of ``target`` instead, or beside them.

    ``direction`` is ``"raise"``, ``"lower"``, or ``"mid"``: lower an image whose clean score by the sources (for a
    query attack by the target) is above 50, raise any other. ``device`` is where scorers given as specs are loaded.

    Raises :class:`~iqarena.errors.IqarenaError`, in one line: ``SpecError`` for an unknown name (with the nearest), for
    sources or a target that are missing or that the attack does not ask, and for a source without a gradient.
    """
    check_whole("seed", seed, 0)
    built = build_attack(spec) if isinstance(spec, str) else spec
    if direction not in get_args(Policy):
        raise SpecError(f"unknown direction {direction!r}{nearest(str(direction), get_args(Policy))}")
    listed: Iterable[ScorerLike] = sources if isinstance(sources, (list, tuple)) else (sources,)  # pyright: ignore
    scorers = [
        scorer(one, device=device)
        for given in listed
        for one in (parse_source(given).models if isinstance(given, str) else (given,))
    ]
    queried = None if target is None else scorer(target, device=device)
    _check(built, scorers, queried, direction)
    return BoundAttack(built, scorers, queried, direction, seed)


class BoundAttack:
    """Images → adversarial images of the same form; made by :func:`attack`.

    ``attack`` is the plugin, ``sources`` and ``target`` are its scorers, ``cost`` is what the last call cost.
    """

    def __init__(
        self, attack: api.Attack, sources: Sequence[Scorer], target: Scorer | None, direction: Policy, seed: int
    ) -> None:
        self.attack, self.sources, self.target = attack, tuple(sources), target
        self.direction: Policy = direction
        self.seed = seed
        self.cost = Cost()

    @plain_torch()
    def __call__(self, images: ImagesLike, *, ids: Sequence[str] | None = None) -> Any:
        """Adversarial ``images`` in the form they came in (see :mod:`iqarena.client.inputs`; a path gives a PIL image).

        Every image is rounded to 8 bits and lies within ``eps`` of what was given. (A tensor between two levels is
        rounded first, so a budget under one level may leave no 8-bit image within it.)

        Random numbers depend on ``seed``, the attack and the image alone, named by its pixels: the same image gives the
        same result whatever stands beside it. ``ids`` are other names, one an image; with those of an image set the
        result is that of a run with the same seed. Raises ``ImageError`` for what is not an image, ``ScorerError`` for
        scores that are not finite, ``AttackError`` for an attack that breaks its contract.
        """
        given = Images.of(images)
        if ids is not None and len(ids) != len(given.x):
            raise ImageError(f"ids: expected one for each of {len(given.x)} images, found {len(ids)}")
        names = list(ids) if ids is not None else [clean_sha256(to_array(to_uint8(image))) for image in given.x]
        pixels: list[Tensor] = [*given.x]
        cost = Cost()
        for group in given.by_size(self._guides[0].engine.chunk if self._guides else 1):
            x = torch.stack([given.x[i] for i in group])
            with given.named(group):
                crafted, spent = self._craft(to_uint8(x), [names[i] for i in group])
            cost = Cost(*(getattr(cost, name) + getattr(spent, name) for name in Cost.__dataclass_fields__))
            for i, image in zip(group, _within(crafted, x, self.attack.eps), strict=True):
                pixels[i] = image
        self.cost = cost
        return given.images(pixels)

    def __repr__(self) -> str:
        beside = f" asking {self.target.name}" if self.target else ""
        return f"<attack {self.attack.label} from [{', '.join(s.name for s in self.sources)}]{beside}>"

    @property
    def _guides(self) -> tuple[Scorer, ...]:
        """Whose clean score decides the direction."""
        return (self.target,) if self.target else self.sources

    def _craft(self, pixels: Tensor, ids: list[str]) -> tuple[Tensor, Cost]:
        """The sealed call on uint8 images ``(N, 3, H, W)`` of one size; uint8 on the CPU, and what it cost."""
        scorers = [one.engine for one in self._guides]
        if scorers:
            pixels = pixels.to(scorers[0].device)
        x = pixels.float() / 255
        clean = torch.stack([finite(one, x) for one in scorers]).mean(0) if scorers else torch.zeros(len(x))
        sign = torch.from_numpy(directions(self.direction, clean.double().numpy()))
        streams = Streams(ids, self.attack.label, self.seed)
        oracle = None
        if self.target:
            oracle = ScoreOracle(self.target.engine, pixels, clean, eps=self.attack.eps, budget=self.attack.queries)
        members = [one.engine for one in self.sources]
        source = Source(members, x, streams, sign=sign, access=self.attack.access, target=oracle)
        started = time.perf_counter()
        try:
            crafted = craft(self.attack, pixels, x, source, streams)
        except (Exception, SystemExit) as error:  # somebody else's plugin may fail in any way; ours is a bug to be seen
            if isinstance(error, IqarenaError) or not foreign([self.attack]):
                raise
            raise AttackError(f"{self.attack.label}: {reason(error)}") from error
        adversarial = crafted.adversarial.cpu()
        seconds = time.perf_counter() - started
        if not bool(crafted.finite.all()):
            raise AttackError(
                f"{self.attack.name} gave NaN or infinite pixels; mend it, or a source without finite gradients"
            )
        n = len(x)
        queries = int(oracle.queries.sum()) if oracle else 0
        return adversarial, Cost(
            n, n * source.backwards, n * (source.forwards - source.backwards), queries, seconds
        )  # fmt: skip


def _check(attack: api.Attack, sources: Sequence[Scorer], target: Scorer | None, direction: str) -> None:
    by_gradient, by_score = "gradient" in attack.access, "score" in attack.access
    if by_gradient and not sources:
        raise SpecError(f"{attack.label}: expected sources, whose gradients it goes by; for example sources=['cnn']")
    if by_score and target is None:
        raise SpecError(f"{attack.label}: expected a target, whose scores it asks; for example target='cnn'")
    if not by_score and target is not None:
        raise SpecError(f"{attack.label} asks no target; leave it out, and score what it makes with the target")
    if by_score and not by_gradient and sources:
        raise SpecError(f"{attack.label} asks its target alone; leave out sources")
    if direction == "mid" and not sources and not target:
        raise SpecError(f"{attack.label}: direction 'mid' goes by the score of a source; give sources, or 'raise'")
    devices = {str(one.engine.device) for one in (*sources, *([target] if target else []))}
    if len(devices) > 1:
        raise SpecError(
            f"expected all scorers on one device, found {' and '.join(sorted(devices))};"
            " write device=… for iqarena.scorer and iqarena.attack"
        )
    names = [source.engine.model for source in sources]
    for model in names:
        if by_gradient and not model.differentiable:
            raise SpecError(f"{model!r} has no gradient; use it as a target only")
        if names.count(model) > 1:
            raise SpecError(f"sources: {model!r} is listed twice")
    if by_gradient and len(sources) < attack.min_members:
        raise SpecError(
            f"{attack.label} needs a source of at least {attack.min_members} scorers, found {len(sources)}; give more"
        )


def _within(pixels: Tensor, x: Tensor, eps: float) -> Tensor:
    """``pixels`` within ``eps`` of ``x``, whose own values may lie between two levels."""
    low, high = ((x - eps) * 255 - 1e-4).ceil(), ((x + eps) * 255 + 1e-4).floor()
    held = torch.minimum(torch.maximum(pixels.float(), low), high)
    return torch.where(low <= high, held, pixels.float()).clamp(0, 255).to(torch.uint8)
