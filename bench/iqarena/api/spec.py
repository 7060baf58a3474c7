"""Spec strings: ``mi_fgsm(eps=8/255, steps=10)``, ``ensemble(cnn, vit)``, ``jnd(6)|fourier_topk(keep=0.5)``.

A spec string is parsed, never evaluated. Grammar::

    chain := call ("|" call)*
    call  := name [ "(" [argument ("," argument)*] ")" ]
    argument := [name "="] (number ["/" number] | chain)

A bare ``true``, ``false`` or ``none`` as an argument is read as a name; the plugin's field type decides.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from fractions import Fraction

from iqarena.errors import SpecError

MAX_NESTING = 20  # parentheses in one another, and calls in a chain: each is a scorer or filter inside another
_SHOWN = 200  # characters of a spec in an error
_TOKEN = re.compile(
    r"\s*(?:(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?:/\d+)?)|(?P<name>[A-Za-z_][\w.+-]*)|(?P<mark>[(),=|]))"
)


@dataclass(frozen=True)
class Number:
    """A literal number; ``text`` keeps the way it was written (``8/255``)."""

    text: str

    @property
    def value(self) -> float:
        numerator, _, denominator = self.text.partition("/")
        below = float(denominator or 1)
        if below == 0:
            raise SpecError(f"expected a number, found {_shown(self.text)} with denominator 0")
        if not math.isfinite(value := float(numerator) / below):
            raise SpecError(f"expected a finite number, found {_shown(self.text)}")
        return value

    @property
    def integer(self) -> bool:
        """Whether it is written as a whole number that fits 64 bits."""
        return re.fullmatch(r"[+-]?\d{1,18}", self.text) is not None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Call:
    """One plugin call: name, positional and keyword arguments."""

    name: str
    args: tuple[Number | Chain, ...] = ()
    kwargs: tuple[tuple[str, Number | Chain], ...] = ()

    def __str__(self) -> str:
        arguments = [*map(str, self.args), *(f"{key}={value}" for key, value in self.kwargs)]
        return f"{self.name}({', '.join(arguments)})" if arguments else self.name


@dataclass(frozen=True)
class Chain:
    """Calls joined by ``|``, applied left to right as written; most have one."""

    calls: tuple[Call, ...]

    def __str__(self) -> str:
        return "|".join(map(str, self.calls))

    @property
    def single(self) -> Call:
        if len(self.calls) != 1:
            raise SpecError(f"expected one plugin, found a chain of {len(self.calls)} joined by '|'")
        return self.calls[0]


def parse(text: str) -> Chain:
    """Parse a spec string; raises :class:`SpecError` naming the place of the first surprise."""
    tokens = _tokens(text)
    nesting = itertools.accumulate((token[1] == "(") - (token[1] == ")") for token in tokens)
    if max(nesting, default=0) > MAX_NESTING:
        raise SpecError(f"expected at most {MAX_NESTING} nested parentheses, found more in spec {_shown(text)}")
    chain, at = _chain(tokens, 0, text)
    if at != len(tokens):
        raise _surprise(tokens, at, text, "the end")
    return chain


def format_number(value: float) -> str:
    """Canonical text of a number, which reads back as the very same: integers plain, else ``8/255`` or decimal."""
    if isinstance(value, int) or float(value).is_integer():
        return str(int(value))
    decimal = repr(float(value))
    if not math.isfinite(value):
        return decimal
    scaled = Fraction(value * 255).limit_denominator(4)
    numerator, denominator = scaled.numerator, 255 * scaled.denominator
    fraction = f"{numerator}/{denominator}"
    return fraction if numerator / denominator == value and len(fraction) < len(decimal) else decimal


def _tokens(text: str) -> list[tuple[str, str, int]]:
    tokens, at = [], 0
    stripped = text.rstrip()
    while at < len(stripped):
        match = _TOKEN.match(stripped, at)
        if match is None or match.lastgroup is None:
            raise SpecError(
                f"expected a name, number or one of ( ) , = | in spec {_shown(text)},"
                f" found {stripped[at:].strip()[:1]!r} at {at}"
            )
        tokens.append((match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        at = match.end()
    return tokens


def _chain(tokens: list[tuple[str, str, int]], at: int, text: str) -> tuple[Chain, int]:
    call, at = _call(tokens, at, text)
    calls = [call]
    while at < len(tokens) and tokens[at][1] == "|":
        call, at = _call(tokens, at + 1, text)
        calls.append(call)
    if len(calls) > MAX_NESTING:
        raise SpecError(f"expected at most {MAX_NESTING} calls joined by '|', found more in spec {_shown(text)}")
    return Chain(tuple(calls)), at


def _call(tokens: list[tuple[str, str, int]], at: int, text: str) -> tuple[Call, int]:
    if at >= len(tokens) or tokens[at][0] != "name":
        raise _surprise(tokens, at, text, "a name")
    name, at = tokens[at][1], at + 1
    args: list[Number | Chain] = []
    kwargs: list[tuple[str, Number | Chain]] = []
    if at >= len(tokens) or tokens[at][1] != "(":
        return Call(name), at
    at += 1
    while at < len(tokens) and tokens[at][1] != ")":
        key = None
        if tokens[at][0] == "name" and at + 1 < len(tokens) and tokens[at + 1][1] == "=":
            key, at = tokens[at][1], at + 2
        if at < len(tokens) and tokens[at][0] == "number":
            value, at = Number(tokens[at][1]), at + 1
        else:
            value, at = _chain(tokens, at, text)
        if key is None and kwargs:
            raise SpecError(f"expected name=value after the first named parameter in {_shown(text)}")
        if key is None:
            args.append(value)
        elif any(key == k for k, _ in kwargs):
            raise SpecError(f"parameter {_shown(key)} is given twice in {_shown(text)}")
        else:
            kwargs.append((key, value))
        if at < len(tokens) and tokens[at][1] == ",":
            at += 1
        elif at < len(tokens) and tokens[at][1] != ")":
            raise _surprise(tokens, at, text, "',' or ')'")
    if at >= len(tokens):
        raise _surprise(tokens, at, text, "')'")
    return Call(name, tuple(args), tuple(kwargs)), at + 1


def _surprise(tokens: list[tuple[str, str, int]], at: int, text: str, expected: str) -> SpecError:
    present = f"{_shown(tokens[at][1])} at {tokens[at][2]}" if at < len(tokens) else "the end"
    return SpecError(f"expected {expected} in spec {_shown(text)}, found {present}; write for example 'pgd(steps=10)'")


def _shown(text: str) -> str:
    """``text`` in quotes, the beginning of a long one."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}…"
