"""Checks of attacks, on toy scorers."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from iqarena.api import Attack, AttackError, Model
from iqarena.api.streams import Streams
from iqarena.engine.craft import Crafted, craft
from iqarena.engine.score_oracle import ScoreOracle
from iqarena.engine.scorer import Scorer
from iqarena.engine.source import Source
from iqarena.testing.plugins import Check, assert_frozen, named, other_draws, parts, plugin_checks, state
from iqarena.testing.toys import ROWS, SIZE, Curved, Linear, Steep, images

QUERIES = 40
LESSER = {"gradient": ("score", "none"), "score": ("none",), "gradient+score": ("gradient", "score", "none")}


def check_attack(attack: Attack) -> Iterator[Check]:
    """Named checks of an attack with its parameters; each takes milliseconds for a cheap kernel.

    One that asks for more than ``QUERIES`` scores, and has that number as a parameter, is checked with ``QUERIES``.
    """
    yield from plugin_checks("attack", attack)
    if attack.queries > QUERIES and "queries" in {field.name for field in dataclasses.fields(attack)}:
        attack = dataclasses.replace(attack, queries=QUERIES)
    checks = [_attack_keeps_its_input, _attack_keeps_the_budget, _attack_repeats, _attack_ignores_neighbours]
    checks += [_attack_draws_per_image if attack.stochastic else _attack_draws_nothing]
    checks += [_attack_leaves_the_scorer_alone, _attack_costs_what_it_declares, _attack_takes_any_size]
    if "score" in attack.access:
        checks += [_attack_keeps_its_queries]
    if attack.access != "none":
        checks += [_attack_moves_its_source, _attack_needs_its_access]
        if re.search("arxiv|doi", sys.modules[type(attack).__module__].__doc__ or "", re.IGNORECASE):
            checks += [_attack_cites]
    if attack.shared_gradient is not None:
        checks += [_attack_shares_its_gradient]
    yield from named("attack", attack, checks)


class _Trial:
    """One attack about to run on some images; half of them are to be raised, half lowered."""

    def __init__(
        self,
        attack: Attack,
        rows: Sequence[int] = ROWS,
        *,
        size: tuple[int, int] = SIZE,
        models: Sequence[Model] = (),
        target: Model = Steep(of=Curved()),  # noqa: B008 (frozen)
        ids: str = "picture",
        seed: int = 0,
        repeat: int = 0,
        access: Any = None,
    ) -> None:
        self.attack = attack
        self.images = images(rows, size)
        self.x = self.images.float() / 255
        self.sign = torch.tensor([1.0 - 2 * (row % 2) for row in rows])
        self.streams = Streams([f"{ids} {row}" for row in rows], repr(attack), seed, repeat)
        self.scorers = [Scorer(model) for model in models or [Curved(seed=i) for i in range(attack.min_members)]]
        self.memo: dict[Any, Any] = {}
        self.target = ScoreOracle(
            Scorer(target), self.images, Scorer(target).score(self.x), eps=attack.eps, budget=attack.queries
        )
        self.source = Source(
            self.scorers, self.x, self.streams, sign=self.sign, access=access or attack.access, memo=self.memo,
            target=self.target,
        )  # fmt: skip

    def perturb(self) -> Tensor:
        return self.attack.perturb(self.x, self.source, self.streams)

    def craft(self) -> Crafted:
        return craft(self.attack, self.images, self.x, self.source, self.streams)


def _attack_keeps_its_input(attack: Attack) -> None:
    trial = _Trial(attack)
    before, sign = trial.x.clone(), trial.source.sign.clone()
    out = trial.perturb()
    assert out.shape == before.shape, f"expected shape {tuple(before.shape)}, found {tuple(out.shape)}"
    assert out.dtype == before.dtype, f"expected {before.dtype}, found {out.dtype}"
    assert out.device == before.device, f"expected a tensor on {before.device}, found one on {out.device}"
    assert not out.requires_grad, "a graph is attached to the result; detach it"
    assert torch.equal(trial.x, before), "the clean images were changed in place"
    assert torch.equal(trial.source.sign, sign), "the sign of the source was changed in place"


def _attack_keeps_the_budget(attack: Attack) -> None:
    for eps in (attack.eps, 2.6 / 255):
        trial = _Trial(dataclasses.replace(attack, eps=eps))
        out = trial.perturb().detach()
        assert out.isfinite().all(), "NaN or infinite pixels"
        used = float((out.clamp(0, 1) - trial.x).abs().max())
        assert used <= eps + 1e-6, f"used {255 * used:.3f}/255 of a budget of {255 * eps:.3f}/255"  # 1e-6: float32
        crafted, clean = _Trial(trial.attack).craft(), trial.images.short()
        for pixels in (crafted.adversarial, crafted.control):
            assert pixels.dtype == torch.uint8
            levels = int((pixels.short() - clean).abs().max())
            assert levels <= 255 * eps + 1e-6, f"{levels} grey levels after rounding, budget {255 * eps:.3f}"


def _attack_repeats(attack: Attack) -> None:
    assert torch.equal(_Trial(attack).perturb(), _Trial(attack).perturb()), "the same seed gave another result"


def _attack_draws_per_image(attack: Attack) -> None:
    first = _Trial(attack).perturb()
    for what, other in other_draws(partial(_Trial, attack)):
        same = [row for row, a, b in zip(ROWS, first, other.perturb(), strict=True) if torch.equal(a, b)]
        assert not same, f"another {what} changed nothing for images {same} of an attack declared stochastic"


def _attack_draws_nothing(attack: Attack) -> None:
    first = _Trial(attack).perturb()
    for what, other in other_draws(partial(_Trial, attack)):
        assert torch.equal(first, other.perturb()), f"another {what} gave another result; declare it stochastic"


def _attack_ignores_neighbours(attack: Attack) -> None:
    together = _Trial(attack).perturb()
    for size in (1, 3):
        split = torch.cat([_Trial(attack, rows).perturb() for rows in parts(size)])
        assert torch.equal(together, split), f"batches of {size} give other pixels than one batch of {len(ROWS)}"


def _attack_leaves_the_scorer_alone(attack: Attack) -> None:
    trial = _Trial(attack)
    states = [state(scorer) for scorer in trial.scorers]
    trial.perturb()
    for scorer, before in zip(trial.scorers, states, strict=True):
        assert_frozen(scorer, before)


def _attack_costs_what_it_declares(attack: Attack) -> None:
    for models in ((), (Curved(seed=1), Linear())):
        trial = _Trial(attack, models=models)
        trial.perturb()
        source, expected = trial.source, attack.cost * len(trial.scorers)
        assert source.backwards == expected, f"declared {expected} gradients, counted {source.backwards}"
        assert source.forwards >= expected, f"declared {expected} forwards, counted {source.forwards}"
        assert source.forwards == 0 or "gradient" in attack.access


def _attack_keeps_its_queries(attack: Attack) -> None:
    """Declared, counted by the harness and really scored are the same; fewer queries are kept to as well."""
    assert attack.queries > 0, "asks for scores of the target: declare queries"
    parameter = "queries" in {field.name for field in dataclasses.fields(attack)}
    for queries in (1, 2, 10, attack.queries) if parameter else (attack.queries,):
        trial = _Trial(dataclasses.replace(attack, queries=queries) if parameter else attack)
        scored = [0] * len(ROWS)
        trial.target.score = _counting(trial.target.score, scored)
        trial.perturb()
        counted = (trial.target.queries - 1).tolist()
        assert counted == scored, f"counted {counted} queries beside the clean ones, scored {scored}"
        assert max(counted) < queries, f"declared {queries} queries, the clean one included, asked {max(counted)} more"


def _counting(score: Callable[..., Tensor], scored: list[int]) -> Callable[..., Tensor]:
    def counted(x: Tensor, whose: Sequence[int]) -> Tensor:
        scores = score(x, whose)
        for i in whose:
            scored[i] += 1
        return scores

    return counted


def _attack_takes_any_size(attack: Attack) -> None:
    for size in ((33, 47), (16, 16)):
        trial = _Trial(attack, [0], size=size)
        crafted = trial.craft()
        assert bool(crafted.finite.all()), f"NaN or infinite pixels for one image of {size}"


def _attack_moves_its_source(attack: Attack) -> None:
    if attack.eps == 0:
        attack = dataclasses.replace(attack, eps=8 / 255)
    for model in (Steep(), Steep(of=Curved())) if attack.queries else (Linear(), Curved()):
        trial = _Trial(attack, models=[model] * attack.min_members, target=model)
        adversarial = trial.craft().adversarial.float() / 255
        gain = trial.sign * (trial.scorers[0].score(adversarial) - trial.scorers[0].score(trial.x))
        assert bool((gain > 0).all()), (
            f"gains in the wanted direction on {model!r}: {gain.tolist()}, expected all above 0"
        )


def _attack_needs_its_access(attack: Attack) -> None:
    for lesser in LESSER[attack.access]:
        try:
            _Trial(attack, access=lesser).perturb()
        except AttackError:
            continue
        raise AssertionError(f"declares access = {attack.access!r}, but {lesser!r} was enough")


def _attack_cites(attack: Attack) -> None:
    text = attack.bibtex.strip()
    assert re.fullmatch(r"@\w+\{\w+,.*\}", text, re.DOTALL), (
        f"the module cites a paper: expected bibtex, found {text!r}"
    )
    assert text.count("{") == text.count("}"), "unbalanced braces in bibtex"
    assert "title" in text, "expected a title in bibtex"
    assert "year" in text, "expected a year in bibtex"


def _attack_shares_its_gradient(attack: Attack) -> None:
    shared = attack.shared_gradient
    assert shared is not None
    expected = _Trial(attack).perturb()
    trial = _Trial(attack)
    trial.source.gradient(trial.x, shared)
    cost = trial.source.backwards // len(trial.scorers)
    assert cost == attack.cost, f"declares a shared estimate of {cost} gradients and a cost of {attack.cost}"
    evaluated = trial.scorers[0].evaluated["gradient"]
    assert torch.equal(trial.perturb(), expected), "a shared gradient gave another result"
    assert trial.scorers[0].evaluated["gradient"] == evaluated, f"evaluated more than the declared {shared}"
