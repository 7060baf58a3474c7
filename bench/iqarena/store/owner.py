"""Who holds a lock file: a process of a host, which is told from a later one of the same number by its start."""

from __future__ import annotations

import datetime
import json
import os
import socket
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from iqarena.store.decode import from_json

_FIRST_NAMESPACE = "pid:[4026531836]"  # of a Linux machine's own processes, outside all containers


@dataclass(frozen=True)
class Owner:
    """Whoever holds a lock file; ``token`` is another for every run, and ``work`` the same for shards of one run."""

    host: str
    pid: int
    process: str  # when the process started, as its host counts; empty for unknown
    since: str  # ISO 8601, UTC
    token: str
    shard: tuple[int, ...]
    work: str

    @property
    def dead(self) -> bool:
        """Whether it is known to run no more: it was a process of this host, and there is none such now."""
        return self.host == this_host() and not _is_running(self.pid, self.process)

    @classmethod
    def this_process(cls, work: str, shard: tuple[int, int]) -> Owner:
        """A new owner, from now on."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        pid = os.getpid()
        return cls(this_host(), pid, _process_start(pid), now, uuid.uuid4().hex, shard, work)


def read(path: Path) -> Owner | str | None:
    """The owner of a lock file, its text if that names none, nothing when there is no file."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    try:
        return from_json(Owner, json.loads(text), "")
    except ValueError:
        return text[:60]


def this_host() -> str:
    """This host, and the container: a pid means something only among the processes that see each other."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = _FIRST_NAMESPACE
    return socket.gethostname() + ("" if namespace == _FIRST_NAMESPACE else f" {namespace}")


def _is_running(pid: int, start: str) -> bool:
    """Whether there is a process ``pid`` that started at ``start``; where that cannot be known, one of this pid."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        pass
    return not start or _process_start(pid) in ("", start)


def _process_start(pid: int) -> str:
    """When a process started: boot and clock ticks on Linux, else to the second; empty for unknown."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"boot {boot}, {fields[18]} ticks" if state not in "ZX" else "ended, and not yet waited for"
    except OSError:
        command, zone = ["ps", "-o", "lstart=", "-p", str(pid)], {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
        try:
            return subprocess.run(command, capture_output=True, text=True, env=zone, check=False).stdout.strip()
        except OSError:
            return ""
