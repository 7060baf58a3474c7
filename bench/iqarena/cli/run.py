"""``run``, ``plan``, ``report`` and ``speed``: suites and what comes of them."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from iqarena.errors import IqarenaError

if TYPE_CHECKING:
    from iqarena.runner.driver import Options
    from iqarena.suite.plan import Plan

_SET = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a suite key (TOML value).")
_LIMIT = click.option("--limit", type=click.IntRange(1), help="Only the first N pictures.")
_SEED = click.option("--seed", type=click.IntRange(0), help="Seed of all random streams.")
_IMAGES = click.option(
    "--images",
    metavar="PLACE|SET",
    help="Where the suite's database lies, else a folder of pictures, or another set (clive).",
)


@click.command()
@click.argument("suite")
@_SET
@_LIMIT
@_SEED
@_IMAGES
@click.option("--out", type=click.Path(path_type=Path), help="Run folder [results/runs/SUITE].")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1 …; auto: a GPU if there is one.")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--batch-size", type=click.IntRange(1), help="Pictures that travel together; never changes a number.")
@click.option("--workers", type=click.IntRange(1), help="Worker threads [one per CPU core].")
@click.option("--shard", default="1/1", show_default=True, metavar="I/N", help="Every N-th picture, from the I-th.")
@click.option("--overwrite", type=click.Choice(["missing", "always", "never"]), default="missing", show_default=True,
              help="Add what is missing, start afresh, or refuse a folder that holds a run.")  # fmt: skip
def run(
    suite: str, settings: tuple[str, ...], limit: int | None, seed: int | None, images: str | None, out: Path | None,
    device: str, precision: str, batch_size: int | None, workers: int | None, shard: str, overwrite: str,
) -> int:  # fmt: skip
    """Run SUITE (a name from `iqarena list suites`, or a .toml file) and write its leaderboards.

    A run started again adds what is missing and nothing else.
    """
    from iqarena.report import derive
    from iqarena.runner.execute import execute
    from iqarena.store.folder import Store

    plan = _resolve(suite, settings, limit, seed, images)
    options = _options(device, precision, batch_size, shard, workers)
    store = Store(out or Path("results") / "runs" / plan.suite.name)
    command = shlex.join(["iqarena", *sys.argv[1:]])
    progress = partial(_bar, plan.suite.name)
    manifest, rows = execute(plan, store, options, overwrite=overwrite, command=command, progress=progress)
    if manifest.finished:
        click.echo(derive(rows, manifest, store.folder, store.folder / "gallery"))
        click.echo(_places(store.folder))
    else:
        click.echo(f"{len(rows)} of {manifest.planned} rows are in {store.folder}; the other shards make it whole")
    failed = rows[rows["status"] == "error"]
    if len(failed):
        first = failed.iloc[0]
        click.echo(f"{len(failed)} of {len(rows)} rows failed; the first, of {first['image']}: {first['message']}")
    return 3 if len(failed) else 0


@click.command("plan")
@click.argument("suite")
@_SET
@_LIMIT
@_SEED
@_IMAGES
@click.option("--device", default="auto", show_default=True, help="Where to time the models.")
def plan(
    suite: str, settings: tuple[str, ...], limit: int | None, seed: int | None, images: str | None, device: str
) -> None:
    """Say what SUITE would do: pairs, model evaluations, time on this machine. Runs nothing but a short timing.

    Pictures or weights that are not there yet are named, and counted as published.
    """
    from iqarena.tools.forecast import describe_plan

    click.echo(describe_plan(_resolve(suite, settings, limit, seed, images), checked_device(device)))


@click.command()
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where to write [the run folder].")
def report(run_folder: Path, out: Path | None) -> None:
    """Rebuild leaderboards, plots and page of RUN_FOLDER from its rows. Needs no torch."""
    from iqarena.report import derive
    from iqarena.store.folder import Store

    store = Store(run_folder)
    click.echo(derive(store.rows(), store.manifest(), out or run_folder, run_folder / "gallery"))
    click.echo(_places(out or run_folder))


@click.command()
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.argument("first")
@click.argument("second")
def compare(run_folder: Path, first: str, second: str) -> None:
    """Does attack FIRST beat SECOND in RUN_FOLDER? Paired over held-out pairs and photographs. Needs no torch."""
    from iqarena.report.pairs import pair_table
    from iqarena.report.studies.compare import comparison
    from iqarena.report.text.documents import terminal
    from iqarena.store.folder import Store

    store = Store(run_folder)
    rows = store.rows()
    click.echo(terminal([comparison(pair_table(rows, store.manifest()), first, second)], {}).strip())


@click.command()
@click.option("--limit", type=click.IntRange(1), help="First pictures only; all of them take about ten minutes.")
def speed(limit: int | None) -> None:
    """Share of `pocket`'s wall time that is not model evaluation, and our attacks against torchattacks'."""
    from iqarena.tools.speed import speed_report

    click.echo(speed_report(_resolve("pocket", (), limit, None, None)))


def _places(folder: Path) -> str:
    folders = (f", {name}/" for name in ("plots", "gallery", "rows") if (folder / name).is_dir())
    return f"In {folder}: index.html (start here), leaderboard.md, leaderboard_*.csv, pairs.csv" + "".join(folders)


@contextmanager
def _bar(suite: str, cells: int) -> Iterator[Callable[[int], object]]:
    """A progress bar that comes with the first cell, so that a mistake that is noticed while loading is one line."""
    from tqdm import tqdm

    with tqdm(total=cells, desc=suite, unit="cell", smoothing=0.02, delay=1e-3) as bar:
        yield bar.update


def _resolve(suite: str, settings: tuple[str, ...], limit: int | None, seed: int | None, images: str | None) -> Plan:
    from iqarena.suite.file import load_suite
    from iqarena.suite.plan import resolve

    overrides = dict(_setting(text) for text in settings)
    flags = {"limit": limit, "seed": seed}
    overrides |= {key: value for key, value in flags.items() if value is not None}
    return resolve(load_suite(suite, overrides, images))


def _setting(text: str) -> tuple[str, Any]:
    """``key=value``: a TOML value, or else a bare string."""
    key, mark, value = text.partition("=")
    if not mark:
        raise IqarenaError(f"--set: expected key=value, found {text!r}; for example --set seed=1")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def checked_device(name: str) -> str:
    """``--device`` as torch takes it."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise IqarenaError(f"--device: expected auto, cpu, cuda or cuda:N, found {name!r}")
    there = torch.cuda.device_count()
    if name != "cpu" and int(name.partition(":")[2] or 0) >= there:
        raise IqarenaError(f"--device {name}: torch sees {there} GPUs here; use --device cpu or auto")
    return name


def _options(device: str, precision: str, batch_size: int | None, shard: str, workers: int | None) -> Options:
    from iqarena.runner.driver import Options

    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    part = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= part[0] <= part[1]:
        raise IqarenaError(f"--shard: expected I/N with 1 ≤ I ≤ N, found {shard!r}; for example 1/2")
    return Options(checked_device(device), precision, batch_size, cast("tuple[int, int]", part), workers)
