"""Workers that are threads of the driver: the models are loaded once for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from iqarena.worker.cell import cells
from iqarena.worker.measure import Result
from iqarena.worker.task import Step, Task
from iqarena.worker.work import Bench


class ThreadWorker:
    """The thread that makes it, with ``threads`` threads for each evaluation."""

    def __init__(self, bench: Bench, threads: int) -> None:
        self._bench = bench
        torch.set_num_threads(threads)

    def run(self, task: Task) -> Iterator[Step | Result]:
        return cells(self._bench, task)

    def close(self) -> None:
        pass
