"""``score`` and ``attack``: single images, without a suite."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from iqarena.cli.options import answer, json_option
from iqarena.errors import IqarenaError, plain

if TYPE_CHECKING:
    from iqarena.client.scorer import Scorer

_IMAGE = click.Path(path_type=Path)
_DEVICE = click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1 …")


@click.command()
@click.argument("images", nargs=-1, required=True, type=_IMAGE)
@click.option("--model", "models", multiple=True, required=True, help="A scorer: hyper, 'jpeg(quality=70)|cnn' …")
@_DEVICE
@json_option
def score(images: tuple[Path, ...], models: tuple[str, ...], device: str) -> int:
    """Score IMAGES with every MODEL, on 0–100, higher = better.

    An image that cannot be scored is named on stderr and costs no other its scores.
    """
    from iqarena.client.scorer import scorer

    scorers = [scorer(model, device=device) for model in models]
    columns: dict[str, list[float | None]] = {}
    errors: list[IqarenaError] = []
    for one in scorers:
        chunk = one.engine.chunk
        batches = [list(images[k : k + chunk]) for k in range(0, len(images), chunk)]
        scores = [score for batch in batches for score in _scores(one, batch)]
        columns[one.name] = [None if isinstance(score, IqarenaError) else score for score in scores]
        errors += [score for score in scores if isinstance(score, IqarenaError)]
    if len(errors) == len(images) * len(columns):
        raise errors[0]
    rows = [dict(zip(columns, scores, strict=True)) for scores in zip(*columns.values(), strict=True)]
    answer(
        lambda: _table([{"image": str(image), **row} for image, row in zip(images, rows, strict=True)]),
        lambda: [{"image": str(image), "scores": row} for image, row in zip(images, rows, strict=True)],
    )
    for message in dict.fromkeys(str(error) for error in errors):
        click.echo(f"iqarena: {plain(message)}", err=True)
    return 3 if errors else 0


def _scores(scorer: Scorer, images: list[Path]) -> list[float | IqarenaError]:
    """The score of each image of a micro-batch, or why it has none; where one fails, each is scored alone."""
    try:
        return scorer(images)
    except IqarenaError as error:
        if len(images) == 1:
            return [error]
    return [score for image in images for score in _scores(scorer, [image])]


@click.command()
@click.argument("image", type=_IMAGE)
@click.option("--attack", "spec", required=True, help="sega, 'mi_fgsm(eps=4/255)' …; see: iqarena list attacks.")
@click.option("--source", "sources", multiple=True, help="A scorer whose gradients the attack uses; several: ensemble.")
@click.option("--target", help="A scorer to measure; a query attack asks its scores.")
@click.option("--out", type=_IMAGE, required=True, help="Where the adversarial image goes, as PNG.")
@click.option("--direction", type=click.Choice(["mid", "raise", "lower"]), default="mid", show_default=True,
              help="mid: lower a source score above 50, raise any other.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@_DEVICE
@json_option
def attack(
    image: Path, spec: str, sources: tuple[str, ...], target: str | None, out: Path,
    direction: Literal["mid", "raise", "lower"], seed: int, device: str,
) -> None:  # fmt: skip
    """Attack IMAGE, store the result, and say what sources and target score before and after."""
    from iqarena.client.effect import attack_file

    effect, cost = attack_file(image, out, spec, sources, target, direction=direction, seed=seed, device=device)
    rows = [{"scorer": name, "clean": a, "adversarial": b, "change": b - a} for name, (a, b) in effect.scores.items()]
    facts = {"ssim": effect.ssim, "linf": effect.linf, "cost": dataclasses.asdict(cost)}
    answer(
        lambda: f"{_table(rows)}\n\nSSIM {effect.ssim:.3f}, L∞ {255 * effect.linf:.0f}/255; {cost}\nIn {out}",
        lambda: {"image": str(image), "out": str(out), "attack": spec, "scores": rows, **facts},
    )


def _table(rows: list[dict[str, Any]]) -> str:
    from tabulate import tabulate

    return tabulate(rows, headers="keys", tablefmt="simple", floatfmt=".2f", missingval="?")
