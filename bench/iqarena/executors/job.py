"""What a worker needs before its first cell: the plan, its plugins, the loaded scorers."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iqarena.api import Model, Plugin, WeightsError
from iqarena.engine.scorer import Scorer
from iqarena.errors import IqarenaError
from iqarena.registry.tables import KINDS, add_file, names, plugin_class, plugin_files
from iqarena.store.keys import Keys, foreign, identity
from iqarena.suite.plan import Plan
from iqarena.worker.work import Bench


@dataclass(frozen=True)
class Job:
    """A plan, and how it is run into ``folder``."""

    plan: Plan
    folder: Path
    device: str
    precision: str
    keys: Keys

    def bench(self) -> Bench:
        """With every model of the plan loaded; raises :class:`WeightsError` when weights are not those of ``keys``."""
        scorers = {model: self._loaded(model) for model in self.plan.models}
        return Bench(self.plan, self.folder, scorers, self.keys)

    def _loaded(self, model: Model) -> Scorer:
        """A scorer; what its weights are kept under was read before they were loaded and is the same afterwards."""
        before = self.keys.identity(model)
        scorer = Scorer(model, self.device, self.precision)
        if (now := identity(model)) != before:
            raise WeightsError(
                f"{model!r}: its weights changed while the run was starting: expected sha256 {before[-1][:12]}…,"
                f" found {now[-1][:12]}…; leave the file alone and run again"
            )
        return scorer

    def packed(self) -> bytes:
        """This job for another process: with the plugin files themselves, as another machine may not have them, and
        with the folder and the variables by which this process finds the rest."""
        plugins = [*self.plan.attacks, *self.plan.models, self.plan.images]
        kinds = [(kind, one.name) for one in foreign(plugins) for kind, base in KINDS.items() if isinstance(one, base)]
        head = {
            "environment": {name: value for name, value in os.environ.items() if name.startswith("IQARENA_")},
            "folder": os.getcwd(),
            "files": {str(path): path.read_bytes() for path in plugin_files()},
            "installed": [(kind, name) for kind, name in kinds if name in names(kind)],
        }
        identities = [(plugin, self.keys.identity(plugin)) for plugin in (*self.plan.attacks, *self.plan.models)]
        return pickle.dumps((head, pickle.dumps((self, identities))))


def unpacked(data: bytes) -> Job:
    """The job in a worker process, once its plugins are registered there.

    Raises :class:`IqarenaError` when a plugin or its weights are not what the driver's keys say.
    """
    head, rest = pickle.loads(data)
    os.environ.update(head["environment"])
    with suppress(OSError):  # a node may lack it
        os.chdir(head["folder"])
    with tempfile.TemporaryDirectory(prefix="iqarena-plugin-") as copies:
        for path, content in head["files"].items():
            add_file(_local(Path(path), content, Path(copies)))
    for kind, name in head["installed"]:
        plugin_class(kind, name)  # an installed plugin learns its distribution here
    job, identities = pickle.loads(rest)
    _check(identities, job.keys)
    return job


def _local(path: Path, content: bytes, copies: Path) -> Path:
    """``path`` where it holds ``content``, else a copy of it, which need not stay once it was imported."""
    if path.is_file() and path.read_bytes() == content:
        return path
    copy = copies / path.name
    copy.write_bytes(content)
    return copy


def _check(identities: Sequence[tuple[Plugin, list[Any]]], keys: Keys) -> None:
    for plugin, expected in identities:
        if (now := keys.identity(plugin)) != expected:
            raise IqarenaError(
                f"{plugin!r}: a worker has other code or weights than the driver: expected {expected}, found {now};"
                " install the same everywhere, leave the files alone, and run again"
            )
