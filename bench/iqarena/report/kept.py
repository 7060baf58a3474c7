"""``report.json``: of which run, and by which code, the report in a run's folder is, so that it is not made twice."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from iqarena.files.atomic import write_atomically
from iqarena.files.hashing import package_sha256
from iqarena.store.manifest import Manifest

FILE = "report.json"
_PARTS = ("index.html", "leaderboard.md", "pairs.csv", "plots")


def keep(text: str, manifest: Manifest, folder: Path) -> None:
    """Note that the report in ``folder`` is of ``manifest``, a finished run's, and says ``text`` to the terminal."""
    content = json.dumps({"of": _of(manifest), "text": text}, indent=1, ensure_ascii=False)
    write_atomically(folder / FILE, content.encode(), sync=False)


def kept(manifest: Manifest, folder: Path) -> str | None:
    """That text, if the report is still there and of this run and code: a run in which anything changes is finished at
    another time."""
    with suppress(Exception):  # not there, damaged, or in a store that does not answer: the report is made again
        noted = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if noted["of"] == _of(manifest) and all((folder / part).exists() for part in _PARTS):
            return str(noted["text"])
    return None


def _of(manifest: Manifest) -> list[str]:
    return [manifest.suite, manifest.started, str(manifest.finished), manifest.command, package_sha256()]
