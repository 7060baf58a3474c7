"""``run``, ``plan``, ``report`` and ``speed``: suites and what comes of them."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from iqarena.errors import IqarenaError

if TYPE_CHECKING:
    from iqarena.plan import Plan
    from iqarena.runner import Options

_SET = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a suite key (TOML value).")
_LIMIT = click.option("--limit", type=click.IntRange(1), help="Only the first N pictures.")
_SEED = click.option("--seed", type=click.IntRange(0), help="Seed of all random streams.")
_IMAGES = click.option("--images", type=click.Path(path_type=Path), help="A folder of pictures instead of the suite's set.")


@click.command()
@click.argument("suite")
@_SET
@_LIMIT
@_SEED
@_IMAGES
@click.option("--out", type=click.Path(path_type=Path), help="Run folder [results/runs/SUITE].")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1 …; auto takes a GPU if there is one.")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--batch-size", type=click.IntRange(1), help="Pictures that travel together; never changes a number.")
@click.option("--workers", type=click.IntRange(1), help="Worker threads on the CPU [one per core].")
@click.option("--shard", default="1/1", show_default=True, metavar="I/N", help="Only every N-th picture, from the I-th.")
@click.option("--overwrite", type=click.Choice(["missing", "always", "never"]), default="missing", show_default=True,
              help="Add what is missing, start afresh, or refuse a folder that has rows.")  # fmt: skip
def run(
    suite: str, settings: tuple[str, ...], limit: int | None, seed: int | None, images: Path | None, out: Path | None,
    device: str, precision: str, batch_size: int | None, workers: int | None, shard: str, overwrite: str,
) -> int:  # fmt: skip
    """Run SUITE (a name from `iqarena list suites`, or a .toml file) and write its leaderboards.

    A run started again adds what is missing and nothing else.
    """
    from iqarena.report import derive
    from iqarena.store import Store

    plan = _resolve(suite, settings, limit, seed, images)
    options = _options(device, precision, batch_size, shard, workers)
    store = Store(out or Path("results") / "runs" / plan.suite.name)
    manifest = _execute(plan, store, options, overwrite)
    click.echo(derive(store.rows(), manifest, store.folder, store.folder / "gallery"))
    failed = manifest["planned"] - manifest["rows"]["ok"]
    if failed:
        first = store.rows().query("status == 'error'")["message"].head(1).tolist()
        click.echo(f"{failed} of {manifest['planned']} rows are missing or failed" + (f"; first: {first[0]}" if first else ""))
    return 3 if failed else 0


@click.command("plan")
@click.argument("suite")
@_SET
@_LIMIT
@_SEED
@_IMAGES
def plan(
    suite: str, settings: tuple[str, ...], limit: int | None, seed: int | None, images: Path | None
) -> None:
    """Say what SUITE would do: pairs, model evaluations, time on this machine. Runs nothing but a short timing."""
    from iqarena.cost import describe_plan

    click.echo(describe_plan(_resolve(suite, settings, limit, seed, images)))


@click.command()
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where to write [the run folder].")
def report(run_folder: Path, out: Path | None) -> None:
    """Rebuild leaderboards, plots and page of RUN_FOLDER from its rows. Needs no torch."""
    from iqarena.report import derive
    from iqarena.store import Store

    store = Store(run_folder)
    click.echo(derive(store.rows(), store.manifest(), out or store.folder, store.folder / "gallery"))


@click.command()
@click.option("--limit", type=click.IntRange(1), default=4, show_default=True, help="Pictures of the pocket suite to run.")
def speed(limit: int) -> None:
    """Share of `pocket`'s wall time that is not model evaluation, and our attacks against torchattacks'."""
    from iqarena.cost import speed_report

    click.echo(speed_report(_resolve("pocket", (), limit, None, None)))


def _execute(plan: Plan, store: Any, options: Options, overwrite: str) -> dict[str, Any]:
    """Run with a progress bar; returns the finished manifest."""
    from tqdm import tqdm

    from iqarena.gallery import write_index
    from iqarena.manifest import build_manifest, check_same_run, finish
    from iqarena.runner import run_plan, shard_items

    store.create()
    if overwrite == "always":
        store.clear()
    if overwrite == "never" and any(store.rows_folder.glob("*.parquet")):
        raise IqarenaError(f"{store.folder} already holds rows; choose another --out, or --overwrite missing to go on")
    manifest = build_manifest(plan, options, shlex.join(["iqarena", *sys.argv[1:]]))
    if overwrite != "always":
        manifest["started"] = check_same_run(store, manifest) or manifest["started"]
    store.write_manifest(manifest)
    cells = len(shard_items(plan, options.shard)) * len(plan.sources)
    with tqdm(total=cells, desc=plan.suite.name, unit="cell", smoothing=0.02) as bar:
        run_plan(plan, store, options, tick=bar.update)
    write_index(store.folder, plan)
    manifest = finish(manifest, store)
    store.write_manifest(manifest)
    return manifest


def _resolve(
    suite: str, settings: tuple[str, ...], limit: int | None, seed: int | None, images: Path | None
) -> Plan:
    from iqarena.plan import load_suite, resolve

    overrides = dict(_setting(text) for text in settings)
    flags = {"limit": limit, "seed": seed, "images": {"set": "folder", "path": str(images)} if images else None}
    overrides |= {key: value for key, value in flags.items() if value is not None}
    return resolve(load_suite(suite, overrides))


def _setting(text: str) -> tuple[str, Any]:
    """``key=value``: a TOML value, or else a bare string."""
    key, mark, value = text.partition("=")
    if not mark:
        raise IqarenaError(f"--set: expected key=value, found {text!r}; for example --set seed=1")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def _options(device: str, precision: str, batch_size: int | None, shard: str, workers: int | None) -> Options:
    import torch

    from iqarena.runner import Options

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise IqarenaError(f"--device: expected cpu, cuda or cuda:N, found {device!r}")
    if device != "cpu" and not torch.cuda.is_available():
        raise IqarenaError(f"--device {device}: torch sees no GPU here; use --device cpu")
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    part = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= part[0] <= part[1]:
        raise IqarenaError(f"--shard: expected I/N with 1 ≤ I ≤ N, found {shard!r}; for example 1/2")
    return Options(device, precision, batch_size, cast("tuple[int, int]", part), workers)
