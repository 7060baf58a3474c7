"""The options that every verb takes, before it or after it, and what they come to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from iqarena.errors import IqarenaError
from iqarena.files.place import place
from iqarena.files.progress import QUIET
from iqarena.files.weights import OFFLINE, WEIGHTS_DIR

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Session:
    """What one call of the command line was told beside its verb."""

    debug: bool = False
    json: bool = False


class Folder(click.Path):
    """A folder of this machine to write into; it has to be named, as an empty text would be the current one."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        name = param.opts[0] if param else "folder"
        if not str(value):
            raise IqarenaError(f"{name}: expected a folder, found ''; write . for {Path.cwd()}")
        if "://" in str(value):
            raise IqarenaError(f"{name}: expected a folder of this machine, found {value!r}")
        return super().convert(value, param, ctx)


class Place(Folder):
    """A folder, or the URL of one in an object store."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return place(value) if "://" in str(value) else super().convert(value, param, ctx)


def session() -> Session:
    """That of the command that is running."""
    return click.get_current_context().find_root().ensure_object(Session)


def answer(text: Callable[[], str], data: Callable[[], Any]) -> None:
    """``data`` for ``--json``, else ``text``; only the one that is wanted is made."""
    click.echo(json.dumps(data(), indent=1, ensure_ascii=False) if session().json else text())


def json_option(command: F) -> F:
    """``--json`` for a verb that a machine may read."""
    return click.option(
        "--json", is_flag=True, is_eager=True, expose_value=False, callback=_flag("json"), help="JSON on stdout."
    )(command)


def add_global_options(group: click.Group) -> None:
    """To ``group`` and everything below it; the help shows them once, at the group."""
    group.params += _options(hidden=False)
    group.params.append(_option("--json", _flag("json"), "JSON on stdout, of commands that have it.", is_flag=True))
    for command in _below(group):
        command.params += _options(hidden=True)
        if all("--json" not in option.opts for option in command.params):
            command.params.append(_option("--json", _no_json, "", is_flag=True, hidden=True))


def _below(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from _below(command)


def _options(hidden: bool) -> list[click.Parameter]:
    path = click.Path(path_type=Path)
    return [
        _option("--plugin", _plugins, "Python file with plugins.", multiple=True, type=path, hidden=hidden),
        _option("--weights-dir", _weights, "Folder of model files, looked at first.", type=path, hidden=hidden),
        _option("--offline", _environment(OFFLINE), "Open no socket; say what is missing and where it can be had.",
                is_flag=True, hidden=hidden),
        _option("--debug", _flag("debug"), "Show the traceback behind an error.", is_flag=True, hidden=hidden),
        _option("--quiet", _environment(QUIET), "No progress bars.", is_flag=True, hidden=hidden),
    ]  # fmt: skip


def _option(flag: str, callback: Callable[..., None], help: str, **options: Any) -> click.Option:
    return click.Option([flag], callback=callback, help=help, expose_value=False, is_eager=True, **options)


def _flag(name: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def note(ctx: click.Context, _: click.Parameter, given: bool) -> None:
        if given:
            setattr(ctx.find_root().ensure_object(Session), name, True)

    return note


def _environment(name: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def switch(ctx: click.Context, _: click.Parameter, given: bool) -> None:
        if given:
            os.environ[name] = "1"

    return switch


def _no_json(ctx: click.Context, _: click.Parameter, given: bool) -> None:
    if given or ctx.find_root().ensure_object(Session).json:
        raise click.UsageError(f"--json: {ctx.info_name!r} has nothing for a machine; leave it out", ctx)


def _plugins(ctx: click.Context, _: click.Parameter, paths: tuple[Path, ...]) -> None:
    from iqarena.registry.tables import add_file

    for path in paths:
        add_file(path)


def _weights(ctx: click.Context, _: click.Parameter, folder: Path | None) -> None:
    if folder is not None and not folder.is_dir():
        raise IqarenaError(f"--weights-dir: expected a folder, found no {folder}")
    if folder is not None:
        os.environ[WEIGHTS_DIR] = str(folder)
