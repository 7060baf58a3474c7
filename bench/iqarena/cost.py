"""What a suite costs, before it runs; and what a run costs beyond its model evaluations."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from operator import mul
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

from iqarena.api import Attack, ImageError
from iqarena.manifest import build_manifest, finish
from iqarena.plan import Plan
from iqarena.registry import build_attack
from iqarena.report import derive
from iqarena.runner import Options, cores, run_plan, shard_items, single_threaded
from iqarena.scorer import Scorer
from iqarena.seeding import Streams
from iqarena.source import Source
from iqarena.store import Store


def describe_plan(plan: Plan) -> str:
    """Pairs, model evaluations and the time they take, from a few timed ones per model."""
    items = shard_items(plan)
    times, x = len(items) * plan.suite.repeats, _first_picture(plan)
    gradients, table = plan.gradients(), []
    with single_threaded(True):
        for model in plan.models:
            scorer = Scorer(model)
            each = [_seconds(_evaluation(scorer, x, gradient=kind), 3) for kind in (False, model.differentiable)]
            scored = sum(model in plan.scored(source) for source in plan.sources)
            counts = [3 * scored * len(plan.attacks) * times, gradients.get(repr(model), 0) * times]
            table.append((repr(model), *counts, *(1000 * s for s in each), sum(map(mul, counts, each))))
    pairs = sum(len(plan.scored(source)) for source in plan.sources)
    headers = ["model", "scores ≤", "gradients ≤", "ms a score", "ms a gradient", "seconds ≤"]
    return (
        f"suite {plan.suite.name}: {len(items)} pictures × {len(plan.attacks)} attacks × {pairs} pairs"
        f" × {plan.suite.repeats} repeats = {times * len(plan.attacks) * pairs} rows\n\n"
        f"{tabulate(table, headers=headers, floatfmt='.0f')}\n\n"
        f"at most {sum(row[-1] for row in table) / 60 / cores():.1f} minutes on {cores()} cores of this machine"
    )


def speed_report(plan: Plan) -> str:
    """Run ``plan`` from nothing, then the same number of bare evaluations with the same threads, and compare."""
    loading = _seconds(lambda: [Scorer(model) for model in plan.models], 1)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        started = time.perf_counter()
        scorers = run_plan(plan, store, Options())
        run_seconds = time.perf_counter() - started
        rows = store.rows()
        derive(rows, finish(build_manifest(plan, Options(), "iqarena speed"), rows), store.folder)
        report_seconds = time.perf_counter() - started - run_seconds
    x = _first_picture(plan)
    bare = _bare_loop(scorers, x)
    rows = [
        ("loading models for the first time", loading),
        ("run: crafting, scoring, storing", run_seconds),
        ("the same evaluations in a bare loop", bare),
        ("tables, plots and page", report_seconds),
    ]
    forwards, gradients = (sum(s.evaluated[kind] for s in scorers) for kind in ("forward", "gradient"))
    what = f"{len(shard_items(plan))} pictures, {gradients} gradients, {forwards} scores"
    against = _against_torchattacks(scorers[0], x)
    return (
        f"{tabulate(rows, headers=[what, 'seconds'], floatfmt='.2f')}\n"
        f"share of the run that is not model evaluation: {100 * max(0.0, 1 - bare / run_seconds):.1f} %\n\n"
        f"{tabulate(against, headers=['10 steps, one picture', 'ours s', 'torchattacks s', 'ratio'], floatfmt='.3f')}"
    )


def _first_picture(plan: Plan) -> Tensor:
    """The first picture that can be read, ``(1, 3, H, W)`` in [0, 1]."""
    failure: Exception | None = None
    for item in shard_items(plan):
        try:
            return torch.from_numpy(plan.images.read(item)).permute(2, 0, 1)[None].float() / 255
        except ImageError as error:
            failure = failure or error
    raise failure or ImageError("the image set is empty")


def _bare_loop(scorers: list[Scorer], x: Tensor) -> float:
    """Wall time of every evaluation the run made, on one picture of its size, spread over the run's threads."""
    jobs: list[Callable[[], object]] = []
    for scorer in scorers:
        counts = dict(scorer.evaluated)
        jobs += [_evaluation(scorer, x, gradient=False)] * counts["forward"]
        jobs += [_evaluation(scorer, x, gradient=True)] * counts["gradient"]
    with single_threaded(True), ThreadPoolExecutor(cores()) as pool:
        started = time.perf_counter()
        for _ in pool.map(lambda job: job(), jobs):
            pass
        return time.perf_counter() - started


def _against_torchattacks(scorer: Scorer, x: Tensor) -> list[tuple[str, float, float, float]]:
    """Our attack and torchattacks' through the bridge, in turn, same model and picture; medians of five."""
    theirs_of = {"pgd": "torchattacks.PGD(alpha=2/255)", "mi_fgsm": "torchattacks.MIFGSM"}
    rows = []
    for name, other in theirs_of.items():
        times: list[list[float]] = [[], []]
        for _ in range(5):
            for which, spec in enumerate((name, other)):
                times[which].append(_seconds(lambda spec=spec: _craft(build_attack(spec), scorer, x), 1))
        ours, theirs = (sorted(t)[2] for t in times)
        rows.append((name, ours, theirs, ours / theirs))
    return rows


def _craft(attack: Attack, scorer: Scorer, x: Tensor) -> Tensor:
    streams = Streams(["speed"], repr(attack))
    return attack.perturb(x, x.new_ones(1, 1, 1, 1), Source([scorer], x, streams), streams)


def _evaluation(scorer: Scorer, x: Tensor, *, gradient: bool) -> Callable[[], object]:
    return (lambda: scorer.value_and_gradient(x)) if gradient else (lambda: scorer.score(x))


def _seconds(job: Callable[[], object], times: int) -> float:
    job() if times > 1 else None
    started = time.perf_counter()
    for _ in range(times):
        job()
    return (time.perf_counter() - started) / times
