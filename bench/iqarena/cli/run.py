"""``run``, ``plan``, ``report``, ``compare`` and ``speed``: suites and what comes of them."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from iqarena.cli.options import Place, answer, json_option
from iqarena.client import run as client
from iqarena.client.checks import check_workers
from iqarena.client.stored import Run, load
from iqarena.errors import IqarenaError
from iqarena.suite.file import DEFAULT

F = TypeVar("F", bound=Callable[..., Any])


def suite_options(command: F) -> F:
    """What changes a suite before it runs."""
    for option in (
        click.option(
            "--images",
            metavar="PLACE|SET",
            help="Where the suite's own set lies, else a folder of images, or another set (clive).",
        ),
        click.option("--seed", type=click.IntRange(0), help="Seed of all random streams."),
        click.option("--limit", type=click.IntRange(1), help="Only the first N images."),
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", callback=_settings,
                     help="Override a suite key (TOML value)."),
    ):  # fmt: skip
        command = option(command)
    return command


def executor_options(command: F) -> F:
    """Where cells run."""
    for option in (
        click.option("--ray-address", metavar="ADDRESS", help="Of a running cluster [one is started on this machine]."),
        click.option("--workers-kind", type=click.Choice(["thread", "process"]), default="thread", show_default=True,
                     help="Of the local executor; a plugin that crashes a process costs its own rows."),
        click.option("--executor", type=click.Choice(["local", "ray"]), default="local", show_default=True,
                     help="Where cells run: on this machine, or on a Ray cluster."),
    ):  # fmt: skip
        command = option(command)
    return command


def _settings(ctx: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, Any]:
    """``key=value``: a TOML value, or else a bare string."""
    settings: dict[str, Any] = {}
    for text in texts:
        key, mark, value = text.partition("=")
        if not mark:
            raise IqarenaError(f"--set: expected key=value, found {text!r}; for example --set seed=1")
        try:
            settings[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):  # no TOML, a number of too many digits, too deep
            settings[key.strip()] = value.strip()
    return settings


def _shard(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise IqarenaError(f"--shard: expected I/N with 1 ≤ I ≤ N, found {text!r}; for example 1/2")
    return int(match[1]), int(match[2])


@click.command()
@click.argument("suite")
@suite_options
@click.option("--out", type=Place(), help="Run folder [results/runs/SUITE].")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1 …; auto: a GPU if there is one.")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--batch-size", type=click.IntRange(1), help="Images that travel together; never changes a number.")
@click.option("--workers", type=click.IntRange(1), help="Cells at a time [one per CPU core, or GPU].")
@executor_options
@click.option("--cell-timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Limit for one attack on one image; needs process or Ray workers.")  # fmt: skip
@click.option("--shard", default="1/1", show_default=True, metavar="I/N", callback=_shard,
              help="Every N-th image, from the I-th.")  # fmt: skip
@click.option("--keep", type=click.Choice(["adversarials"]), help="Keep every adversarial image in the run folder.")
@click.option("--overwrite", type=click.Choice(["missing", "always", "never"]), default="missing", show_default=True,
              help="Add what is missing, start afresh, or refuse a folder that holds a run.")  # fmt: skip
@json_option
def run(
    suite: str, settings: dict[str, Any], limit: int | None, seed: int | None, images: str | None, out: Path | None,
    device: str, precision: Literal["fp32", "bf16"], batch_size: int | None, workers: int | None,
    executor: Literal["local", "ray"], workers_kind: Literal["thread", "process"], ray_address: str | None,
    cell_timeout: float | None, shard: tuple[int, int], keep: str | None,
    overwrite: Literal["missing", "always", "never"],
) -> int:  # fmt: skip
    """Run SUITE (a name from `iqarena list suites`, or a .toml file) and write its leaderboards.

    A run started again adds what is missing and nothing else; more attacks, sources, targets or images may be added to
    the same folder.
    """
    settings |= {"keep": keep} if keep else {}
    done = client.run(
        suite, out, settings=settings, limit=limit, seed=seed, images=images, device=device, precision=precision,
        batch_size=batch_size, workers=workers, executor=executor, workers_kind=workers_kind, ray_address=ray_address,
        cell_timeout=cell_timeout, shard=shard, overwrite=overwrite,
        command=shlex.join(["iqarena", *sys.argv[1:]]),
    )  # fmt: skip
    boards = done.boards() if done.finished else ""
    answer(lambda: _text(done, boards, shard), lambda: _data(done))
    return 0 if done.complete else 3


@click.command("plan")
@click.argument("suite")
@suite_options
@click.option("--device", default="auto", show_default=True, help="Where to time the models.")
def plan(
    suite: str, settings: dict[str, Any], limit: int | None, seed: int | None, images: str | None, device: str
) -> None:
    """Say what SUITE would do: pairs, model evaluations, time on this machine. Runs nothing but a short timing.

    Weights or a database that are not there yet are named, the latter counted as published; a folder has to be there.
    """
    from iqarena.engine.device import checked_device
    from iqarena.tools.forecast import describe_plan

    resolved = client.resolved(suite, settings, limit=limit, seed=seed, images=images)
    click.echo(describe_plan(resolved, checked_device(device)))


@click.command()
@click.argument("run_folder", type=Place())
@click.option("--out", type=Place(), help="Where to write [the run folder].")
@json_option
def report(run_folder: Path, out: Path | None) -> None:
    """Rebuild leaderboards, plots and page of RUN_FOLDER from its rows. Needs no torch."""
    stored = load(run_folder)
    boards = stored.report(out)
    answer(lambda: f"{boards}\n{_places(out or run_folder)}", lambda: _data(stored))


@click.command()
@click.argument("run_folder", type=Place())
@click.argument("first")
@click.argument("second", required=False)
def compare(run_folder: Path, first: str, second: str | None) -> None:
    """Does attack FIRST beat SECOND (or the suite's reference) in RUN_FOLDER? Paired over held-out pairs and reference
    images. Needs no torch."""
    click.echo(load(run_folder).compare(first, second))


@click.command()
@click.argument("suite", default=DEFAULT)
@click.option("--limit", type=click.IntRange(1), help="First images only; all of them take about ten minutes.")
@click.option("--matrix", is_flag=True, help="The whole SUITE against crafting anew for each source and target.")
@click.option("--growth", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="Seconds and memory against what there is more of: table and figure.")  # fmt: skip
@executor_options
def speed(
    suite: str, limit: int | None, matrix: bool, growth: Path | None, executor: Literal["local", "ray"],
    workers_kind: Literal["thread", "process"], ray_address: str | None,
) -> None:  # fmt: skip
    """Share of SUITE's wall time that is not model evaluation, and each gradient attack beside its gradients.

    SUITE is `pocket` when left out; `torchattacks` has ours beside theirs.
    """
    from iqarena.runner.driver import Options
    from iqarena.tools.speed import speed_report
    from iqarena.tools.speed_growth import growth_report
    from iqarena.tools.speed_matrix import matrix_report

    if matrix and growth:
        raise click.UsageError("--matrix and --growth are two measurements; take one of them")
    check_workers(executor, workers_kind, ray_address, None)
    options = Options(executor=executor, workers_kind=workers_kind, ray_address=ray_address)
    if (matrix or growth) and options != Options():
        raise click.UsageError("--executor and --workers-kind are of the run alone; leave out --matrix and --growth")
    plan = client.resolved(suite, limit=limit)
    if growth:
        click.echo(growth_report(plan, growth))
    else:
        click.echo(matrix_report(plan) if matrix else speed_report(plan, options))


def _text(done: Run, boards: str, shard: tuple[int, int]) -> str:
    if done.finished:
        lines = [boards, _places(done.folder)]
    else:
        whole = "start it again" if shard == (1, 1) else "the other shards make it whole"
        lines = [f"{len(done.rows)} of {done.manifest.planned} rows are in {done.folder}; {whole}"]
    for _, first in done.failed.head(1).iterrows():
        total = f"{len(done.failed)} of {len(done.rows)} rows failed"
        lines.append(f"{total}; the first, of {first['image']}: {first['message']}")
    return "\n".join(lines)


def _data(done: Run) -> dict[str, Any]:
    boards = {"attacks": done.attacks, "models": done.models} if done.finished else {}
    return {
        "folder": str(done.folder), "finished": done.finished, "rows": len(done.rows), "failed": len(done.failed),
        **{name: json.loads(board.to_json(orient="records", double_precision=15)) for name, board in boards.items()},
    }  # fmt: skip


def _places(folder: Path) -> str:
    from iqarena.files.atomic import plain_errors
    from iqarena.store.pack import FILE

    with plain_errors(f"cannot list {folder}", folder):
        parts = [f"{name}/" for name in ("plots", "gallery", "rows") if any((folder / name).glob("*"))]
        parts += [FILE] if (folder / FILE).exists() else []
    return ", ".join([f"In {folder}: index.html (start here), leaderboard.md, leaderboard_*.csv, pairs.csv", *parts])
