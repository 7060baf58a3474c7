"""What a suite costs, before it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from operator import mul

import torch
from tabulate import tabulate
from torch import Tensor

from iqarena.api import CHECKPOINTS, ImageError, IqarenaError, Model
from iqarena.engine.scorer import CUDA_BATCH, Scorer
from iqarena.files.weights import no_downloads
from iqarena.images.sets.database import Database
from iqarena.runner.driver import shard_items
from iqarena.suite.plan import Plan
from iqarena.worker.threads import cores, single_threaded

USUAL = (500, 500)  # pixels, for timing a database whose images differ in size and are not here


def describe_plan(plan: Plan, device: str = "cpu") -> str:
    """Pairs, model evaluations and the time they take on ``device``, from a few timed ones per model.

    What is missing (a database, weights) is named; the images are then counted as published.
    """
    missing: list[str] = []
    count, x = _images(plan, missing)
    times = count * plan.suite.repeats
    gradients, table = plan.gradients(), []
    with single_threaded(device == "cpu"), no_downloads():
        for model in plan.models:
            counts = [_scores(plan, model) * times, gradients.get(repr(model), 0) * times]
            try:
                each = _timed(model, x, device)
                table.append((repr(model), *counts, *(1000 * s for s in each), sum(map(mul, counts, each))))
            except (IqarenaError, ImportError) as error:
                missing.append(f"{model!r}: {error}")
                table.append((repr(model), *counts, None, None, None))
    pairs = len({(source, target) for _, source, target in plan.results()})
    headers = ["model", "scores ≤", "gradients ≤", "ms a score", "ms a gradient", "seconds ≤"]
    seconds, at_once = [row[-1] for row in table if row[-1] is not None], cores() if device == "cpu" else 1
    where = f"{at_once} cores of this machine" if device == "cpu" else torch.cuda.get_device_name(device)
    timed = f" for {len(seconds)} of {len(table)} models" if len(seconds) < len(table) else ""
    total = f"at most {_duration(sum(seconds) / at_once)}{timed} on {where}"
    lines = [
        f"suite {plan.suite.name}: {count} images × {len(plan.attacks)} attacks × {pairs} pairs"
        f" × {plan.suite.repeats} repeats = {times * len(plan.results())} rows",
        f"images {plan.images!r}, timed on one of {x.shape[-1]}×{x.shape[-2]}\n",
        tabulate(table, headers=headers, floatfmt=".0f", missingval="?"),
        f"\n{total if seconds else 'no model is here to be timed'}",
        *(f"missing: {line}" for line in missing),
        *(
            f"{model!r}: only relatives attack it, so that it is on no held-out board"
            for model in plan.without_strangers
        ),
    ]
    return "\n".join(lines)


def _scores(plan: Plan, model: Model) -> int:
    """Scores that ``model`` as a target gives per image: of what is stored, and of what query attacks ask."""
    met = [attack for attack, _, target in plan.results() if target == model]
    return sum(4 + attack.queries + 2 * sum(at <= attack.queries for at in CHECKPOINTS) for attack in met)


def _images(plan: Plan, missing: list[str]) -> tuple[int, Tensor]:
    """How many images there are and the first one; grey ones, as published, for a database that is not here."""
    try:
        return len(shard_items(plan)), first_image(plan)
    except ImageError as error:
        if not isinstance(plan.images, Database):
            raise
        missing.append(str(error))
    count = min(plan.images.published, plan.suite.limit or plan.images.published)
    width, height = (plan.images.crop,) * 2 if plan.images.crop else plan.images.size or USUAL
    return count, torch.full((1, 3, height, width), 0.5)


def _timed(model: Model, x: Tensor, device: str) -> tuple[float, float]:
    """Seconds that a score and a gradient take per image; 0 for a gradient that there is not."""
    scorer = Scorer(model, device)
    batch = x if device == "cpu" else x.expand(CUDA_BATCH, -1, -1, -1)
    score, gradient = (
        timed_seconds(evaluation(scorer, batch, gradient=kind), 3) for kind in (False, model.differentiable)
    )
    return score / len(batch), gradient / len(batch)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} hours"


def first_image(plan: Plan) -> Tensor:
    """The first image that can be read, ``(1, 3, H, W)`` in [0, 1]."""
    failure: Exception | None = None
    for item in shard_items(plan):
        try:
            return torch.from_numpy(plan.images.read(item)).permute(2, 0, 1)[None].float() / 255
        except ImageError as error:
            failure = failure or error
    raise failure or ImageError("the image set is empty")


def evaluation(scorer: Scorer, x: Tensor, *, gradient: bool) -> Callable[[], object]:
    """A job that has ended when it returns, on a GPU too."""
    return (lambda: scorer.value_and_gradient(x)[0].cpu()) if gradient else (lambda: scorer.score(x).cpu())


def timed_seconds(job: Callable[[], object], times: int) -> float:
    job() if times > 1 else None
    started = time.perf_counter()
    for _ in range(times):
        job()
    return (time.perf_counter() - started) / times
