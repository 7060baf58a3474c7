"""Runs a plan: craft once per (attack, source, image), score on every target, store whole cells.

A cell is one source on one batch of images, all attacks: the unit that is stored and resumed. Worker threads yield
cells, the calling thread alone writes them. On the CPU, workers take images side by side and each evaluates models
with one thread; numbers therefore do not depend on the number of cores.
"""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import torch

from iqarena.api import ImageItem, Model, WeightsError
from iqarena.engine.scorer import CUDA_BATCH, Scorer
from iqarena.files.atomic import write_atomically
from iqarena.runner.cell import cells
from iqarena.runner.measure import Result
from iqarena.runner.work import Bench, Row
from iqarena.store.folder import Store
from iqarena.store.keys import Keys, identity
from iqarena.suite.plan import Plan


@dataclass(frozen=True)
class Options:
    """How to run; none of it changes a number except the kind of ``device`` and the ``precision``."""

    device: str = "cpu"
    precision: str = "fp32"
    batch_size: int | None = None  # images that travel together; none: 1 on the CPU, a micro-batch on a GPU
    shard: tuple[int, int] = (1, 1)
    workers: int | None = None  # threads; none: one per core on the CPU, one on a GPU

    @property
    def on_cpu(self) -> bool:
        return self.device == "cpu"

    def keys(self, plan: Plan) -> Keys:
        """What the rows of ``plan`` are kept under."""
        return Keys(plan.suite.direction, plan.suite.seed, (torch.device(self.device).type, self.precision))


def shard_items(plan: Plan, shard: tuple[int, int] = (1, 1)) -> list[ImageItem]:
    """The images of shard ``(i, n)``: every n-th of the first ``limit``, from the i-th."""
    return plan.images.items()[: plan.suite.limit][shard[0] - 1 :: shard[1]]


def run_plan(
    plan: Plan,
    store: Store,
    options: Options,
    tick: Callable[[int], object] = lambda cells: None,
    keys: Keys | None = None,
) -> list[Scorer]:
    """Fill ``store`` with every missing row; ``tick`` hears of finished cells, one per image, source and repeat.

    Returns the scorers, which have counted their evaluations. Raises :class:`StoreError` when rows cannot be written
    and lets ``KeyboardInterrupt`` through, both after the workers have stopped; :class:`WeightsError`, with no row
    written, when weights are not those of ``keys``.
    """
    store.create()
    items = shard_items(plan, options.shard)
    size = options.batch_size or (1 if options.on_cpu else CUDA_BATCH)
    batches = [items[i : i + size] for i in range(0, len(items), size)]
    workers = options.workers or (cores() if options.on_cpu else 1)
    threads = (1,) if options.on_cpu else (torch.get_num_threads(),)  # OpenMP keeps this number per thread
    with single_threaded(options.on_cpu), ThreadPoolExecutor(workers, "cell", torch.set_num_threads, threads) as pool:
        keys = keys or options.keys(plan)
        scorers = {model: _loaded(model, options, keys) for model in plan.models}
        bench = Bench(plan, store, scorers, keys)
        for result in _side_by_side(pool, workers, (cells(bench, batch) for batch in batches)):
            _write(store, result)
            tick(result.cells)
    return list(scorers.values())


def _loaded(model: Model, options: Options, keys: Keys) -> Scorer:
    """A scorer; what its weights are kept under was read before they were loaded and is the same afterwards."""
    before = keys.identity(model)
    scorer = Scorer(model, options.device, options.precision)
    if (now := identity(model)) != before:
        raise WeightsError(
            f"{model!r}: its weights changed while the run was starting: expected sha256 {before[-1][:12]}…,"
            f" found {now[-1][:12]}…; leave the file alone and run again"
        )
    return scorer


def _side_by_side(pool: ThreadPoolExecutor, workers: int, batches: Iterator[Iterator[Result]]) -> Iterator[Result]:
    """Results of ``workers`` batches at a time, as they come; each goes on while its last result is written.

    What is finished when ``KeyboardInterrupt`` arrives still comes.
    """
    running: dict[Future[Result | None], Iterator[Result]] = {}

    def go_on(batch: Iterator[Result] | None) -> None:
        if batch is not None:
            running[pool.submit(next, batch, None)] = batch

    for batch in itertools.islice(batches, workers):
        go_on(batch)
    try:
        while running:
            for job in wait(running, return_when=FIRST_COMPLETED).done:
                batch, result = running.pop(job), job.result()
                go_on(batch if result else next(batches, None))
                if result:
                    yield result
    except KeyboardInterrupt:
        pool.shutdown(cancel_futures=True)
        yield from (result for job in running if not job.cancelled() and (result := job.result()))
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _write(store: Store, result: Result) -> None:
    """Files first: where there is a row there is its image."""
    for path, data in result.files.items():
        write_atomically(path, lambda part, data=data: part.write_bytes(data), sync=False)
    by_image: defaultdict[str, list[Row]] = defaultdict(list)
    for row in result.rows:
        by_image[row["image"]].append(row)
    for image, rows in by_image.items():
        store.write(image, rows)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def single_threaded(on_cpu: bool = True) -> Iterator[None]:
    """One thread per operation while workers share the cores; the caller's settings come back afterwards."""
    if not on_cpu:
        yield
        return
    threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv_threads)
