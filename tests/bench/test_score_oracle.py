"""The target of a query attack: exact counts, a hard budget, 8-bit queries, answers kept on the way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from iqarena.api import AttackError
from iqarena.engine.budget import round8
from iqarena.engine.score_oracle import ScoreOracle
from iqarena.engine.scorer import Scorer
from iqarena.testing import Curved, images

PIXELS = images()
X = PIXELS.float() / 255
SCORER = Scorer(Curved())


class Recorder:
    """A scorer that remembers what it was shown."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def score(self, x: Tensor) -> Tensor:
        self.seen.append(x.clone())
        return SCORER.score(x)


def target(budget: int = 10, eps: float = 8 / 255, scorer: Any = None) -> ScoreOracle:
    return ScoreOracle(scorer or SCORER, PIXELS, SCORER.score(X), eps=eps, budget=budget)


def test_each_candidate_is_one_query_of_its_image() -> None:
    view = target()
    assert view.queries.tolist() == [1] * 5, "the clean score is the first query"
    scores = view.score(X[[0, 2, 0]], [0, 2, 0])
    assert torch.equal(scores, view.clean[[0, 2, 0]])
    assert scores.dtype == torch.float64
    view.score(X[1:2], [1])
    assert view.queries.tolist() == [3, 2, 2, 1, 1]
    assert view.left.tolist() == [7, 8, 8, 9, 9]


def test_more_than_the_budget_is_refused_and_costs_nothing() -> None:
    for budget in (1, 3, 10):
        recorder = Recorder()
        view = target(budget, scorer=recorder)
        if budget > 1:
            view.score(X[:1].expand(budget - 1, -1, -1, -1), [0] * (budget - 1))
        shown = len(recorder.seen)
        with pytest.raises(AttackError, match=f"expected at most {budget} queries of an image, asked for the"):
            view.score(X[[1, 0]], [1, 0])  # image 1 has queries left when the budget is above 1, image 0 has none
        assert view.queries.tolist() == [budget, 1, 1, 1, 1]
        assert len(recorder.seen) == shown
    with pytest.raises(AttackError, match="an image's number for each of 2 candidates, found 1"):
        target().score(X[:2], [0])


@pytest.mark.parametrize("eps", [8 / 255, 2.6 / 255, 0.0, 1.0])
def test_what_is_scored_is_what_could_be_handed_in(eps: float) -> None:
    recorder = Recorder()
    view = target(eps=eps, scorer=recorder)
    candidates = X + 0.3 * torch.randn(X.shape, generator=torch.Generator().manual_seed(0))
    view.score(candidates[[3, 1]], [3, 1])
    expected = round8(PIXELS[[3, 1]], candidates[[3, 1]], eps)
    assert torch.equal(recorder.seen[0], expected.float() / 255)


def test_an_answer_is_that_of_the_last_query_up_to_the_checkpoint() -> None:
    view, final = target(budget=60), torch.zeros_like(PIXELS)
    assert [at for at, _ in view.kept(final)] == [20, 50]
    for step in range(1, 60):  # query number step + 1 of image 0; two at a time for image 1
        view.answer(0, X[0] + 0.1 * step / 255)
        view.answer(1, X[1] + 0.1 * step / 255)
        view.score(X[[0, 1]], [0, 1]) if step % 2 else view.score(X[:1], [0])
    shifted = {at: round8(PIXELS[:1], X[:1] + 0.1 * at / 255, 8 / 255)[0] for at in (20, 39, 50)}
    after20, after50 = (answers for _, answers in view.kept(final))
    assert view.queries.tolist() == [60, 31, 1, 1, 1]
    assert torch.equal(after20[0], shifted[20]), "what was known when query 21 was asked"
    assert torch.equal(after50[0], shifted[50])
    assert torch.equal(after20[1], round8(PIXELS[1:2], X[1:2] + 3.9 / 255, 8 / 255)[0])
    assert torch.equal(after50[1:], final[1:]), "who asks no more has its final answer"


def test_a_batch_of_candidates_across_a_checkpoint_counts_for_the_later_one() -> None:
    view = target(budget=60)
    view.answer(0, X[0])
    view.score(X[:1].expand(18, -1, -1, -1), [0] * 18)  # 19 so far
    view.answer(0, X[0] + 1 / 255)
    view.score(X[:1].expand(3, -1, -1, -1), [0] * 3)  # 20, 21, 22
    view.answer(0, X[0] + 2 / 255)
    assert torch.equal(dict(view.kept(PIXELS))[20][0], round8(PIXELS[:1], X[:1] + 1 / 255, 8 / 255)[0])


def test_the_share_of_queries_without_response() -> None:
    view = target()
    assert view.no_response.isnan().all()
    view.score(torch.cat([X[:1], X[:1] + 0.03]), [0, 0])
    view.score(X[1:2], [1])
    assert view.no_response.tolist()[:2] == [0.5, 1.0]
