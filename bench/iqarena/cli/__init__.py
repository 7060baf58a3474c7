"""The command line. Heavy libraries are imported inside commands, so that ``--help`` answers at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from iqarena import __version__
from iqarena.cli.look import cite, describe, doctor, list_
from iqarena.cli.run import plan, report, run, speed
from iqarena.cli.train import train
from iqarena.errors import IqarenaError

DONE, USER_MISTAKE, UNFINISHED = 0, 2, 3


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("--plugin", "plugins", multiple=True, type=click.Path(path_type=Path), help="Python file with plugins of your own.")
def main(plugins: tuple[Path, ...]) -> None:
    """Compare adversarial attacks on no-reference image quality models.

    Exit codes: 0 all good, 2 a mistake in what was asked (one line says which), 3 finished with failed or missing cells.
    """
    if plugins:
        from iqarena.registry import add_file

        for path in plugins:
            add_file(path)


for command in (run, plan, report, train, list_, describe, cite, doctor, speed):
    main.add_command(command)


def entry(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; what a user can mend is one line on stderr, never a traceback."""
    try:
        sys.exit(main(args=arguments, prog_name="iqarena", standalone_mode=False) or DONE)
    except IqarenaError as error:
        _fail(str(error))
    except click.ClickException as error:
        _fail(error.format_message())
    except (KeyboardInterrupt, click.Abort):
        click.echo("iqarena: stopped; what is stored stays, the same command goes on from there", err=True)
        sys.exit(UNFINISHED)


def _fail(message: str) -> None:
    click.echo(f"iqarena: {' '.join(message.split())}", err=True)
    sys.exit(USER_MISTAKE)
