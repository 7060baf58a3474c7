"""Workers side by side: each has a thread of the driver, which hands it tasks and passes its cells on.

A step during which a worker is lost costs its own rows: the task goes on in a fresh worker, with error rows in that
step's place.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

from iqarena.errors import IqarenaError
from iqarena.worker.measure import Result
from iqarena.worker.task import Step, Task

TICK = 0.1  # seconds between two looks at whether the run is to stop
IDLE_DEATHS = 3  # of workers on one task, before any step of it: then something is wrong with the machine


class WorkerLost(Exception):
    """A worker that ended, or had to be ended, in the middle of a task; the message says how.

    ``tries``: how many workers may be lost to one step before it is given up.
    """

    def __init__(self, message: str, tries: int = 1) -> None:
        super().__init__(message)
        self.tries = tries


def limit_after(event: Step | Result | None, limit: float | None) -> float | None:
    """Seconds until the next event of a worker: ``limit`` for each image of the step that this one announced."""
    return limit * len(event.images) if limit and isinstance(event, Step) else limit


def arrives(ready: Callable[[float], object], stopping: threading.Event, limit: float | None) -> bool:
    """Wait until ``ready``, which is given seconds to wait for it, says that a worker has sent something; False once
    the run is to stop. Raises :class:`WorkerLost` after ``limit`` seconds."""
    started = time.monotonic()
    while not ready(TICK):
        if stopping.is_set():
            return False
        if limit and time.monotonic() - started > limit:
            raise WorkerLost(f"stopped after {limit:g} s (--cell-timeout); raise the limit, or leave the attack out")
    return True


class Worker(Protocol):
    """Where cells run. :meth:`run` yields each step before it is done, and the cells. It raises :class:`WorkerLost`, as
    making one does."""

    def run(self, task: Task) -> Iterator[Step | Result]: ...

    def close(self) -> None: ...


Start = Callable[[threading.Event], Worker]  # what it is given is set when the run is to stop


class Pool:
    """``workers`` workers for ``tasks``. Once :meth:`stop` was called, ``unfinished`` are the steps of those threads
    that did not end in time."""

    def __init__(self, start: Start, workers: int, tasks: Iterator[Task]) -> None:
        self._start, self._tasks = start, tasks
        self._events: queue.Queue[Result | BaseException | None] = queue.Queue(4 * workers)
        self._stopping, self._turn = threading.Event(), threading.Lock()
        self._steps: list[Step | None] = [None] * workers
        self._threads = [threading.Thread(target=self._serve, args=(i,), daemon=True) for i in range(workers)]
        self.unfinished: list[Step] = []

    def results(self) -> Iterator[Result]:
        """The cells of all tasks as they come; raises what a worker raised."""
        for thread in self._threads:
            thread.start()
        busy = len(self._threads)
        while busy:
            event = self._events.get()
            if isinstance(event, BaseException):
                raise event
            if event is None:
                busy -= 1
            else:
                yield event

    def stop(self, patience: float = float("inf")) -> list[Result]:
        """Let no further step begin, and wait ``patience`` seconds at most for those that run.

        Returns the cells that were finished and not taken yet.
        """
        self._stopping.set()
        deadline, finished = time.monotonic() + patience, []
        while True:
            alive = [i for i, thread in enumerate(self._threads) if thread.is_alive()]
            while not self._events.empty():
                event = self._events.get()
                finished += [event] if isinstance(event, Result) else []
            if not alive or time.monotonic() > deadline:
                self.unfinished = [step for i in alive if (step := self._steps[i])]
                return finished
            time.sleep(0.01)

    def _serve(self, slot: int) -> None:
        """The life of one worker, and of those that replace it."""
        worker: Worker | None = None
        try:
            while task := self._next():
                losses: Counter[Step | None] = Counter()
                while not self._stopping.is_set():
                    self._steps[slot] = None
                    try:
                        worker = worker or self._start(self._stopping)
                        for event in worker.run(task):
                            if isinstance(event, Result):
                                self._events.put(event)
                                task = replace(task, done=task.done + event.parts)
                            if self._stopping.is_set():
                                return
                            self._steps[slot] = event if isinstance(event, Step) else None
                        break
                    except WorkerLost as lost:
                        step = self._steps[slot]
                        if worker:
                            worker.close()
                            worker = None
                        losses[step] += 1
                        task = _without(task, step, lost, losses[step])
        except BaseException as error:  # the driver raises it
            self._events.put(error)
        finally:
            if worker:
                worker.close()
            self._events.put(None)

    def _next(self) -> Task | None:
        with self._turn:
            return None if self._stopping.is_set() else next(self._tasks, None)


def _without(task: Task, step: Step | None, lost: WorkerLost, losses: int) -> Task:
    """``task`` for the next worker: without ``step``, once it has cost as many workers as it may."""
    if step is None and losses >= IDLE_DEATHS:
        raise IqarenaError(f"{losses} workers were lost one after the other before they began; the last: {lost}")
    if step is None or losses < lost.tries:
        return task
    return replace(task, lost={**task.lost, step: f"{step}: {lost}"})
