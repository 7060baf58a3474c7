"""The command line. Heavy libraries are imported inside commands, so that ``--help`` answers at once."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType

import click

from iqarena import __version__
from iqarena.cli.check import check, new
from iqarena.cli.diff import diff
from iqarena.cli.export import export
from iqarena.cli.fetch import fetch
from iqarena.cli.fetch_data import data
from iqarena.cli.fetch_models import models
from iqarena.cli.look import cite, describe, doctor, list_
from iqarena.cli.merge import merge
from iqarena.cli.options import Session, add_global_options
from iqarena.cli.run import compare, plan, report, run, speed
from iqarena.cli.score import attack, score
from iqarena.cli.sweep import sweep
from iqarena.cli.train import train
from iqarena.errors import IqarenaError, Stopped, nearest, plain

DONE, USER_MISTAKE, UNFINISHED = 0, 2, 3


class _Commands(click.Group):
    """Names the nearest command when there is none of that name."""

    def resolve_command(self, ctx: click.Context, args: list[str]):
        if args[0] not in self.commands and not args[0].startswith("-"):
            raise click.UsageError(f"unknown command {args[0]!r}{nearest(args[0], self.commands)}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Compare adversarial attacks on no-reference image quality models.

    The options below work before a command and after it.

    Exit codes: 0 all good, 2 a mistake in what was asked (one line says which), 3 an incomplete run (stopped, with
    failed rows, or with rows that other shards are yet to add) or an image without a score.
    """


for command in (
    run, plan, report, compare, diff, export, merge, score, attack, train, sweep, fetch, list_, describe, cite, check,
    new, doctor, speed,
):  # fmt: skip
    main.add_command(command)
fetch.add_command(data)
fetch.add_command(models)
add_global_options(main)


def entry(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; what a user can mend is one line on stderr, after the traceback where it was asked for."""
    told = Session()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that is not UTF-8 is shown, not an error
    try:
        with _stopped_by_signals():
            sys.exit(main(args=arguments, prog_name="iqarena", standalone_mode=False, obj=told) or DONE)
    except IqarenaError as error:
        _fail(str(error), told)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(USER_MISTAKE)
    except click.UsageError as error:
        _fail(_usage(error), told)
    except OSError as error:  # a disk that is full, a place that may not be written
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}; what is stored stays, mend that and run again", told)
    except (KeyboardInterrupt, click.Abort) as error:
        stopped = error if isinstance(error, Stopped) else error.__cause__
        if isinstance(stopped, Stopped):
            click.echo(f"iqarena: not waited for: {plain(str(stopped))}", err=True)
        click.echo("iqarena: stopped; what is stored stays, the same command goes on from there", err=True)
        if isinstance(stopped, Stopped):  # a thread in the middle of an evaluation must not meet the interpreter's end
            sys.stdout.flush()
            os._exit(UNFINISHED)
        sys.exit(UNFINISHED)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """^C and SIGTERM, which batch systems send, are ``KeyboardInterrupt`` meanwhile, where nobody else hears them."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    ours = [one for one, heard in before.items() if heard in (signal.SIG_DFL, signal.default_int_handler)]
    if threading.current_thread() is not threading.main_thread():
        ours = []
    for one in ours:
        signal.signal(one, _interrupt)
    try:
        yield
    finally:
        for one in ours:
            signal.signal(one, before[one])


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise ``KeyboardInterrupt``, but not while torch is being imported: in its C++ it would abort the process."""
    while frame:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__", "").partition(".")[0] == "torch":
            wake = partial(signal.pthread_kill, threading.get_ident()) if os.name == "posix" else signal.raise_signal
            again = threading.Timer(0.05, wake, [number])
            again.daemon = True
            again.start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _usage(error: click.UsageError) -> str:
    """click's message, with the nearest flag and where to read on."""
    message = error.format_message().rstrip(".")
    if isinstance(error, click.NoSuchOption) and error.ctx:
        flags = [flag for one in error.ctx.command.get_params(error.ctx) for flag in one.opts if flag.startswith("--")]
        message = f"unknown option {error.option_name!r}{nearest(error.option_name, flags)}"
    return f"{message}; see: {error.ctx.command_path if error.ctx else 'iqarena'} --help"


def _fail(message: str, told: Session) -> None:
    if told.debug:
        traceback.print_exc()
    click.echo(f"iqarena: {plain(message)}", err=True)
    sys.exit(USER_MISTAKE)
