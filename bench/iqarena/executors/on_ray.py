"""Workers that are actors of a Ray cluster, or of a Ray that is started here (``pip install 'iqarena[ray]'``).

An actor takes one CPU, or one GPU with ``--device cuda``. Rows travel with the tasks and cells come back as objects, so
the nodes need no disk in common; images, weights and iqarena itself must be on each.
"""

from __future__ import annotations

import importlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from iqarena.errors import IqarenaError
from iqarena.executors.job import Job
from iqarena.executors.pool import Start, WorkerLost, arrives, limit_after
from iqarena.executors.remote import Remote, portable
from iqarena.worker.measure import Result
from iqarena.worker.task import Step, Task
from iqarena.worker.threads import cores

_TRIES = 2  # workers that a step may cost: a node may go for reasons of its own
_OBJECT_STORE = 256 * 2**20  # bytes of shared memory; a cell is small


@contextmanager
def ray_workers(job: Job, workers: int | None, address: str | None, limit: float | None) -> Iterator[tuple[Start, int]]:
    """How an actor is started, and how many; a Ray that was not there is shut down at the end."""
    if job.device not in ("cpu", "cuda"):
        raise IqarenaError(f"--device: expected cpu or cuda, as Ray gives each worker a GPU, found {job.device}")
    ray, on_cpu = _ray(), job.device == "cpu"
    there = ray.is_initialized()
    if not there:
        _connect(ray, address, workers or cores())
    try:
        resource, most = ("CPU" if on_cpu else "GPU"), ray.cluster_resources()
        if most.get(resource, 0) < 1:
            raise IqarenaError(f"--executor ray: expected a cluster with a {resource}, found {most}; see --device")
        actor = ray.remote(num_cpus=1, num_gpus=0 if on_cpu else 1, max_restarts=0)(_Actor)
        yield partial(RayWorker, ray, actor, job.packed(), limit), workers or int(most[resource])
    finally:
        if not there:
            ray.shutdown()


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError:
        raise IqarenaError(
            "--executor ray needs the package ray, not installed here; pip install 'iqarena[ray]'"
        ) from None


def _connect(ray: Any, address: str | None, cpus: int) -> None:
    own = {} if address else {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _OBJECT_STORE}
    heard = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="warning", **own)
    except Exception as error:  # Ray raises many kinds, plain ones too
        raise IqarenaError(f"--executor ray: no cluster at {address or 'this machine'}: {error}") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, heard)  # Ray puts its own there


class _Actor:
    """The process on the other side. What goes wrong comes back as a value, as Ray wraps what is raised."""

    def load(self, job: bytes) -> Exception | None:
        try:
            self._worker = Remote(job)
        except Exception as error:
            return portable(error)
        return None

    def run(self, task: Task) -> Iterator[Step | Result | Exception]:
        try:
            yield from self._worker.run(task)
        except Exception as error:
            yield portable(error)


class RayWorker:
    """An actor for the packed ``job``; ``limit`` is how many seconds a step may take for each of its images."""

    def __init__(self, ray: Any, actor: Any, job: bytes, limit: float | None, stopping: threading.Event) -> None:
        self._ray, self._limit, self._stopping = ray, limit, stopping
        self._actor = actor.remote()
        try:
            if self._arrives(loaded := self._actor.load.remote(job), None):
                self._next(iter([loaded]))
        except BaseException:
            self.close()
            raise

    def run(self, task: Task) -> Iterator[Step | Result]:
        stream, event = self._actor.run.remote(task), None
        while self._arrives(stream, limit_after(event, self._limit)) and (event := self._next(stream)):
            yield event

    def close(self) -> None:
        """End it, whatever it does."""
        self._ray.kill(self._actor)

    def _arrives(self, coming: Any, limit: float | None) -> bool:
        return arrives(lambda seconds: self._ray.wait([coming], timeout=seconds)[0], self._stopping, limit)

    def _next(self, references: Iterator[Any]) -> Any:
        """What the next of ``references`` stands for; None after the last."""
        try:
            value = self._ray.get(next(references))
        except StopIteration:
            return None
        except self._ray.exceptions.RayError as error:  # a node that goes takes along what it had sent
            raise WorkerLost(f"the worker died ({type(error).__name__})", _TRIES) from None
        if isinstance(value, Exception):
            raise value
        return value
