"""What runs in a worker process, whoever started it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from iqarena.errors import IqarenaError
from iqarena.executors.job import unpacked
from iqarena.worker.cell import cells
from iqarena.worker.measure import Result
from iqarena.worker.task import Step, Task
from iqarena.worker.threads import single_threaded


class Remote:
    """A worker in a process of its own: one thread, models loaded once."""

    def __init__(self, job: bytes) -> None:
        self._bench = unpacked(job).bench()

    def run(self, task: Task) -> Iterator[Step | Result]:
        with single_threaded(self._bench.device.type == "cpu"):
            yield from cells(self._bench, task)


def portable(error: Exception) -> Exception:
    """``error`` as another process can read it: a line for the user, or else what a developer needs."""
    if isinstance(error, IqarenaError) and type(error).__module__ == IqarenaError.__module__:
        return type(error)(str(error))
    return RuntimeError(traceback.format_exc())
