"""Plugins by name: tables of the built-in packages, entry points of others, and single files.

Nothing is imported before it is used. A table maps a name to ``"module:Class"``.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
import types
import typing
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import entry_points
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from iqarena.api import Attack, Defense, Filter, FilterChain, ImageSet, Model, Plugin
from iqarena.api.plugin import check_defaults, code_sha256
from iqarena.api.spec import Call, Chain, Number, parse
from iqarena.errors import IqarenaError, SpecError, nearest

KINDS: dict[str, type[Plugin]] = {
    "attack": Attack, "filter": Filter, "model": Model, "defense": Defense, "imageset": ImageSet,
}  # fmt: skip
_BUILT_IN = ("iqarena.images.sets", "iqarena_attacks", "iqarena_models")
EXTRAS = ("torchattacks", "pyiqa")  # optional packages, each called as the extra of iqarena that brings it
_from_files: dict[str, dict[str, tuple[str, str]]] = {kind: {} for kind in KINDS}


def names(kind: str) -> list[str]:
    """Sorted names of a kind."""
    return sorted(_table(kind))


def origin(kind: str, name: str) -> str:
    """Where a plugin comes from, as ``module:Class``."""
    return _table(kind)[name][0]


def plugin_class(kind: str, name: str) -> type[Plugin]:
    """The class behind a name; imports its module."""
    table = _table(kind)
    if name not in table and (reason := _table("refused").get(name)):
        raise SpecError(f"{kind} {name!r} is refused: it {reason[0]}; see: iqarena list {kind}s")
    if name not in table:
        raise SpecError(f"unknown {kind} {name!r}{nearest(name, table)}; see: iqarena list {kind}s")
    reference, source = table[name]
    module_name, _, class_name = reference.partition(":")
    try:
        plugin = getattr(importlib.import_module(module_name), class_name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        step = f"pip install 'iqarena[{package}]'" if package in EXTRAS else f"mend or remove it ({source})"
        raise IqarenaError(f"{kind} {name!r} needs the package {error.name!r}, not installed here; {step}") from None
    except (Exception, SystemExit) as error:  # a plugin's module may fail in any way
        raise IqarenaError(f"{kind} {name!r} from {source} cannot be imported: {error}") from error
    if not (isinstance(plugin, type) and issubclass(plugin, KINDS[kind]) and plugin.name == name):
        raise IqarenaError(f"{kind} {name!r} from {source}: expected a {KINDS[kind].__name__} with name = {name!r}")
    if source not in _BUILT_IN and name not in _from_files[kind]:
        plugin.distribution = source
    code_sha256(plugin)  # read now: the file may be edited while this process lives
    return plugin


def build(kind: str, spec: str | Chain) -> Plugin:
    """The plugin a spec string stands for; raises :class:`SpecError` for anything unknown in it."""
    chain = parse(spec) if isinstance(spec, str) else spec
    if kind == "filter" and len(chain.calls) > 1:
        return FilterChain(filters=tuple(build_filter(Chain((call,))) for call in chain.calls))
    if kind == "model":
        return _defended(chain)
    return _construct(kind, chain.single)


def build_filter(spec: str | Chain) -> Filter:
    """The filter of a spec such as ``jnd(6)|soft``; raises as :func:`build`."""
    return typing.cast(Filter, build("filter", spec))


def build_attack(spec: str) -> Attack:
    """The attack of a spec; raises as :func:`build`."""
    return typing.cast(Attack, build("attack", spec))


def build_defense(spec: str | Chain) -> Defense:
    """The defense of a spec, without a scorer; raises as :func:`build`."""
    return typing.cast(Defense, build("defense", spec))


def build_model(spec: str | Chain) -> Model:
    """The scorer of a spec, behind its defenses (``jpeg(quality=50)|cnn``); raises as :func:`build`."""
    return typing.cast(Model, build("model", spec))


def _defended(chain: Chain) -> Model:
    """The scorer that ends ``chain``, behind the defenses before it; the image passes the leftmost first."""
    *before, last = chain.calls
    for call in before:
        if call.name in _table("model"):
            raise SpecError(f"expected the scorer at the end, behind its defenses, found {call} earlier in '{chain}'")
    if last.name in _table("defense") and last.name not in _table("model"):
        raise SpecError(f"expected a scorer at the end, found the defense {last}; write for example '{chain}|cnn'")
    model = typing.cast(Model, _construct("model", last))
    for call in reversed(before):
        defense = build_defense(Chain((call,)))
        inner, model = model, defense.defend(model)
        if repr(model) != f"{defense!r}|{inner!r}":
            raise IqarenaError(f"defense {defense.name!r}: expected a model {defense!r}|{inner!r}, found {model!r}")
    return model


def training_of(name: str) -> Callable[..., Any]:
    """The recipe of scorer ``name``, or of defense ``name``, for a model; see ``iqarena_models.training.recipe``."""
    table = _table("training")
    if name not in table:
        raise SpecError(f"no training for {name!r}{nearest(name, table)}")
    module, _, function = table[name][0].partition(":")
    return getattr(importlib.import_module(module), function)


def add_file(path: str | PathLike[str]) -> list[tuple[str, str]]:
    """Register every plugin class defined in a Python file (``--plugin own.py``); returns (kind, name) of each.

    Raises :class:`IqarenaError` for a file that cannot be imported, defines no plugin, or one of a name that is taken.
    """
    path = Path(path)
    if not path.is_file():
        raise IqarenaError(f"--plugin: expected a Python file, found no {path}")
    name = f"iqarena_plugin_{path.stem}"
    for reference, where in (entry for table in _from_files.values() for entry in table.values()):
        if reference.startswith(f"{name}:") and where != str(path):
            raise IqarenaError(f"--plugin: both {where} and {path} would be {name}; rename one of the files")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise IqarenaError(f"--plugin: expected a Python file ending in .py, found {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise IqarenaError(f"--plugin {path}: {type(error).__name__}: {error}") from error
    added: list[tuple[str, str]] = []
    for thing in vars(module).values():
        for kind, base in KINDS.items():
            if isinstance(thing, type) and issubclass(thing, base) and thing.__module__ == name and thing.name:
                entry = (f"{name}:{thing.__name__}", str(path))
                known = _table(kind).get(thing.name, entry)
                if known != entry:
                    raise IqarenaError(f"{kind} {thing.name!r} is defined by both {known[1]} and {path}; rename one")
                check_defaults(thing)
                _from_files[kind][thing.name] = entry
                code_sha256(thing)
                added.append((kind, thing.name))
    if not added:
        wanted = " or ".join(base.__name__ for base in KINDS.values())
        raise IqarenaError(f"--plugin {path}: expected a class with a name, {wanted}")
    return added


def plugin_files() -> list[Path]:
    """The files that :func:`add_file` registered, each once."""
    return [Path(where) for where in dict.fromkeys(w for table in _from_files.values() for _, w in table.values())]


def _table(kind: str) -> dict[str, tuple[str, str]]:
    """name → (reference, where it was declared)."""
    return {**_installed(kind), **_from_files.get(kind, {})}


@cache
def _installed(kind: str) -> dict[str, tuple[str, str]]:
    table: dict[str, tuple[str, str]] = {}
    for name, reference, where in _declared(kind):
        if name in table:
            raise IqarenaError(f"{kind} {name!r} is defined by both {table[name][1]} and {where}; remove one")
        table[name] = (reference, where)
    return table


def _declared(kind: str) -> Iterator[tuple[str, str, str]]:
    """(name, reference, where) of every installed plugin."""
    for package in _BUILT_IN:
        for name, reference in importlib.import_module(package).PLUGINS.get(kind, {}).items():
            yield name, reference, package
    for point in entry_points(group=f"iqarena.{kind}s"):
        yield point.name, point.value, f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def _construct(kind: str, call: Call) -> Plugin:
    cls = plugin_class(kind, call.name)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if len(call.args) > len(fields):
        raise SpecError(f"{call.name}: expected at most {len(fields)} parameters, found {len(call.args)}")
    given = dict(zip(fields, call.args, strict=False))
    for key, value in call.kwargs:
        if key not in fields:
            raise SpecError(f"{kind} {call.name!r} has no parameter {key!r}{nearest(key, fields)}")
        if key in given:
            raise SpecError(f"{call.name}: parameter {key!r} is given twice")
        given[key] = value
    hints = typing.get_type_hints(cls)
    try:
        return cls(**{key: _value(hints[key], value, f"{call.name}({key}=…)") for key, value in given.items()})
    except (TypeError, ValueError, SystemExit) as error:
        raise SpecError(f"{call.name}: {error if isinstance(error, TypeError) else repr(error)}") from None


def _value(hint: Any, value: Number | Chain, where: str) -> Any:
    """Coerce a parsed argument to a field's type."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    if isinstance(value, Number):
        if float in options:
            return value.value
        if int in options and value.integer:
            return int(value.text)
        raise SpecError(f"{where}: expected {_expected(options)}, found {value.text}")
    bare = value.calls[0].name if value.calls == (Call(value.calls[0].name),) else ""
    if bare == "none" and type(None) in options:
        return None
    if bool in options and bare in ("true", "false"):
        return bare == "true"
    for option in options:
        if typing.get_origin(option) is Literal:
            if bare in typing.get_args(option):
                return bare
            if len(options) > 1:
                continue
            raise SpecError(f"{where}: unknown value {bare!r}{nearest(bare, map(str, typing.get_args(option)))}")
        for kind, base in KINDS.items():
            if isinstance(option, type) and issubclass(option, base):
                return build(kind, value)
    if str in options and bare:
        return bare
    raise SpecError(f"{where}: expected {_expected(options)}, found {bare or 'a plugin'}")


def _expected(options: tuple[Any, ...]) -> str:
    words = {float: "a number (8/255)", int: "a whole number", bool: "true or false", str: "a word", type(None): "none"}
    parts = [part for o in options for part in typing.get_args(o) or (o,)]
    return " or ".join(
        o if isinstance(o, str) else words.get(o, "a " + getattr(o, "__name__", "value").lower()) for o in parts
    )
