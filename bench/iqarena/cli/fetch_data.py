"""``fetch data``: where published image sets are had, under which terms, and whether a copy is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from iqarena.errors import IqarenaError, nearest

if TYPE_CHECKING:
    from iqarena.images.sets.database import Database


@click.command("data")
@click.argument("name", required=False)
@click.option("--verify", "check", is_flag=True, help="Check the unpacked copy: file list, numbers, every image.")
@click.option("--path", metavar="FOLDER", help="Where the copy lies [$IQARENA_DATA/NAME].")
def data(name: str | None, check: bool, path: str | None) -> int:
    """Where the image set NAME is had, under which terms, and where to put it; without NAME, all of them.

    Nothing is downloaded: most sets are had by accepting terms on their authors' pages.
    """
    from tabulate import tabulate

    known = _databases()
    if name is None:
        if check or path:
            raise click.UsageError("--verify and --path need the NAME of an image set")
        rows = [(one.name, one.title, one.home, _state(one)) for one in known.values()]
        click.echo(tabulate(rows, headers=["image set", "", "had from", "here"], tablefmt="simple"))
        return 0
    if name not in known:
        raise IqarenaError(f"unknown image set {name!r}{nearest(name, known)}; see: iqarena fetch data")
    images = type(known[name])(path=path) if path else known[name]
    if check:
        return _verified(images)
    facts = {
        images.name: images.title,
        "had from": images.home,
        "terms": images.terms,
        "images": ", ".join(f"{number} {split}" for split, number in images.splits.items()),
        "put it in": f"{images.folder}  (so that it holds {', '.join(images.layout)})",
        "here": _state(images),
        "check it": f"iqarena fetch data {name} --verify",
    }
    click.echo(tabulate(facts.items(), tablefmt="plain"))
    return 0


def _databases() -> dict[str, Database]:
    """Every image set that is a published database, with its default parameters."""
    from iqarena.images.sets.database import Database
    from iqarena.registry.tables import names, plugin_class

    classes = [plugin_class("imageset", name) for name in names("imageset")]
    return {cls.name: cast("type[Database]", cls)() for cls in classes if issubclass(cls, Database)}


def _state(images: Database) -> str:
    """What is found, without opening an image."""
    from iqarena.errors import ImageError

    if not images.folder.exists():
        return "no"
    try:
        return f"{len(images.items())} images of {images.published} in split {images.split}"
    except ImageError as error:
        return str(error)


def _verified(images: Database) -> int:
    from iqarena.files.progress import progress_bar
    from iqarena.tools.verify import verify

    complete = True
    with progress_bar(desc=images.name, unit="image", delay=1) as bar:
        for good, line in verify(images, bar.update):
            bar.clear()
            click.echo(f"{'ok  ' if good else 'FAIL'}  {line}")
            complete &= good
    return 0 if complete else 3
