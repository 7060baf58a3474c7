"""One run killed again and again, with a store that fails and dawdles, against the same run left alone: ``make soak``.

A parent that has imported everything but torch forks a runner; after a random moment it gets SIGKILL, SIGTERM or
SIGINT, and the next one goes on in the same folder. Meanwhile one write in ``FAULTY`` ends in a full disk or an
input/output error, and renames take a while. A runner must end by its signal, or say in one line what stopped it; at
the end every row must be there, with the numbers of the undisturbed run. Every seed is another sequence.

With ``--nodes 2`` the workers are actors on so many Ray nodes of this machine, and most kills take a node away, for
which another one comes.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from toyruns import SUITE, draw_nothing, numbers, paint

from iqarena.cli import entry
from iqarena.store.folder import Store

LONGEST = 2.0  # seconds from one kill to the next; on Ray, where a worker takes longer to come, ten times as many
FAULTY = 20  # writes from one fault to the next, on average
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PLUGIN = str(Path(__file__).with_name("toys.py"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nodes", type=int, default=0)
    options = parser.parse_args()
    luck = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as text, Nodes(options.nodes) as nodes:
        folder, longest = Path(text), LONGEST * (10 if options.nodes else 1)
        (folder / "photos").mkdir()
        for i in range(max(8, options.kills * (20 if options.nodes else 1))):
            paint(folder / "photos" / f"p{i:04}.png", i)
        (folder / "toy.toml").write_text(SUITE.format(photos=(folder / "photos").as_posix()))
        ends, kills = Counter[str](), 0
        started = time.monotonic()
        while kills < options.kills:
            how = luck.choice(SIGNALS)
            runner = fork(folder, "killed", luck.random(), nodes.options)
            ended = wait(runner, luck.uniform(0, longest))
            while ended is None and options.nodes and kills < options.kills and luck.random() < 3 / 4:
                nodes.replace(luck)
                ends["node killed"] += 1
                kills += 1
                ended = wait(runner, luck.uniform(0, longest))
            if ended is None:
                os.kill(runner, how)
                ended = wait(runner, 60)
                kills += 1
            ends[check(ended, how, folder / "killed.log")] += 1
            if ends["finished"]:
                break
        for _ in range(1000):  # without signals, until the faults let it pass
            ended = wait(fork(folder, "killed", luck.random(), nodes.options), 3600)
            if check(ended, None, folder / "killed.log") == "finished":
                break
        assert wait(fork(folder, "alone", None), 3600) == 0, (folder / "alone.log").read_text()
        killed, alone = (Store(folder / name) for name in ("killed", "alone"))
        assert numbers(killed).equals(numbers(alone)), "the killed run has other numbers than the undisturbed one"
        left = [path.name for path in killed.folder.rglob("*") if path.suffix in (".part", ".lock")]
        assert not left, f"files are left: {left[:5]}"
        counts = ", ".join(f"{name}: {count}" for name, count in sorted(ends.items()))
        seconds = time.monotonic() - started
        print(f"seed {options.seed}: {kills} kills in {seconds:.0f} s ({counts}); {len(numbers(alone))} rows,")
        print("all as in the undisturbed run; no temporary file or lock is left")
    return 0


class Nodes:
    """Ray on this machine: a head that has no CPU to give, and ``number`` nodes with one each; nothing for none."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.options: list[str] = []  # of the command that runs on them

    def __enter__(self) -> Nodes:
        if self._number:
            os.environ["RAY_AUTH_MODE"] = "disabled"  # a token that another Ray left here would be asked for
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                address = f"127.0.0.1:{free.getsockname()[1]}"
            self.options = ["--executor", "ray", "--ray-address", address]
            self._head = _ray("--head", f"--port={address.split(':')[1]}", "--num-cpus=0", "--include-dashboard=false")
            time.sleep(10)
            self._nodes = [self._node() for _ in range(self._number)]
            time.sleep(10)
        return self

    def __exit__(self, *error: object) -> None:
        for process in [*self._nodes, self._head] if self._number else []:
            _end(process)

    def replace(self, luck: random.Random) -> None:
        """Kill one node and let another come."""
        k = luck.randrange(self._number)
        _end(self._nodes[k])
        self._nodes[k] = self._node()

    def _node(self) -> subprocess.Popen[bytes]:
        return _ray(f"--address={self.options[-1]}", "--num-cpus=1")


def _ray(*options: str) -> subprocess.Popen[bytes]:
    code = "from ray.scripts.scripts import main; main()"
    command = [sys.executable, "-c", code, "start", "--block", f"--object-store-memory={2**28}", *options]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a node and its workers, without a word to anybody."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def fork(folder: Path, name: str, luck: float | None, more: Sequence[str] = ()) -> int:
    """A process that runs the suite into ``folder / name``; its store fails by ``luck``, or never without it."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code = 70
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        log = os.open(folder / f"{name}.log", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        draw_nothing()
        if luck is not None:
            spoil(random.Random(luck))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        run = ["run", str(folder / "toy.toml"), "--workers", "2", "--out", str(folder / name)]
        entry(["--quiet", "--plugin", PLUGIN, *run, *more])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def spoil(luck: random.Random) -> None:
    """Let one sync in ``FAULTY`` fail, as on a full or a broken disk, and one rename in four take a while."""
    fsync, replace = os.fsync, Path.replace

    def failing(handle: int) -> None:
        if luck.random() < 1 / FAULTY:
            number = luck.choice([errno.ENOSPC, errno.EIO])
            raise OSError(number, os.strerror(number))
        fsync(handle)

    def slow(self: Path, target: str | Path) -> Path:
        if luck.random() < 1 / 4:
            time.sleep(luck.uniform(0, 0.05))
        return replace(self, target)

    os.fsync = failing
    setattr(Path, "replace", slow)  # noqa: B010


def wait(pid: int, seconds: float) -> int | None:
    """The exit status of a child, below 0 for a signal; none when it runs on after so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def check(ended: int | None, how: signal.Signals | None, log: Path) -> str:
    """In a word how a runner ended; raises :class:`AssertionError` for an end that nobody should see."""
    said = log.read_text() if log.exists() else ""
    assert "Traceback" not in said, said
    last = (said.strip().splitlines() or [""])[-1]
    if ended == 0:
        return "finished"
    if how and ended == -how:
        return f"killed by {how.name}"
    if ended == 3 and how and how != signal.SIGKILL and "stopped; what is stored stays" in last:
        return f"stopped by {how.name}"
    if ended == 2 and any(os.strerror(number) in last for number in (errno.ENOSPC, errno.EIO)):
        return "stopped by its disk"
    for words in ("expected a cluster with a CPU", "workers were lost one after the other"):
        if ended == 2 and words in last:
            return words
    raise AssertionError(f"ended with {ended} after {how}: {said or 'without a word'}")


if __name__ == "__main__":
    sys.exit(main())
