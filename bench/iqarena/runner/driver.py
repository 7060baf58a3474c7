"""Runs a plan: craft once per (attack, source, image), score on every target, store whole cells.

A cell is one source on one batch of images, all attacks: the unit that is stored and resumed. Workers yield cells,
wherever they are (:mod:`iqarena.executors`); the calling thread alone writes them. On the CPU, workers take
images side by side and each evaluates models with one thread; numbers therefore do not depend on the number of cores.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch

from iqarena.api import ImageItem, Model
from iqarena.engine.resident import CUDA_BATCH
from iqarena.errors import Stopped
from iqarena.executors.job import Job
from iqarena.executors.pool import Pool, Start
from iqarena.executors.processes import ProcessWorker
from iqarena.executors.thread import ThreadWorker
from iqarena.runner.unwritten import Unwritten
from iqarena.store.folder import Store
from iqarena.store.keys import Keys
from iqarena.suite.plan import Plan
from iqarena.worker.measure import Result
from iqarena.worker.task import Task
from iqarena.worker.threads import cores, single_threaded
from iqarena.worker.work import craftings

CPU_BATCH = 8  # images: what a run does beside its evaluations takes half as long as with single ones
PATIENCE = 1.5  # seconds that a run which was stopped waits for steps to end


@dataclass(frozen=True)
class Options:
    """How to run; none of it changes a number except the kind of ``device`` and the ``precision``."""

    device: str = "cpu"
    precision: str = "fp32"
    batch_size: int | None = None  # images that travel together; none: up to 8 on the CPU, a micro-batch on a GPU
    shard: tuple[int, int] = (1, 1)
    workers: int | None = None  # none: one per core on the CPU, one on a GPU; with Ray what the cluster has
    executor: Literal["local", "ray"] = "local"
    workers_kind: Literal["thread", "process"] = "thread"  # of the local executor
    ray_address: str | None = None  # of a cluster; none: one is started here
    cell_timeout: float | None = None  # seconds for an attack on an image; threads cannot be stopped and have none

    @property
    def on_cpu(self) -> bool:
        return self.device == "cpu"

    def keys(self, plan: Plan) -> Keys:
        """What the rows of ``plan`` are kept under."""
        return Keys(plan.suite.direction, plan.suite.seed, (torch.device(self.device).type, self.precision))


def shard_items(plan: Plan, shard: tuple[int, int] = (1, 1)) -> list[ImageItem]:
    """The images of shard ``(i, n)``: every n-th of the first ``limit``, from the i-th."""
    return plan.images.items()[: plan.suite.limit][shard[0] - 1 :: shard[1]]


@dataclass(frozen=True)
class Usage:
    """How many images (``forward``) a run scored with a model, with how many it asked for a ``gradient``, and the
    ``seconds`` that its ``workers`` spent on these."""

    model: Model
    evaluated: dict[str, float]
    workers: int = 0


def run_plan(
    plan: Plan,
    store: Store,
    options: Options,
    tick: Callable[[int], object] = lambda craftings: None,
    keys: Keys | None = None,
    settled: Collection[str] = (),
    unread: Callable[[str, str], object] = lambda image, message: None,
) -> list[Usage]:
    """Fill ``store`` with every missing row; ``tick`` hears of finished craftings, one per image.
    Images that are ``settled`` are passed over: nothing of them is missing. ``unread`` hears of those that have rows
    and cannot be read any more, and why: they keep these.

    Returns what was evaluated. Raises :class:`StoreError` when rows cannot be written, after the workers have stopped;
    :class:`WeightsError`, with no row written, when weights are not those of ``keys``. ``KeyboardInterrupt`` comes
    through with every finished cell written, :class:`Stopped` where something runs on that does not end by itself.
    """
    store.create()
    every = shard_items(plan, options.shard)
    items = [item for item in every if item.id not in settled]
    usage = [Usage(model, {"forward": 0, "gradient": 0, "seconds": 0.0}) for model in plan.models]
    of_model = {repr(one.model): one.evaluated for one in usage}
    if len(items) < len(every):
        tick((len(every) - len(items)) * len(list(craftings(plan))))
    if not items:
        return usage

    unwritten = Unwritten(store)

    def keep(result: Result) -> None:
        unwritten.add(result)
        for spec, counts in result.evaluated.items():
            for kind, n in counts.items():
                of_model[spec][kind] += n
        for image, message in result.unread.items():
            unread(image, message)
        tick(result.craftings)

    job = Job(plan, store.folder, options.device, options.precision, keys or options.keys(plan))
    with single_threaded(options.on_cpu), _workers(job, options) as (start, workers):
        batches = list(_batches(items, options, workers))
        tasks = (Task(batch, {item.id: store.stored(item.id) for item in batch}) for batch in batches)
        pool = Pool(start, workers := min(workers, len(batches)), tasks)
        try:
            for result in pool.results():
                keep(result)
        except KeyboardInterrupt:
            for result in pool.stop(PATIENCE):
                keep(result)
            if pool.unfinished:
                raise Stopped("; ".join(map(str, pool.unfinished))) from None
            raise
        except BaseException:
            pool.stop()
            raise
        finally:
            unwritten.write()
    return [replace(one, workers=workers) for one in usage]


def _batches(items: Sequence[ImageItem], options: Options, workers: int) -> Iterator[Sequence[ImageItem]]:
    """The images that travel together. On the CPU fewer towards the end, so that no worker waits long for another."""
    size = options.batch_size or (CPU_BATCH if options.on_cpu else CUDA_BATCH)
    while items:
        n = min(size, -(-len(items) // workers)) if options.on_cpu and not options.batch_size else size
        yield items[:n]
        items = items[n:]


@contextmanager
def _workers(job: Job, options: Options) -> Iterator[tuple[Start, int]]:
    """How workers are started where ``options`` wants them, and how many."""
    workers = options.workers or (cores() if options.on_cpu else 1)
    if options.executor == "ray":
        from iqarena.executors.on_ray import ray_workers

        with ray_workers(job, options.workers, options.ray_address, options.cell_timeout) as started:
            yield started
    elif options.workers_kind == "process":
        packed = job.packed()
        yield lambda stopping: ProcessWorker(packed, options.cell_timeout, stopping), workers
    else:
        threads = 1 if options.on_cpu else torch.get_num_threads()  # OpenMP keeps this number per thread
        bench = job.bench()
        yield lambda stopping: ThreadWorker(bench, threads), workers
