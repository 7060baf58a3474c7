"""Workers that are processes of this machine, each with its own interpreter: a pipe to each, tasks in, cells out.

A process is started afresh, not forked, as models and threads do not survive a fork, and without running the caller's
script again, as :mod:`multiprocessing` would.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from iqarena.executors.pool import WorkerLost, arrives, limit_after
from iqarena.executors.remote import Remote, portable
from iqarena.worker.measure import Result
from iqarena.worker.task import Step, Task

_DONE = "done"


class ProcessWorker:
    """A process for the packed ``job``; ``limit`` is how many seconds a step may take for each of its images."""

    def __init__(self, job: bytes, limit: float | None, stopping: threading.Event) -> None:
        self._limit, self._stopping = limit, stopping
        self._pipe, theirs = Pipe()
        code = (  # ^C and a batch system's SIGTERM reach every process of a job; the driver alone answers them
            "import signal, sys; [signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM)];"
            f"sys.path[:] = {sys.path!r}; from iqarena.executors.processes import main;"
            f"main({theirs.fileno()}, {os.getpid()})"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        try:
            self._send(job)
            self._receive(None)
        except BaseException:
            self.close()
            raise

    def run(self, task: Task) -> Iterator[Step | Result]:
        self._send(task)
        event = None
        while (event := self._receive(limit_after(event, self._limit))) != _DONE and not self._stopping.is_set():
            yield event

    def close(self) -> None:
        """End it and what it forked, whatever they do."""
        with suppress(OSError):  # all of them are gone
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._pipe.close()

    def _send(self, message: object) -> None:
        try:
            self._pipe.send(message)
        except OSError:
            raise self._died() from None

    def _receive(self, limit: float | None) -> Any:
        """Its next message; ``_DONE`` when the run is to stop."""
        try:
            message = self._pipe.recv() if arrives(self._ready, self._stopping, limit) else _DONE
        except (EOFError, OSError):
            raise self._died() from None
        if isinstance(message, Exception):
            raise message
        return message

    def _ready(self, seconds: float) -> bool:
        ended = self._process.poll() is not None  # asked first: what it sent before is there
        if not (there := self._pipe.poll(seconds)) and ended:
            raise EOFError  # a child that it forked holds its end open
        return there

    def _died(self) -> WorkerLost:
        self._pipe.close()  # it may have closed its end and live on
        try:
            code = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return WorkerLost(f"the worker died ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})")


def main(handle: int, driver: int) -> None:
    """The life of a worker process: a job from the pipe of this file descriptor, then one task after the other."""
    threading.Thread(target=_leave_with, args=(driver,), daemon=True).start()
    pipe = Connection(handle)
    try:
        worker = Remote(pipe.recv())
        pipe.send(_DONE)
        while True:
            for event in worker.run(pipe.recv()):
                pipe.send(event)
            pipe.send(_DONE)
    except (EOFError, ConnectionError):
        return  # the driver is gone
    except Exception as error:
        pipe.send(portable(error))


def _leave_with(driver: int) -> None:
    """End this process and what it forked, whatever they do, once the driver is no longer there."""
    while os.getppid() == driver:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)
