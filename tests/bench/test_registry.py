"""The registry talks: what is unknown, what is nearest, who collides with whom, what to install."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from iqarena.errors import nearest
from iqarena.registry import tables as registry
from iqarena.registry.tables import IqarenaError, SpecError, build, build_attack, build_filter, build_model, names

PLUGIN = """
from dataclasses import dataclass
from typing import Optional

from iqarena.api import Attack, Filter


@dataclass(frozen=True, kw_only=True, repr=False)
class Mine(Attack):
    name = "{name}"

    weight: Optional[float] = None
    kind: str = "plain"

    def perturb(self, x, source, streams):
        return x


Alias = Mine


class Abstract(Filter):
    pass
"""


DECORATOR = "@dataclass(frozen=True, kw_only=True, repr=False)"


@pytest.fixture(autouse=True)
def _own_tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_from_files", {kind: dict(table) for kind, table in registry._from_files.items()})
    modules = set(sys.modules)
    registry._installed.cache_clear()
    yield
    registry._installed.cache_clear()
    for name in set(sys.modules) - modules:
        if name.startswith("iqarena_plugin_"):
            del sys.modules[name]


def plugin_file(folder: Path, name: str = "mine", file: str = "mine.py") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / file).write_text(PLUGIN.format(name=name))
    return folder / file


def declare(monkeypatch: pytest.MonkeyPatch, kind: str, name: str, value: str) -> None:
    """Install a third-party package, as far as the registry can see."""

    def entry_points(group: str) -> list[EntryPoint]:
        return [EntryPoint(name, value, group)] if group == f"iqarena.{kind}s" else []

    monkeypatch.setattr(registry, "entry_points", entry_points)
    registry._installed.cache_clear()


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_name_leads_to_a_class_of_its_kind(kind: str) -> None:
    assert names(kind) == sorted(set(names(kind)))
    assert names(kind)
    for name in names(kind):
        assert registry.plugin_class(kind, name).name == name
        assert ":" in registry.origin(kind, name)


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        ("attack", "fgms", "unknown attack 'fgms'; nearest: 'fgsm', 'i_fgsm', 'ti_fgsm'; see: iqarena list attacks"),
        ("attack", "zzz", "unknown attack 'zzz'; valid: 'admix', 'di_fgsm',"),
        ("filter", "fourier", "nearest: 'fourier_topk'"),
        ("model", "cnm", "nearest: 'cnn'"),
        ("attack", "pgd(step=3)", "attack 'pgd' has no parameter 'step'; nearest: 'steps', 'eps'"),
        ("attack", "fgsm(steps=3)", "'fgsm' has no parameter 'steps'; nearest: 'eps'"),
        ("attack", "noise(mask=jmd)", "unknown filter 'jmd'; nearest: 'jnd'"),
        ("attack", "noise(mask=jnd(treshold=3))", "'jnd' has no parameter 'treshold'; nearest: 'threshold'"),
        ("attack", "pgd(steps=2.5)", "pgd(steps=…): expected a whole number, found 2.5"),
        ("attack", "pgd(steps=ten)", "expected a whole number, found ten"),
        ("attack", "pgd(steps=9999999999999999999)", "expected a whole number"),
        ("attack", "pgd(eps=jnd)", "pgd(eps=…): expected a number (8/255), found jnd"),
        ("attack", "pgd(alpha=big)", "expected a number (8/255) or none, found big"),
        ("attack", "pgd(random_start=1)", "expected true or false, found 1"),
        ("attack", "pgd(random_start=true(x=1))", "expected true or false, found a plugin"),
        ("attack", "noise(mask=3)", "expected a filter, found 3"),
        ("attack", "sega(weights=l1)", "unknown value 'l1'; nearest: 'l2'"),
        ("attack", "sega(sigma=outo)", "sega(sigma=…): expected a number (8/255) or auto, found outo"),
        ("attack", "torchattacks.PDG", "unknown attack 'torchattacks.PDG'; nearest: 'torchattacks.PGD'"),
        ("attack", "torchattacks.Square", "'torchattacks.Square' is refused: it stops when a class is fooled"),
        ("attack", "torchattacks.CW", "'torchattacks.CW' is refused: it stops when a class is fooled"),
        ("attack", "torchattacks.APGD", "'torchattacks.APGD' is refused: it stops when a class is fooled"),
        ("attack", "torchattacks.VMIFGSM", "'torchattacks.VMIFGSM' is refused: it weighs gradients of neighbours"),
        ("attack", "fgsm(1/255, 2)", "fgsm: expected at most 1 parameters, found 2"),
        ("attack", "fgsm(1/255, eps=2/255)", "fgsm: parameter 'eps' is given twice"),
    ],
)
def test_a_mistake_is_named_with_the_nearest_valid_value(kind: str, spec: str, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        build(kind, spec)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_are_read_by_the_type_of_their_field() -> None:
    attack = build_attack("pgd(0.5/255, 3, none, true)")
    assert repr(attack) == "pgd(eps=1/510, steps=3, alpha=none, random_start=true)"
    assert attack.label == "pgd(eps=1/510, steps=3, alpha=none, random_start=true)"
    assert build_attack("noise(mask=none)") == build_attack("noise")
    assert build_filter("jnd(7)").label == "jnd(threshold=7)"
    assert build_model("toy_linear(9007199254740993)").seed == 9007199254740993  # pyright: ignore[reportAttributeAccessIssue]


def test_nearest_lists_everything_when_nothing_is_near() -> None:
    assert nearest("x", []) == ""
    assert nearest("pgdd", ["pgd", "fgsm"]) == "; nearest: 'pgd'"
    assert nearest("#", ["b", "a"]) == "; valid: 'a', 'b'"


# ---- plugin files


def test_a_plugin_file_registers_its_classes(tmp_path: Path) -> None:
    path = plugin_file(tmp_path)
    registry.add_file(path)
    registry.add_file(path)  # again changes nothing
    assert "mine" in names("attack")
    attack = build_attack("mine(weight=0.5, kind=other)")
    assert repr(attack) == "mine(eps=8/255, weight=0.5, kind=other)"
    assert build_attack("mine(weight=none)") == build_attack("mine")
    assert registry.origin("attack", "mine") == "iqarena_plugin_mine:Mine"


@pytest.mark.parametrize("taken", ["fgsm", "mine"])
def test_a_collision_names_both_origins(tmp_path: Path, taken: str) -> None:
    first = plugin_file(tmp_path)
    registry.add_file(first)
    second = plugin_file(tmp_path, taken, "second.py")
    with pytest.raises(IqarenaError) as caught:
        registry.add_file(second)
    assert f"attack {taken!r} is defined by both" in str(caught.value)
    assert str(second) in str(caught.value)
    assert ("iqarena_attacks" if taken == "fgsm" else str(first)) in str(caught.value)


def test_two_files_of_one_name_cannot_both_be_plugins(tmp_path: Path) -> None:
    first, second = plugin_file(tmp_path / "a"), plugin_file(tmp_path / "b", "other")
    registry.add_file(first)
    with pytest.raises(IqarenaError, match=r"rename one of the files") as caught:
        registry.add_file(second)
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("def", "SyntaxError"),
        ("import no_such_thing", "No module named 'no_such_thing'"),
        ("x = 1", "expected a class with a name"),
        ("from iqarena_attacks.fgsm import Fgsm", "expected a class with a name"),
    ],
)
def test_a_plugin_file_that_is_none_says_why(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(IqarenaError) as caught:
        registry.add_file(tmp_path / "broken.py")
    assert expected in str(caught.value)
    assert str(tmp_path / "broken.py") in str(caught.value)


@pytest.mark.parametrize("failure", ["ValueError('too light')", "SystemExit(0)"])
def test_a_plugin_that_refuses_its_parameters_is_named(tmp_path: Path, failure: str) -> None:
    path = plugin_file(tmp_path)
    path.write_text(
        path.read_text().replace("Alias", f"    def __post_init__(self):\n        raise {failure}\n\nAlias")
    )
    registry.add_file(path)
    with pytest.raises(SpecError, match=re.escape(f"mine: {failure}")):
        build_attack("mine")


@pytest.mark.parametrize(
    ("decorator", "default", "expected"),
    [
        (
            DECORATOR,
            "steps = 2",
            "steps = 2 would be ignored; annotate it, steps: int = 2, in a class under @dataclass(",
        ),
        (DECORATOR, "eps = 4 / 255", "eps = 4/255 would be ignored; annotate it, eps: float = 4/255"),
        ("", "steps: int = 2", "steps = 2 would be ignored; annotate it, steps: int = 2"),
    ],
)
def test_a_default_that_would_be_ignored_is_refused(
    tmp_path: Path, decorator: str, default: str, expected: str
) -> None:
    head = "from dataclasses import dataclass\nfrom iqarena_attacks.i_fgsm import IFgsm\n"
    (tmp_path / "short.py").write_text(f'{head}{decorator}\nclass Short(IFgsm):\n    name = "short"\n    {default}\n')
    with pytest.raises(IqarenaError) as caught:
        registry.add_file(tmp_path / "short.py")
    assert f"'short': {expected}" in str(caught.value)
    assert "short" not in names("attack")


def test_a_plugin_file_must_be_there_and_be_python(tmp_path: Path) -> None:
    with pytest.raises(IqarenaError, match="found no"):
        registry.add_file(tmp_path / "missing.py")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(IqarenaError, match=r"ending in \.py"):
        registry.add_file(tmp_path / "notes.txt")


# ---- installed packages


def test_an_installed_package_adds_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, "attack", "noise2", "iqarena_attacks.noise:Noise")
    assert "noise2" in names("attack")
    with pytest.raises(IqarenaError, match="expected a Attack with name = 'noise2'"):
        build_attack("noise2")


def test_an_installed_package_cannot_take_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, "attack", "fgsm", "other:Fgsm")
    with pytest.raises(IqarenaError, match="'fgsm' is defined by both iqarena_attacks and other:Fgsm; remove one"):
        names("attack")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("no_such_package.attack:Thing", "needs the package 'no_such_package'"),
        ("iqarena.errors:Nothing", "cannot be imported"),
        ("iqarena.errors:SpecError", "expected a Attack with name = 'theirs'"),
    ],
)
def test_a_broken_package_breaks_only_when_used(monkeypatch: pytest.MonkeyPatch, value: str, expected: str) -> None:
    declare(monkeypatch, "attack", "theirs", value)
    assert "theirs" in names("attack")
    assert build_attack("fgsm").name == "fgsm"
    with pytest.raises(IqarenaError) as caught:
        build_attack("theirs")
    assert expected in str(caught.value)


def test_a_package_that_fails_while_imported_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "failing_plugin.py").write_text("raise RuntimeError('no licence found')")
    monkeypatch.syspath_prepend(tmp_path)
    declare(monkeypatch, "filter", "theirs", "failing_plugin:Theirs")
    with pytest.raises(IqarenaError, match="'theirs' from failing_plugin:Theirs cannot be imported: no licence found"):
        build_filter("theirs")


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    monkeypatch.delitem(sys.modules, "iqarena_attacks.bridge", raising=False)
    assert "torchattacks.PGD" in names("attack")
    with pytest.raises(IqarenaError, match=r"pip install 'iqarena\[torchattacks\]'"):
        build_attack("torchattacks.PGD")
