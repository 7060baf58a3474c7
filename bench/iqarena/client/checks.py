"""What a caller may write for the options of :func:`iqarena.run` and :func:`iqarena.attack`; else one line."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

from iqarena.errors import SpecError, nearest


def check_whole(name: str, value: Any, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise SpecError(f"{name}: expected a whole number ≥ {least}, found {value!r}")


def check_settings(settings: Any) -> None:
    if settings is not None and not isinstance(settings, Mapping):
        raise SpecError(f"settings: expected a dictionary of suite keys such as {{'seed': 1}}, found {settings!r}")


def check_options(*, precision: Any, overwrite: Any, batch_size: Any, workers: Any, shard: Any) -> None:
    _check_word("precision", precision, ("fp32", "bf16"))
    _check_word("overwrite", overwrite, ("missing", "always", "never"))
    for name, number in (("batch_size", batch_size), ("workers", workers)):
        if number is not None:
            check_whole(name, number, 1)
    two = isinstance(shard, tuple) and len(shard) == 2 and all(isinstance(one, Integral) for one in shard)
    if not two or not 1 <= shard[0] <= shard[1]:
        raise SpecError(f"shard: expected (I, N) with 1 ≤ I ≤ N, found {shard!r}; for example (1, 2)")
    if overwrite == "always" and shard != (1, 1):
        raise SpecError(
            "overwrite: 'always' removes what other shards have written; choose another --out, or remove the run first"
        )


def check_workers(executor: Any, workers_kind: Any, ray_address: Any, cell_timeout: Any) -> None:
    _check_word("executor", executor, ("local", "ray"))
    _check_word("workers_kind", workers_kind, ("thread", "process"))
    if executor == "ray" and workers_kind == "process":
        raise SpecError("workers_kind: it is for the executor 'local'; the workers of Ray are processes anyway")
    if executor == "local" and ray_address is not None:
        raise SpecError(f"ray_address: expected none without the executor 'ray', found {ray_address!r}")
    if cell_timeout is not None and not (isinstance(cell_timeout, (int, float)) and cell_timeout > 0):
        raise SpecError(f"cell_timeout: expected seconds > 0, found {cell_timeout!r}")
    if cell_timeout is not None and executor == "local" and workers_kind == "thread":
        raise SpecError("cell_timeout: a thread cannot be stopped; use process workers: --workers-kind process")


def _check_word(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SpecError(f"unknown {name} {value!r}{nearest(str(value), known)}")
