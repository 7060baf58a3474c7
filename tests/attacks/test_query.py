"""Query attacks against known answers: optima of linear scorers, nearest points of planes, boxes, budgets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from iqarena.api import AttackError, Model, SpecError
from iqarena.api.streams import Streams
from iqarena.engine.craft import Crafted, craft
from iqarena.engine.score_oracle import ScoreOracle
from iqarena.engine.scorer import Scorer
from iqarena.engine.source import Source
from iqarena.images.perception import jnd_map
from iqarena.registry.tables import build_attack, build_model
from iqarena.testing import Curved, Linear, LinearNet, Steep, images

ATTACKS = ["nes(samples=6)", "random_search", "score_boundary", "square", "surfree", "warm_start(start=fgsm)"]
STEEP = Steep(of=Curved())


class Run:
    """A query attack on some images, with what the target was shown."""

    def __init__(
        self, spec: str, target: Model = STEEP, rows: Any = range(4), size: tuple[int, int] = (32, 40), seed: int = 0
    ) -> None:
        self.attack = build_attack(spec)
        self.pixels = images(rows, size)
        self.x = self.pixels.float() / 255
        self.scorer = Scorer(target)
        self.clean = self.scorer.score(self.x)
        self.direction = torch.where(self.clean > 50, -1.0, 1.0)
        self.streams = Streams([f"image {row}" for row in rows], repr(self.attack), seed)
        self.shown: list[Tensor] = []
        self.target = ScoreOracle(
            self, self.pixels, self.clean, eps=self.attack.eps, budget=self.attack.queries  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
        self.source = Source(
            [Scorer(Curved(seed=1))], self.x, self.streams, sign=self.direction, access=self.attack.access,
            target=self.target,
        )  # fmt: skip
        self.crafted: Crafted = craft(self.attack, self.pixels, self.x, self.source, self.streams)
        self.gains = self.direction * (self.scorer.score(self.crafted.adversarial.float() / 255) - self.clean)

    def intact(self) -> bool:
        return self.scorer.intact()

    def score(self, x: Tensor) -> Tensor:
        self.shown.append(x)
        return self.scorer.score(x)


def spec_with(spec: str, **changes: object) -> str:
    text = ", ".join(f"{key}={value}" for key, value in changes.items())
    return f"{spec[:-1]}, {text})" if spec.endswith(")") else f"{spec}({text})"


# ---- budgets, boxes, batches


@pytest.mark.parametrize("queries", [1, 10, 100])
@pytest.mark.parametrize("spec", ATTACKS)
def test_the_budget_is_kept_to_the_query(spec: str, queries: int) -> None:
    run = Run(spec_with(spec, queries=queries))
    shown = sum(len(x) for x in run.shown)
    assert shown == int((run.target.queries - 1).sum())
    assert run.target.queries.max() <= queries
    if spec not in ("nes(samples=6)", "surfree"):  # pairs; the last line may need fewer than are left for it
        assert run.target.queries.tolist() == [queries] * 4
    if queries == 1:
        assert torch.equal(run.crafted.adversarial, run.pixels), "the clean score leads nowhere"
    assert (run.gains >= 0).all(), "an answer is never worse than the clean image"


@pytest.mark.parametrize("spec", ATTACKS)
def test_an_image_has_the_same_result_alone_and_in_a_batch(spec: str) -> None:
    together = Run(spec_with(spec, queries=70), rows=range(4))
    for row in range(4):
        alone = Run(spec_with(spec, queries=70), rows=[row])
        assert torch.equal(alone.crafted.adversarial[0], together.crafted.adversarial[row])
        assert alone.target.queries[0] == together.target.queries[row]
    other = Run(spec_with(spec, queries=70), seed=1)
    assert not torch.equal(other.crafted.adversarial, together.crafted.adversarial)


@pytest.mark.parametrize("spec", ["score_boundary(queries=300)", "warm_start(queries=300)"])
def test_nothing_leaves_the_jnd_box(spec: str) -> None:
    run = Run(spec, rows=range(3), size=(40, 48))
    jnd = np.stack([jnd_map(p.permute(1, 2, 0).contiguous().numpy()) for p in run.pixels])
    limit = torch.from_numpy(0.38 * jnd)[:, None].repeat(1, 3, 1, 1)
    for built in (run.crafted.adversarial, run.crafted.control):
        change = (built.short() - run.pixels.short()).abs()
        assert (change <= limit).all()
        assert change.max() > 0
    assert run.gains.max() > 0
    shown = torch.cat([x for x in run.shown if len(x) == 3])  # lockstep: candidate j is of image j
    levels = shown * 255
    assert len(shown) >= 300
    assert (levels - levels.round()).abs().max() < 1e-3, "queries are 8-bit images"
    assert ((levels.round().view(-1, 3, *levels.shape[1:]) - run.pixels.float()).abs() <= limit).all()


def test_without_jnd_the_box_is_eps() -> None:
    run = Run("score_boundary(jnd=none, eps=5/255, queries=200)")
    change = max(float((x * 255 - run.pixels).abs().max()) for x in run.shown if len(x) == len(run.pixels))
    assert change == pytest.approx(5, abs=1e-3), "the queries reach its sides"
    assert (run.crafted.adversarial.short() - run.pixels.short()).abs().max() <= 5
    both = Run("score_boundary(eps=1/255, queries=100)")
    assert (both.crafted.adversarial.short() - both.pixels.short()).abs().max() <= 1


# ---- targets of all kinds


@pytest.mark.parametrize("spec", ATTACKS)
def test_a_target_whose_backward_raises_can_be_attacked(spec: str) -> None:
    shut = build_model("toy_shut")
    x = images(range(1)).float() / 255
    with pytest.raises(RuntimeError, match="a gradient was asked for"):
        shut.load()(x.requires_grad_()).sum().backward()
    with pytest.raises(AttackError, match="has no gradient"):
        Scorer(shut).value_and_gradient(x.detach())
    run = Run(spec_with(spec, queries=150), shut)
    assert (run.gains > 0).all()


@pytest.mark.parametrize("spec", ATTACKS)
def test_a_constant_target_ends_quickly_and_says_so(spec: str) -> None:
    run = Run(spec_with(spec, queries=8000), build_model("toy_constant"), rows=range(2))
    assert run.target.queries.max() < 210
    assert run.target.no_response.tolist() == [1.0, 1.0]
    assert torch.equal(run.crafted.adversarial, run.pixels)


@pytest.mark.parametrize("spec", ATTACKS)
def test_a_noisy_target_is_attacked_within_the_budget(spec: str) -> None:
    run = Run(spec_with(spec, queries=150), build_model("toy_noisy"))
    assert run.target.queries.max() <= 150
    assert run.crafted.finite.all()
    assert run.target.no_response.max() == 0


def test_an_image_without_room_costs_no_query() -> None:
    run = Run("square(eps=0.5/255, queries=50)")
    assert run.target.queries.tolist() == [1] * 4
    assert torch.equal(run.crafted.adversarial, run.pixels)


# ---- answers on the way


@pytest.mark.parametrize("spec", ["random_search", "square", "nes(samples=6)", "warm_start(start=fgsm, then=square)"])
def test_what_is_kept_never_gets_worse(spec: str) -> None:
    run = Run(spec_with(spec, queries=250))
    stages = dict(run.target.kept(run.crafted.adversarial))
    gains = torch.stack([run.direction * (run.scorer.score(s.float() / 255) - run.clean) for s in stages.values()])
    assert list(stages) == [20, 50, 100, 200]
    assert (gains.diff(dim=0) >= 0).all()
    assert (gains[-1] <= run.gains).all()
    assert (gains[-1] > gains[0]).any()


# ---- optima


@pytest.mark.parametrize(
    ("spec", "share"), [("square(p=0.01, eps=8/255)", 0.7), ("random_search", 0.35), ("nes(samples=100)", 0.45)]
)
def test_queries_lead_towards_the_optimum_of_a_linear_scorer(spec: str, share: float) -> None:
    """``Σ |w| · min(eps, room)`` on images of 16×16; a quarter of the queries reaches less."""
    gained = []
    for queries in (500, 2000):
        run = Run(spec_with(spec, queries=queries), Linear(), rows=range(1), size=(16, 16))
        net = run.scorer.module
        assert isinstance(net, LinearNet)
        w = run.direction.view(-1, 1, 1, 1) * net.weights(run.x)
        best = (w.abs() * torch.where(w > 0, 1 - run.x, run.x).clamp(max=8 / 255)).double().sum((1, 2, 3))
        gained.append(float(run.gains / best))
    assert share < gained[1] <= 1.0001
    assert gained[0] < gained[1]


# ---- warm start


def test_a_warm_start_needs_the_scorers_that_its_start_needs() -> None:
    assert [build_attack(f"warm_start(start={start})").min_members for start in ("fgsm", "sega(sigma=auto)")] == [1, 2]


def test_a_warm_start_goes_on_from_the_transferred_image() -> None:
    """On a target like its source the start is worth many queries."""
    cold = Run("square(eps=8/255, queries=30)", Curved(seed=1))
    warm = Run("warm_start(start=fgsm, then=square(eps=8/255), queries=30)", Curved(seed=1))
    fgsm = Run("warm_start(start=fgsm, then=square(eps=8/255), queries=2)", Curved(seed=1))
    assert (warm.gains > cold.gains).all()
    assert (warm.gains >= fgsm.gains).all()
    assert torch.equal(fgsm.crafted.adversarial, craft_fgsm(fgsm)), "the first query is for the start itself"
    assert (warm.source.forwards, warm.source.backwards) == (1, 1)


def craft_fgsm(run: Run) -> Tensor:
    source = Source([Scorer(Curved(seed=1))], run.x, run.streams, sign=run.direction)
    return craft(build_attack("fgsm"), run.pixels, run.x, source, run.streams).adversarial


def test_a_start_that_does_not_help_is_given_up() -> None:
    class Flipped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 100 - Curved(seed=1).load()(x)

    target = type("Against", (Model,), {"name": "against", "load": lambda self: Flipped()})()
    run = Run("warm_start(start=fgsm, then=square(eps=8/255), queries=2)", target)
    assert torch.equal(run.crafted.adversarial, run.pixels)


def test_parameters_are_checked() -> None:
    for spec in (
        "square(queries=0)", "square(p=0)", "nes(samples=3)", "nes(sigma=0)", "random_search(alpha=0)",
        "surfree(boundary=1)", "score_boundary(jnd=-1)", "score_boundary(rounds=0)", "warm_start(then=fgsm)",
        "warm_start(start=square)", "warm_start(queries=0)",
    ):  # fmt: skip
        with pytest.raises(SpecError, match="expected"):
            build_attack(spec)


@pytest.mark.parametrize("own", ["", "queries=40, "])
def test_a_warm_start_says_how_many_queries_it_has_and_then_says_nothing_else(own: str) -> None:
    then = "random_search(queries=20, alpha=2/255)"
    meant = r"write warm_start\(queries=20, start=fgsm, then=random_search\(alpha=2/255\)\)$"
    with pytest.raises(SpecError, match=meant):
        build_attack(f"warm_start({own}start=fgsm, then={then})")
    assert build_attack(f"warm_start(queries=20, start=fgsm, then={then})").queries == 20, "the same twice"
