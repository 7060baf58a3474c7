"""``iqarena.run``: a suite from its keys to a stored run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from iqarena.client.checks import check_options, check_settings, check_workers
from iqarena.client.modes import plain_torch
from iqarena.client.specs import as_specs
from iqarena.client.stored import Run
from iqarena.errors import SpecError
from iqarena.files.place import place

if TYPE_CHECKING:
    from iqarena.suite.plan import Plan


@plain_torch()
def run(
    suite: str | PathLike[str] | Mapping[str, Any],
    out: str | PathLike[str] | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    limit: int | None = None,
    seed: int | None = None,
    images: str | PathLike[str] | None = None,
    device: str | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    batch_size: int | None = None,
    workers: int | None = None,
    executor: Literal["local", "ray"] = "local",
    workers_kind: Literal["thread", "process"] = "thread",
    ray_address: str | None = None,
    cell_timeout: float | None = None,
    shard: tuple[int, int] = (1, 1),
    overwrite: Literal["missing", "always", "never"] = "missing",
    progress: bool = True,
    command: str = "",
) -> Run:
    """Run a suite and return its results; a run started again adds what is missing and nothing else.

    ``suite`` is a name (see ``iqarena list suites``), a ``.toml`` file, or a dictionary of a suite's keys
    (``{"images": "pocket", "targets": ["cnn", "vit"], "attacks": ["noise", "fgsm"]}``; what they mean:
    ``help("iqarena.suite.file.Suite")``). In place of specs targets, sources and attacks may be plugins, and what
    :func:`iqarena.scorer` and :func:`iqarena.attack` made of a registered one (sources, target, direction and seed are
    then still the suite's). ``settings`` overrides keys, ``limit`` (first images only) and ``seed`` are two of them.
    ``images`` is another image set, a folder of images, or the place of the suite's own set. ``out`` is the run's
    folder, or a URL (``s3://bucket/run``); left out it is ``results/runs/NAME``.

    ``device`` is ``cpu``, ``cuda``, ``cuda:1`` … or, as when left out, ``auto``; ``batch_size``, ``workers`` and
    ``shard`` (every N-th image from the I-th, ``(I, N)``) never change a number; neither does where cells run: in
    ``thread`` or ``process`` workers here, or with the executor ``ray`` on the cluster at ``ray_address`` (left out,
    one is started here). A plugin that brings its process down costs the rows it was at, unless it is a thread of this
    one. ``cell_timeout`` is how many seconds one attack from one source may take on one image; threads cannot be
    stopped and have no such limit. ``overwrite`` adds what is ``missing``, starts ``always`` afresh (no shard may) or
    ``never`` touches a folder that holds a run. ``command`` stands in the manifest as what was called.

    Raises :class:`~iqarena.errors.IqarenaError`, in one line, for what cannot be understood, loaded or written. An
    image, an attack or a model that fails costs rows (``status`` is then ``error``), not the run.
    """
    from iqarena.engine.device import checked_device
    from iqarena.runner.driver import Options
    from iqarena.runner.execute import execute
    from iqarena.store.folder import Store

    if out is not None and not str(out):
        raise SpecError("out: expected a folder, found ''; write '.' for the current one")
    check_options(precision=precision, overwrite=overwrite, batch_size=batch_size, workers=workers, shard=shard)
    check_workers(executor, workers_kind, ray_address, cell_timeout)
    plan = resolved(suite, settings, limit=limit, seed=seed, images=images)
    store = Store(place(out) if out is not None else Path("results") / "runs" / plan.suite.name)
    options = Options(
        device=checked_device(device or "auto"), precision=precision, batch_size=batch_size, shard=shard,
        workers=workers, executor=executor, workers_kind=workers_kind, ray_address=ray_address,
        cell_timeout=cell_timeout,
    )  # fmt: skip
    show = partial(_bar, plan.suite.name) if progress else lambda craftings: nullcontext(lambda n: None)
    command = command or f"iqarena.run({suite!r})"
    manifest, rows = execute(plan, store, options, overwrite=overwrite, command=command, progress=show)
    done = Run(store.folder)
    if manifest.finished:  # else another shard may be adding to them
        vars(done).update(manifest=manifest, rows=rows)
    return done


def resolved(
    suite: str | PathLike[str] | Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
    *,
    limit: int | None = None,
    seed: int | None = None,
    images: str | PathLike[str] | None = None,
) -> Plan:
    """What :func:`run` would run, every name looked up."""
    from iqarena.suite.file import load_suite
    from iqarena.suite.plan import resolve

    check_settings(settings)
    flags = {"limit": limit, "seed": seed}
    overrides = dict(settings or {}) | {key: value for key, value in flags.items() if value is not None}
    given = as_specs(suite) if isinstance(suite, Mapping) else str(suite)
    return resolve(load_suite(given, as_specs(overrides), None if images is None else str(images)))


@contextmanager
def _bar(suite: str, craftings: int) -> Iterator[Callable[[int], object]]:
    """A progress bar that comes with the first attack, so that a mistake that is noticed while loading is one line.

    It is drawn at every step: by the clock, a run of a tenth of a second would show none.
    """
    from iqarena.files.progress import progress_bar

    with progress_bar(total=craftings, desc=suite, unit="attack", smoothing=0.02, delay=1e-3, mininterval=0) as bar:
        yield bar.update
