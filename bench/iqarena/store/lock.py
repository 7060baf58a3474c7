"""Who is running into a run folder: one run, or shards of one run side by side.

Each runner has a file ``shard-I-of-N.lock`` that names it (host, pid, start of the process) for as long as it runs.
What several of them read and then write, the manifest first of all, is done behind ``gate.lock``, which one holds at a
time and for a moment. A file of a process of this host that is gone (``kill -9``, a power cut) holds nothing and is
removed; of another host nobody here can tell, so a person removes it. Reading a folder needs no lock.

Both are plain files, linked into place only where there is none: that is atomic on every disk, network disks included,
with the owner's name in it from the start. The kernel releases ``flock`` by itself, but ``flock`` does not say who
holds it, and many shared disks refuse it or enforce it on one machine only. We recognise a dead owner by pid and start
time instead. In an object store they are objects, created on the condition that there is none.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iqarena.errors import StoreError
from iqarena.files.atomic import plain_errors
from iqarena.files.place import created, is_local
from iqarena.store.owner import Owner, read, this_host

_PATIENCE = 300  # seconds that one owner may stand in the gate, where it reads all rows of the folder
_PAUSE = 0.05  # seconds


class RunLock:
    """A place in ``folder`` for shard ``(I, N)`` of ``work``, a hash of all that shards must have in common.

    ``with`` gives the place back at its end. Nothing is held before :meth:`enter`.
    """

    def __init__(self, folder: Path, work: str, shard: tuple[int, int] = (1, 1)) -> None:
        self._me = Owner.this_process(work, shard)
        self._text = json.dumps(dataclasses.asdict(self._me)).encode() + b"\n"
        self._folder, self._gate = folder, folder / "gate.lock"
        self._place = folder / f"shard-{shard[0]}-of-{shard[1]}.lock"

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *error: object) -> None:
        self._remove_own(self._place)

    @contextmanager
    def gate(self) -> Iterator[None]:
        """Be the only one, waiting for whoever is; raises :class:`StoreError` when one of them does not go on."""
        before, since = None, time.monotonic()
        try:
            with plain_errors(f"cannot lock {self._folder}", self._folder):
                while not self._created(self._gate):
                    holder = read(self._gate)
                    if isinstance(holder, Owner) and holder.dead:
                        self._bury(self._gate, holder)
                    elif holder is None or holder != before:
                        before, since = holder, time.monotonic()
                    elif time.monotonic() - since > _PATIENCE:
                        raise self._refusal(self._gate, holder)
                    time.sleep(_PAUSE)
            yield
        finally:
            self._remove_own(self._gate)

    def enter(self, *, alone: bool = False) -> None:
        """Take the place, behind the gate.

        Raises :class:`StoreError`, naming the owner, when somebody is there who is not another shard of this run, or
        anybody if ``alone``.
        """
        with plain_errors(f"cannot lock {self._folder}", self._folder):
            for path in self._places():
                owner = read(path)
                if isinstance(owner, Owner) and owner.dead:
                    path.unlink()
                elif owner is not None and (alone or not self._is_beside(owner)):
                    raise self._refusal(path, owner)
            for leftover in self._folder.glob("gate-*"):  # of those who died waiting; the living come again
                if re.fullmatch(r"gate-[0-9a-f]{32}\.(lock|part)", leftover.name):
                    leftover.unlink(missing_ok=True)
            self._created(self._place)

    def is_alone(self) -> bool:
        """Whether nobody else has a place, or has left one; behind the gate nobody takes one."""
        return all(path == self._place for path in self._places())

    def _places(self) -> list[Path]:
        with plain_errors(f"cannot lock {self._folder}", self._folder):
            paths = sorted(self._folder.glob("shard-*.lock"))
        return [path for path in paths if re.fullmatch(r"shard-\d+-of-\d+\.lock", path.name)]

    def _is_beside(self, owner: Owner | str) -> bool:
        me = self._me
        return isinstance(owner, Owner) and (
            owner.work == me.work and owner.shard[1:] == me.shard[1:] and owner.shard != me.shard
        )

    def _created(self, path: Path) -> bool:
        """Create ``path`` in this owner's name; not when it is there."""
        if path.exists():
            return False
        if not is_local(path):
            return created(path, self._text)
        part = self._folder / f"gate-{self._me.token}.part"
        try:
            with part.open("wb") as file:
                file.write(self._text)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(part, path)
            except (FileExistsError, FileNotFoundError):  # somebody was faster, or has cleaned up
                return read(path) == self._me  # a network disk may have done it and say that it is there
            except OSError:  # a disk without links: whoever is killed in between leaves a file without a name
                try:
                    with path.open("xb") as file:
                        file.write(self._text)
                except FileExistsError:
                    return False
        finally:
            part.unlink(missing_ok=True)
        return True

    def _bury(self, path: Path, dead: Owner) -> None:
        """Remove what ``dead`` left at ``path``, and never what another has put there since.

        All who see that it is dead are of its host; the one of them who creates the file of its token looks again. If
        that one dies before it is done, its file is removed in the same way.
        """
        claim = self._folder / f"gate-{dead.token}.lock"
        if self._created(claim):
            if read(path) == dead:
                path.unlink(missing_ok=True)
            claim.unlink(missing_ok=True)
        elif isinstance(holder := read(claim), Owner) and holder.dead:
            self._bury(claim, holder)

    def _remove_own(self, path: Path) -> None:
        with plain_errors(f"cannot unlock {self._folder}", self._folder):
            if read(path) == self._me:
                path.unlink(missing_ok=True)

    def _refusal(self, path: Path, owner: Owner | str | None) -> StoreError:
        if not isinstance(owner, Owner):
            return StoreError(f"{path}: expected the name of a run, found {owner!r}; if none is going on, remove it")
        who = f"{self._folder} is in use by pid {owner.pid} on {owner.host} since {owner.since}"
        if owner.host != this_host():
            return StoreError(f"{who}; if it does not run there any more, remove {path} and run again")
        return StoreError(
            f"{who}; wait for its end, stop it, or choose another --out"
            " (only other shards of the same suite may run beside it, without --overwrite always)"
        )
