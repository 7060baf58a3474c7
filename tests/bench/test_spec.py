"""Spec strings: what a plugin prints leads back to it, and nothing but a SpecError comes from garbage."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iqarena.api import FilterChain, Plugin, SpecError
from iqarena.api.spec import MAX_NESTING, Call, Chain, Number, format_number, parse
from iqarena.registry.tables import build, build_attack, build_filter, plugin_class

T = TypeVar("T")
properties = settings(derandomize=True, deadline=None, database=None, max_examples=150)

UNIT = st.floats(0, 1) | st.integers(0, 255).map(lambda n: n / 255) | st.integers(0, 510).map(lambda n: n / 510)
KEEP = UNIT.filter(lambda value: value > 0)
ALPHA = st.none() | KEEP
STEPS = st.integers(1, 10**9)


def plugins(kind: str, name: str, **fields: st.SearchStrategy) -> st.SearchStrategy[Plugin]:
    return st.builds(plugin_class(kind, name), **fields)  # pyright: ignore[reportArgumentType]


ONE_FILTER = st.one_of(
    plugins("filter", "none"),
    plugins("filter", "random", keep=KEEP),
    plugins("filter", "fourier_topk", keep=KEEP),
    plugins("filter", "jnd", threshold=st.floats(0, 1e6) | st.integers(0, 50)),
)
FILTERS = ONE_FILTER | st.lists(ONE_FILTER, min_size=2, max_size=4).map(lambda chain: FilterChain(filters=tuple(chain)))  # pyright: ignore[reportArgumentType]
ATTACKS = st.one_of(
    plugins("attack", "fgsm", eps=UNIT),
    plugins("attack", "pgd", eps=UNIT, steps=STEPS, alpha=ALPHA, random_start=st.booleans()),
    plugins("attack", "mi_fgsm", eps=UNIT, steps=STEPS, alpha=ALPHA, decay=st.floats(0, 1e9)),
    plugins("attack", "noise", eps=UNIT, mask=FILTERS),
    plugins("attack", "sega", samples=STEPS, sigma=UNIT, gradient_filter=FILTERS, mask=FILTERS),
    plugins("attack", "sega", weights=st.sampled_from(["equal", "range", "l2"]), sigma=st.just("auto"), decay=UNIT),
    plugins("attack", "torchattacks.MIFGSM", alpha=ALPHA, decay=st.floats(0, 1e9)),
)


@properties
@given(ATTACKS)
def test_an_attack_is_its_spec_and_its_label(attack: Plugin) -> None:
    assert build("attack", repr(attack)) == attack
    assert build("attack", attack.label) == attack
    assert repr(build("attack", attack.label)) == repr(attack)
    assert len(attack.label) <= len(repr(attack))


@properties
@given(FILTERS)
def test_a_filter_is_its_spec_and_its_label(actual: Plugin) -> None:
    assert build("filter", repr(actual)) == actual
    assert build("filter", actual.label) == actual


@properties
@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 1020).map(lambda n: n / 1020))
def test_a_printed_number_reads_back_as_the_very_same(value: float) -> None:
    assert Number(format_number(value)).value == value


@properties
@given(st.integers(-(10**17), 10**17))
def test_whole_numbers_keep_every_digit(value: int) -> None:
    number = Number(format_number(value))
    assert number.integer
    assert int(number.text) == value


@properties
@given(st.text() | st.text("pgdsega_(),=|/. \t0123456789+-einfo"))
def test_garbage_is_a_spec_error(text: str) -> None:
    chain = _or_spec_error(lambda: parse(text))
    assert chain is None or chain.calls


WORDS = [
    "pgd",
    "sega",
    "noise",
    "(",
    ")",
    ",",
    "=",
    "|",
    "eps",
    "mask",
    "alpha",
    "none",
    "true",
    "random",
    "jnd",
    "8/255",
    "1/0",
]
WORDS += [
    "1e999",
    "-3",
    "1.5",
    "9" * 5000,
    "steps",
    "weights",
    "torchattacks.FGSM",
    "auto",
    "samples",
    "keep",
    "é",
    " ",
]


@properties
@given(st.lists(st.sampled_from(WORDS), max_size=14).map("".join))
def test_nonsense_of_valid_words_is_a_spec_error_or_a_plugin(text: str) -> None:
    for kind in ("attack", "filter"):
        plugin = _or_spec_error(lambda kind=kind: build(kind, text))
        assert plugin is None or build(kind, repr(plugin)) == plugin


@properties
@given(st.data())
def test_a_broken_spec_is_a_spec_error(data: st.DataObject) -> None:
    """One character of a good spec removed, doubled or replaced."""
    text = "sega(samples=3, sigma=2/255, gradient_filter=none, mask=jnd(threshold=6)|random(keep=0.5))"
    at = data.draw(st.integers(0, len(text) - 1))
    middle = data.draw(st.sampled_from(["", 2 * text[at], "(", ")", ",", "=", "|", "/", "0", "x", "\n", "\0"]))
    plugin = _or_spec_error(lambda: build("attack", text[:at] + middle + text[at + 1 :]))
    assert plugin is None or build("attack", repr(plugin)) == plugin


def _or_spec_error(make: Callable[[], T]) -> T | None:
    """What ``make`` gives, or nothing after a one-line SpecError; any other error goes through."""
    try:
        return make()
    except SpecError as error:
        message = str(error)
    assert "\n" not in message
    return None


def test_grammar() -> None:
    assert parse("pgd") == Chain((Call("pgd"),)) == parse(" pgd ( ) ")
    assert parse("pgd(4/255, steps = 10,)").single == Call("pgd", (Number("4/255"),), (("steps", Number("10")),))
    nested = parse("a(b(c(1)), x=d|e(y=-.5e-3))").single
    assert nested.args == (Chain((Call("b", (Chain((Call("c", (Number("1"),)),)),)),)),)
    assert nested.kwargs == (("x", Chain((Call("d"), Call("e", (), (("y", Number("-.5e-3")),))))),)
    assert parse("ensemble(cnn, vit)").single.args == (Chain((Call("cnn"),)), Chain((Call("vit"),)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected a name in spec '', found the end"),
        ("   ", "found the end"),
        ("3", "expected a name in spec '3', found '3' at 0"),
        ("pgd(", "expected ')'"),
        ("pgd)", "expected the end in spec 'pgd)', found ')' at 3"),
        ("pgd(eps=)", "expected a name"),
        ("pgd(eps 3)", "expected ',' or ')' in spec 'pgd(eps 3)', found '3' at 8"),
        ("pgd(,)", "expected a name"),
        ("pgd(eps=1, eps=2)", "'eps' is given twice"),
        ("pgd(eps=1, 2)", "name=value after the first named parameter"),
        ("a|", "expected a name"),
        ("|a", "expected a name"),
        ("a||b", "expected a name"),
        ("pgd(eps='8')", 'found "\'" at 8'),
        ("a;b", "found ';' at 1"),
        ("a(1 / 2)", "found '/' at 3"),
        ("__import__('os')", "expected"),
    ],
)
def test_a_surprise_is_named_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert expected in str(caught.value)


@pytest.mark.parametrize("text", ["1/0", "1e999", "-1e999", "1e308/0.1"])
def test_numbers_are_finite(text: str) -> None:
    with pytest.raises(SpecError):
        build_attack(f"fgsm(eps={text})")


def test_fractions_are_exact() -> None:
    assert Number("8/255").value == 8 / 255
    assert Number("-1.5/255").value == -1.5 / 255
    assert build_attack("fgsm(8/255)") == build_attack("fgsm(eps=0.03137254901960784)") == build_attack("fgsm")
    assert build_attack("fgsm(eps=0.0313725490197)") != build_attack("fgsm")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8 / 255, "8/255"),
        (2.5 / 255, "5/510"),
        (0.75 / 255, "3/1020"),
        (0.5, "0.5"),
        (0.2, "0.2"),
        (1.0, "1"),
        (-3, "-3"),
        (6.25, "6.25"),
        (1e-13, "1e-13"),
        (math.inf, "inf"),
    ],
)
def test_numbers_are_printed_short(value: float, text: str) -> None:
    assert format_number(value) == text


def test_nesting_has_an_end() -> None:
    deep = MAX_NESTING * "a(" + "b" + MAX_NESTING * ")"
    assert parse(deep).single.name == "a"
    with pytest.raises(SpecError, match="nested"):
        parse(f"a({deep})")
    with pytest.raises(SpecError, match="nested"):
        parse(100_000 * "a(")


def test_chains() -> None:
    chain = build_filter("jnd(threshold=6) | fourier_topk(0.5)")
    assert repr(chain) == "jnd(threshold=6)|fourier_topk(keep=0.5)"
    assert chain.label == "jnd|fourier_topk"
    assert not chain.stochastic
    assert build_filter("jnd|random").stochastic
    with pytest.raises(SpecError, match="chain of 2"):
        build_attack("fgsm|pgd")
    with pytest.raises(SpecError, match="expected a number"):
        build_attack("pgd(eps=fgsm|jnd)")


def test_a_chain_that_would_nest_too_deep_is_refused() -> None:
    with pytest.raises(SpecError, match=r"at most 20 calls joined by '\|', found more in spec 'jpeg"):
        parse("jpeg|" * 900 + "cnn")


def test_an_error_shows_the_beginning_of_a_long_spec() -> None:
    for text in ("=" * 5000, "a(" + "9" * 5000, "a(b=1 " + "c" * 5000):
        with pytest.raises(SpecError) as caught:
            parse(text)
        assert len(str(caught.value)) < 700
