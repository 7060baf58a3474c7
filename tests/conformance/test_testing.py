"""The conformance checks see through plugins that lie: each lie fails the check made for it.

This header cites arXiv 0000.00000, so that an attack defined here is expected to have BibTeX.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from iqarena.api import EXACT, Attack, Filter, Model
from iqarena.api.streams import Streams
from iqarena.registry import tables as registry
from iqarena.testing import Check, CurvedNet, check_attack, check_filter, check_model
from iqarena_attacks._smoothing import Smoothing


@dataclass(frozen=True, kw_only=True, repr=False)
class Honest(Attack):
    name = "honest"
    bibtex = "@misc{nobody0000, title = {Nothing}, year = {0000}}"

    def perturb(self, x: Tensor, source: Any, streams: Streams) -> Tensor:
        return x + self.eps * source.gradient(x).sign()


class HonestWithShare(Honest):
    shared_gradient = EXACT  # pyright: ignore[reportAssignmentType]


class Random(Honest):
    access = "none"
    cost = 0  # pyright: ignore[reportAssignmentType]
    stochastic = True  # pyright: ignore[reportAssignmentType]

    def perturb(self, x: Tensor, source: Any, streams: Streams) -> Tensor:
        return x + self.eps * streams.signs(x)


def attack(perturb: Callable[..., Tensor], base: type[Attack] = Honest, **facts: Any) -> Attack:
    """``base`` with another kernel and other declared facts."""
    return type("Liar", (base,), {"perturb": perturb, "__module__": __name__, **facts})()


def fgsm(self: Attack, x: Tensor, source: Any, streams: Streams) -> Tensor:
    return x + self.eps * source.gradient(x).sign()


def overshooting(self: Attack, x: Tensor, source: Any, streams: Streams) -> Tensor:
    return x + 1.1 * self.eps * source.gradient(x).sign()


def in_place(self: Attack, x: Tensor, source: Any, streams: Streams) -> Tensor:
    return x.add_(self.eps * source.gradient(x).sign())


def double(self: Attack, x: Tensor, source: Any, streams: Streams) -> Tensor:
    return fgsm(self, x, source, streams).double()


def with_graph(self: Attack, x: Tensor, source: Any, streams: Streams) -> Tensor:
    return fgsm(self, x, source, streams).requires_grad_()


def undefined(self: Attack, x: Tensor, source: Any, streams: Streams) -> Tensor:
    return fgsm(self, x, source, streams) + float("nan")


def one_sided(self: Attack, x: Tensor, source: Any, streams: Streams) -> Tensor:
    return x + self.eps * source.sign * source.gradient(x).sign()


def globally_random(self: Attack, x: Tensor, source: Any, streams: Streams) -> Tensor:
    return x + self.eps * torch.rand_like(x) * source.gradient(x).sign()


def batch_scaled(self: Attack, x: Tensor, source: Any, streams: Streams) -> Tensor:
    g = source.gradient(x)
    return x + self.eps * g / g.abs().max()


def alike(self: Attack, x: Tensor, source: Any, streams: Streams) -> Tensor:
    return x + self.eps * Streams(["all"], "").signs(x[:1])


def twice(self: Attack, x: Tensor, source: Any, streams: Streams) -> Tensor:
    z = x + self.eps / 2 * source.gradient(x).sign()
    return z + self.eps / 2 * source.gradient(z).sign()


def blind(self: Attack, x: Tensor, source: Any, streams: Streams) -> Tensor:
    return x + self.eps * source.sign


def in_training(self: Attack, x: Tensor, source: Any, streams: Streams) -> Tensor:
    source._scorers[0].module.train()
    return fgsm(self, x, source, streams)


def retraining(self: Attack, x: Tensor, source: Any, streams: Streams) -> Tensor:
    out = fgsm(self, x, source, streams)
    for parameter in source._scorers[0].module.parameters():
        parameter.mul_(1.01)
    return out


def even_only(self: Attack, x: Tensor, source: Any, streams: Streams) -> Tensor:
    x.view(len(x), 3, x.shape[2] // 2, 2, x.shape[3])
    return fgsm(self, x, source, streams)


def seeded(self: Attack, x: Tensor, source: Any, streams: Streams) -> Tensor:
    return x + self.eps * streams.uniform(x) * source.gradient(x).sign()


@pytest.mark.parametrize(
    ("liar", "caught"),
    [
        (Honest(), set()),
        (HonestWithShare(), set()),
        (Random(), set()),
        (attack(overshooting), {"keeps_the_budget"}),
        (attack(in_place), {"keeps_its_input", "keeps_the_budget", "takes_any_size", "moves_its_source"}),
        (attack(double), {"keeps_its_input"}),
        (attack(with_graph), {"keeps_its_input"}),
        (attack(undefined), {
            "keeps_the_budget", "repeats", "ignores_neighbours", "draws_nothing", "takes_any_size", "moves_its_source",
        }),
        (attack(one_sided), {"moves_its_source"}),
        (attack(globally_random), {"repeats", "ignores_neighbours", "draws_nothing"}),
        (attack(batch_scaled), {"ignores_neighbours"}),
        (attack(seeded), {"draws_nothing"}),
        (attack(fgsm, stochastic=True), {"draws_per_image"}),
        (attack(alike, Random), {"draws_per_image"}),
        (attack(twice), {"costs_what_it_declares"}),
        (attack(twice, HonestWithShare), {"costs_what_it_declares", "shares_its_gradient"}),
        (attack(fgsm, shared_gradient=Smoothing(8 / 255, 1)), {"shares_its_gradient"}),
        (attack(fgsm, Random), {
            "keeps_its_input", "keeps_the_budget", "repeats", "ignores_neighbours", "draws_per_image",
            "leaves_the_scorer_alone", "costs_what_it_declares", "takes_any_size",
        }),
        (attack(blind), {"costs_what_it_declares", "needs_its_access"}),
        (attack(in_training), {"leaves_the_scorer_alone"}),
        (
            attack(retraining),
            {"leaves_the_scorer_alone", "keeps_the_budget", "moves_its_source", "takes_any_size"},
        ),
        (attack(even_only), {"takes_any_size"}),
        (attack(fgsm, bibtex=""), {"cites"}),
        (attack(fgsm, bibtex="@misc{x, title = {A}}"), {"cites"}),
        (attack(fgsm, version=0), {"is_a_value"}),
    ],
    ids=lambda value: value.perturb.__name__ if isinstance(value, Attack) else "",
)  # fmt: skip
def test_an_attack_that_lies_is_caught(liar: Attack, caught: set[str]) -> None:
    assert failed(check_attack(liar)) == {f"attack_{name}" for name in caught}


def test_an_attack_on_scores_is_held_to_its_queries() -> None:
    def search(self: Attack, x: Tensor, source: Any, streams: Streams) -> Tensor:
        """The better of the two constant shifts."""
        up, down = (x + sign * self.eps for sign in (1, -1))
        better = source.target.score(up, range(len(x))) > source.target.score(down, range(len(x)))
        return torch.where((better.view(-1, 1, 1, 1) == (source.sign > 0)), up, down)

    def twin(self: Attack, x: Tensor, source: Any, streams: Streams) -> Tensor:
        """Asks a scorer behind the back of the counted target."""
        source.target._scorer.score(x)
        source.target.queries += 1
        return search(self, x, source, streams)

    facts: dict[str, Any] = {"access": "score", "cost": 0}
    assert failed(check_attack(attack(search, queries=3, **facts))) == set()
    refused = failed(check_attack(attack(search, queries=2, **facts)))
    assert {"attack_keeps_its_queries", "attack_repeats", "attack_moves_its_source"} <= refused
    assert failed(check_attack(attack(twin, queries=4, **facts))) == {"attack_keeps_its_queries"}
    assert "attack_keeps_its_queries" in failed(check_attack(attack(search, **facts)))
    assert failed(check_attack(attack(search, queries=3, access="score", cost=1))) == {"attack_costs_what_it_declares"}
    assert "attack_needs_its_access" in failed(check_attack(attack(blind, queries=2, **facts)))


@dataclass(frozen=True, kw_only=True, repr=False)
class Positive(Filter):
    name = "positive"

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        return t * (x > 0.5)


def mask(call: Callable[..., Tensor], **facts: Any) -> Filter:
    return type("Liar", (Positive,), {"__call__": call, "__module__": __name__, **facts})()


@pytest.mark.parametrize(
    ("liar", "caught"),
    [
        (Positive(), set()),
        (mask(lambda self, t, x, s: 1.01 * t), {"adds_nothing"}),
        (mask(lambda self, t, x, s: t.abs()), {"is_odd"}),
        (mask(lambda self, t, x, s: t * (t.abs() > t.abs().mean())), {"ignores_neighbours"}),
        (mask(lambda self, t, x, s: t[..., :8, :8]), {"keeps_its_input", "takes_any_size"}),
        (mask(lambda self, t, x, s: t.double()), {"keeps_its_input"}),
        (mask(lambda self, t, x, s: t * (s.uniform(t) < 0.5)), {"draws_nothing"}),
        (mask(lambda self, t, x, s: t, stochastic=True), {"draws_per_image"}),
        (mask(lambda self, t, x, s: t * (torch.rand_like(t) < 0.5)), {
            "is_odd", "repeats", "ignores_neighbours", "draws_nothing",
        }),
        (mask(lambda self, t, x, s: t.reshape(len(t), 3, -1, 2).clone().reshape(t.shape)), {"takes_any_size"}),
    ],
)  # fmt: skip
def test_a_filter_that_lies_is_caught(liar: Filter, caught: set[str]) -> None:
    assert failed(check_filter(liar)) == {f"filter_{name}" for name in caught}


def test_a_filter_that_writes_into_its_input_is_caught() -> None:
    assert "filter_keeps_its_input" in failed(check_filter(mask(lambda self, t, x, s: t.mul_(0.5))))
    assert "filter_keeps_its_input" in failed(check_filter(mask(lambda self, t, x, s: t * x.zero_())))


@dataclass(frozen=True, kw_only=True, repr=False)
class Fine(Model):
    name = "fine"
    min_size = 16

    def load(self) -> nn.Module:
        return CurvedNet(0)


class Scaled(CurvedNet):
    def forward(self, x: Tensor) -> Tensor:
        return 1000 * super().forward(x)


class Unit(CurvedNet):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 100


class Constant(CurvedNet):
    def forward(self, x: Tensor) -> Tensor:
        return 50 + 0 * super().forward(x)


class Counting(CurvedNet):
    """Another score at every call."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) + 0.01 * self.calls


