"""What the fuzz tests share: how many cases there are, and what may come of bad input.

``make test`` runs a few hundred cases, the same ones every time; ``make fuzz`` sets ``IQARENA_FUZZ`` and runs so many
times as many, other ones each time. A failure prints its case as small as Hypothesis can make it: that becomes a plain
test of its own.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from toyruns import Answer

from iqarena.cli import entry
from iqarena.errors import IqarenaError

TIMES = int(os.environ.get("IQARENA_FUZZ") or 1)
T = TypeVar("T")

ODD_TEXT = st.one_of(
    st.text(max_size=12),
    st.text(
        st.characters(codec=None, categories=["Cs", "Cc", "Lu"]), max_size=4
    ),  # lone surrogates, control characters
    st.sampled_from(["", " ", "..", "/", "~nobody/x", "\0", "a\nb", "\udcff", "%s", "{", "x" * 300, "none", "١"]),
)
ODD_NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -1, 2**63, 10**400, 1e308]))
ODD_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), ODD_NUMBERS, ODD_TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(ODD_TEXT, inner, max_size=3)),
    max_leaves=6,
)


def cases(number: int) -> Callable[[T], T]:
    """``number`` cases of a test, or in ``make fuzz`` many times as many."""
    return settings(
        max_examples=number * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
    )


def outcome(call: Callable[[], Any]) -> str:
    """The one line that refuses an input, empty when it is taken; whatever else is raised is a fault of ours."""
    try:
        call()
    except IqarenaError as error:
        message = str(error)
        assert message
        assert len(message) < 3000, "an error shows its input cut"
        return message
    return ""


def command_line(*arguments: object) -> Answer:
    """The command line in this process, with streams as strict as a terminal's; it leaves the environment as it was."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    environment, code = dict(os.environ), -1
    try:
        with redirect_stdout(out), redirect_stderr(err):
            entry([str(a) for a in arguments])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    finally:
        os.environ.clear()
        os.environ.update(environment)
    return Answer(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))  # pyright: ignore


@st.composite
def damaged(draw: st.DrawFn, originals: Sequence[bytes]) -> bytes:
    """One of these files cut anywhere, with bytes overwritten, taken out or put in, or bytes that never were one."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["cut", "write", "write", "take", "put", "head"]))
        if kind == "cut":
            del data[at:]
        elif kind == "head":
            at = min(at, 40)
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=4))
        else:
            patch = draw(st.binary(min_size=1, max_size=8))
            data[at : at + (0 if kind == "put" else len(patch))] = b"" if kind == "take" else patch
    return bytes(data) if draw(st.integers(0, 15)) else draw(st.binary(max_size=60))
