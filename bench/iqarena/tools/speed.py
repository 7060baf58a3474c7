"""What a run costs beyond its model evaluations."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tabulate import tabulate
from torch import Tensor

from iqarena.api import Attack
from iqarena.api.streams import Streams
from iqarena.engine.scorer import Scorer
from iqarena.engine.source import Source
from iqarena.report import derive
from iqarena.runner.driver import Options, run_plan, shard_items
from iqarena.runner.manifest import build_manifest, finish
from iqarena.store.folder import Store
from iqarena.suite.plan import Plan
from iqarena.tools.forecast import evaluation, first_image, timed_seconds
from iqarena.worker.threads import single_threaded


def speed_report(plan: Plan, options: Options) -> str:
    """Run ``plan`` from nothing and say how much of its workers' time went into model evaluations; then its gradient
    attacks one by one, each beside its gradients alone, on the first model and image.
    """
    started = time.perf_counter()
    first, *_ = [Scorer(model) for model in plan.models]
    loading = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        store, started = Store(Path(folder)), time.perf_counter()
        usage = run_plan(plan, store, options)
        run_seconds = time.perf_counter() - started
        evaluated = {kind: sum(used.evaluated[kind] for used in usage) for kind in ("gradient", "forward", "seconds")}
        rows = store.rows()
        report_seconds = timed_seconds(
            lambda: derive(rows, finish(build_manifest(plan, options, "iqarena speed"), rows), store.folder), 1
        )
    beside = _side_by_side(plan, first, first_image(plan))
    images = len(shard_items(plan))
    workers = usage[0].workers
    table = [
        ("loading models for the first time", loading),
        ("run: loading, crafting, scoring, storing", run_seconds),
        (f"model evaluations of each of its {workers} workers", evaluated["seconds"] / workers),
        ("tables, plots and page", report_seconds),
    ]
    share = 1 - evaluated["seconds"] / workers / run_seconds
    what = f"{images} images, {evaluated['gradient']:.0f} gradients, {evaluated['forward']:.0f} scores"
    return (
        f"{tabulate(table, headers=[what, 'seconds'], floatfmt='.2f')}\n"
        f"share of the run that is not model evaluation: {100 * share:.1f} %\n\n"
        f"{tabulate(beside, headers=['one image', 'gradients', 'seconds', 'of its gradients'], floatfmt='.3f')}"
    )


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