class BatchNormed(CurvedNet):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean((0, 2, 3), keepdim=True) * (len(x) > 1))


class Learning(CurvedNet):
    def forward(self, x: Tensor) -> Tensor:
        self.last.data.add_(0.0001)
        return super().forward(x)


class HalfDetached(CurvedNet):
    """A part of the path to the score hidden from the gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 20 * x.detach().mean((1, 2, 3))


class Wrong(CurvedNet):
    """Straight through a rounding of the image: the gradient is that of another function."""

    def forward(self, x: Tensor) -> Tensor:
        coarse = (4 * x).round() / 4
        return super().forward(x + (coarse - x).detach())


def model(net: type[nn.Module], **facts: Any) -> Model:
    return type(net.__name__, (Fine,), {"load": lambda self: net(0), "__module__": __name__, **facts})()


@pytest.mark.parametrize(
    ("liar", "caught"),
    [
        (Fine(), set()),
        (model(CurvedNet, differentiable=False), set()),
        (model(Scaled), {"scores"}),  # the slope that single precision cannot resolve is right in double
        (model(Unit), {"scores"}),
        (model(Constant), {"scores", "gradient_is_right"}),
        (model(Counting), {"repeats", "ignores_neighbours", "gradient_is_right"}),
        (model(BatchNormed), {"ignores_neighbours"}),
        (
            model(Learning),
            {
                "repeats",
                "stays_frozen",
                "ignores_neighbours",
                "gradient_is_right",
                "scores",
                "draws_nothing",
                "takes_any_size",
            },
        ),
        (model(HalfDetached), {"gradient_is_right"}),
        (model(Wrong), {"gradient_is_right"}),
        (model(CurvedNet, facts={"set": {1}}), {"states_facts"}),
        (model(CurvedNet, weights_sha256="123"), {"states_facts"}),
        (model(CurvedNet, load=lambda self: CurvedNet(int(torch.randint(1000, ())))), {"loads_the_same", "repeats"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_model_that_lies_is_caught(liar: Model, caught: set[str]) -> None:
    assert failed(check_model(liar)) == {f"model_{name}" for name in caught}


def test_the_checks_need_three_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_from_files", {kind: dict(table) for kind, table in registry._from_files.items()})
    (tmp_path / "mine.py").write_text(PLUGIN)
    registry.add_file(tmp_path / "mine.py")
    checks = list(check_attack(registry.build_attack("mine(weight=0.25)")))
    assert checks[0][0] == "attack_spec_leads_back"
    for _, check in checks:
        check()


PLUGIN = """
from dataclasses import dataclass

from iqarena.api import Attack


@dataclass(frozen=True, kw_only=True, repr=False)
class Mine(Attack):
    name = "mine"

    weight: float = 0.5

    def perturb(self, x, source, streams):
        return x + self.weight * self.eps * source.gradient(x).sign()
"""


def failed(checks: Iterable[Check]) -> set[str]:
    """Names of the failing checks, but for the one that needs the registry (these plugins are not in it)."""
    names = set()
    for name, check in checks:
        if name.endswith("_spec_leads_back"):
            continue
        try:
            check()
        except Exception:  # whatever the plugin does
            names.add(name)
    return names
