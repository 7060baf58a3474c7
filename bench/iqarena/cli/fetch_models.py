"""``fetch models``: bring weights that are not shipped, once, so that runs need no network."""

from __future__ import annotations

import click


@click.command()
@click.argument("names", nargs=-1, required=True)
def models(names: tuple[str, ...]) -> None:
    """Bring the files of the models NAMES (see: iqarena list models) into the cache, or into --weights-dir.

    A broken download goes on where it was. Every file is checked against its hash where that is known.
    """
    from iqarena.files.weights import obtain
    from iqarena.registry.tables import build_model

    for model in [build_model(name) for name in names]:
        for file in model.files:
            path = obtain(file)
            click.echo(f"{model.name}: {path}{'' if file.expected else ' (its hash is not known: not checked)'}")
        if not model.files:
            click.echo(f"{model.name}: nothing to bring")
