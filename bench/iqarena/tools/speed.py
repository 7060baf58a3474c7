"""What a run costs beyond its model evaluations."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tabulate import tabulate
from torch import Tensor

from iqarena.api import Attack, Model
from iqarena.api.streams import Streams
from iqarena.engine.scorer import Scorer
from iqarena.engine.source import Source
from iqarena.report import derive
from iqarena.runner.driver import Options, Usage, run_plan, shard_items
from iqarena.runner.manifest import build_manifest, finish
from iqarena.store.folder import Store
from iqarena.suite.plan import Plan
from iqarena.tools.forecast import evaluation, first_image, timed_seconds
from iqarena.worker.threads import cores, single_threaded


def speed_report(plan: Plan, options: Options) -> str:
    """Run ``plan`` from nothing, then the same number of bare evaluations with the same threads, and compare; then its
    gradient attacks one by one, each beside its gradients alone, on the first model and image.
    """
    started = time.perf_counter()
    scorers = {model: Scorer(model) for model in plan.models}
    loading, x = time.perf_counter() - started, first_image(plan)
    with tempfile.TemporaryDirectory() as folder:
        store, started = Store(Path(folder)), time.perf_counter()
        usage = run_plan(plan, store, options)
        run_seconds = time.perf_counter() - started
        counts = {kind: sum(used.evaluated[kind] for used in usage) for kind in ("gradient", "forward")}
        bare = _bare_loop(scorers, usage, x)
        rows = store.rows()
        report_seconds = timed_seconds(
            lambda: derive(rows, finish(build_manifest(plan, options, "iqarena speed"), rows), store.folder), 1
        )
        beside = _side_by_side(plan, Scorer(plan.models[0]), x)
    table = [
        ("loading models for the first time", loading),
        ("run: loading, crafting, scoring, storing", run_seconds),
        ("the same evaluations in a bare loop", bare),
        ("tables, plots and page", report_seconds),
    ]
    what = f"{len(shard_items(plan))} images, {counts['gradient']} gradients, {counts['forward']} scores"
    return (
        f"{tabulate(table, headers=[what, 'seconds'], floatfmt='.2f')}\n"
        f"share of the run that is not model evaluation: {100 * (1 - bare / run_seconds):.1f} %\n\n"
        f"{tabulate(beside, headers=['one image', 'gradients', 'seconds', 'of its gradients'], floatfmt='.3f')}"
    )


def _bare_loop(scorers: dict[Model, Scorer], usage: list[Usage], x: Tensor) -> float:
    """Wall time of every evaluation the run made, on one image of its size, spread over the run's threads."""
    jobs: list[Callable[[], object]] = []
    for used in usage:
        scorer = scorers[used.model]
        jobs += [evaluation(scorer, x, gradient=False)] * used.evaluated["forward"]
        jobs += [evaluation(scorer, x, gradient=True)] * used.evaluated["gradient"]
    with single_threaded(True), ThreadPoolExecutor(cores()) as pool:
        started = time.perf_counter()
        for _ in pool.map(lambda job: job(), jobs):
            pass
        return time.perf_counter() - started


def _side_by_side(plan: Plan, scorer: Scorer, x: Tensor) -> list[tuple[str, int, float, float]]:
    """Label, gradients, seconds and those of its gradients alone of every gradient attack on one image.

    The attacks take turns, so that a machine that slows down slows all of them; medians of five.
    """
    attacks = [attack for attack in plan.attacks if attack.access == "gradient" and attack.min_members == 1]
    jobs: dict[Attack | None, Callable[[], object]] = {a: partial(_craft, a, scorer, x) for a in attacks}
    jobs[None] = evaluation(scorer, x, gradient=True)
    times: dict[Attack | None, list[float]] = {key: [] for key in jobs}
    with single_threaded():
        for _ in range(5):
            for key, job in jobs.items():
                times[key].append(timed_seconds(job, 1))
    seconds = {key: sorted(each)[2] for key, each in times.items()}
    return [(attack.label, attack.cost, seconds[attack], attack.cost * seconds[None]) for attack in attacks]


def _craft(attack: Attack, scorer: Scorer, x: Tensor) -> Tensor:
    streams = Streams(["speed"], attack.label)
    return attack.perturb(x, Source([scorer], x, streams), streams)
