"""The catalogue of published scorers, read from ``catalog.toml``. Imports neither torch nor pyiqa."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal
from urllib.parse import quote

from iqarena.api import WeightFile


@dataclass(frozen=True)
class Metric:
    """One record; ``catalog.toml`` says what each key means."""

    name: str
    what: str
    range: tuple[float, float]
    files: tuple[str, ...] = ()
    arch: str = ""
    network: str = ""
    exact_range: bool = False
    lower_better: bool = False
    trained_on: str = ""
    backbones: tuple[str, ...] = ()
    crops: int = 1
    crops_option: str = ""
    input: str = "any size, as it is"
    min_size: int = 1
    gradient: Literal["exact", "straight-through", "none"] = "exact"
    stateful: bool = False
    reconstructed: str = ""
    licence: str = ""

    @property
    def ends(self) -> tuple[float, float]:
        """The native scores that become 0 and 100."""
        low, high = self.range
        return (high, low) if self.lower_better else (low, high)


@cache
def catalog() -> dict[str, Metric]:
    """Every record by name, in the file's order."""
    return {name: _metric(name, record) for name, record in _read()["metrics"].items()}


def weight_file(name: str) -> WeightFile:
    """A file of the catalogue by its name: pyiqa's, unless a table under ``[files]`` says something else."""
    known: dict[str, Any] = _read()["files"].get(name, {})
    own: dict[str, Any] = {} if "page" in known else {"url": _read()["pyiqa_url"] + quote(name)}
    return WeightFile(name, **own | known)


def pyiqa_version() -> str:
    """The version of pyiqa that the records describe."""
    return _read()["pyiqa_version"]


def _metric(name: str, record: dict[str, Any]) -> Metric:
    lists: dict[str, Any] = {key: tuple(value) for key, value in record.items() if isinstance(value, list)}
    return Metric(name, **(record | lists))


@cache
def _read() -> dict[str, Any]:
    return tomllib.loads((files("iqarena_models") / "catalog.toml").read_text(encoding="utf-8"))
