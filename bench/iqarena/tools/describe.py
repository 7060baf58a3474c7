"""Plugins in words: one-line summaries without importing them, and full descriptions."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
from importlib.util import find_spec
from pathlib import Path

from tabulate import tabulate

from iqarena.api import Model, Plugin
from iqarena.api.bounds import bounds_of
from iqarena.api.spec import format_number
from iqarena.errors import IqarenaError, SpecError, nearest
from iqarena.registry.tables import KINDS, build_model, names, origin, plugin_class
from iqarena.suite.file import suites

_PARAMETER = re.compile(r"(\w+): (.+)")


def summaries(kind: str) -> list[tuple[str, str, str]]:
    """(name, first line of its docstring, module) for every plugin of ``kind`` (plural), or for the suites."""
    if kind == "suites":
        return [(name, _first_comment(path), path.name) for name, path in suites().items()]
    single = kind.removesuffix("s")
    return [(name, summary(single, name), origin(single, name).partition(":")[0]) for name in names(single)]


def model_table() -> list[dict[str, str]]:
    """One row of facts per model; empty where something is not known. Imports no model's network."""
    return [_model_row(name) for name in names("model")]


def description(name: str) -> str:
    """Header, parameters, facts and citation of the plugin called ``name``, whatever its kind."""
    return "\n\n".join(_describe(kind, name) for kind in _kinds(name))


def bibtex(name: str) -> str:
    """BibTeX of the plugin called ``name``, whatever its kind; raises when it has none."""
    if text := next(filter(None, (plugin_class(kind, name).bibtex for kind in _kinds(name))), ""):
        return text
    raise SpecError(f"{name!r} has no paper to cite")


def default(kind: str, name: str) -> Plugin:
    """The plugin with default parameters, and ``…`` for those that must be given."""
    cls = plugin_class(kind, name)
    return cls(**{f.name: "…" for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING})


def _kinds(name: str) -> list[str]:
    """Kinds of plugin that ``name`` is one of; raises :class:`SpecError` for none."""
    kinds = [kind for kind in KINDS if name in names(kind)]
    if not kinds:
        everything = [n for kind in KINDS for n in names(kind)]
        raise SpecError(f"unknown plugin {name!r}{nearest(name, everything)}; see: iqarena list")
    return kinds


def _describe(kind: str, name: str) -> str:
    plugin = default(kind, name)
    parts = [f"{kind} {name}", inspect.getdoc(inspect.getmodule(type(plugin))) or ""]
    if dataclasses.fields(plugin):
        parts.append(f"parameters (defaults): {Plugin.__repr__(plugin)}")  # all, also where specs are kept short
        parts.append(tabulate(_parameters(plugin), tablefmt="plain"))
    if plugin.reconstructed:
        parts.append("reconstructed: " + plugin.reconstructed)
    if isinstance(plugin, Model) and plugin.facts:
        parts.append("facts: " + json.dumps(plugin.facts, indent=1, ensure_ascii=False))
    if plugin.bibtex:
        parts.append(plugin.bibtex)
    return "\n\n".join(parts)


def _parameters(plugin: Plugin) -> list[tuple[str, str, str]]:
    """Name, bounds and meaning of each parameter."""
    bounds, meanings = bounds_of(type(plugin)), meanings_of(type(plugin))
    return [
        (f"  {f.name}", bounds[f.name].text() if f.name in bounds else "", meanings.get(f.name, ""))
        for f in dataclasses.fields(plugin)
    ]


def meanings_of(cls: type) -> dict[str, str]:
    """What the docstrings of a class and its bases say of parameters, in lines such as ``steps: how many``."""
    lines = [
        line
        for base in reversed(cls.__mro__)
        for line in inspect.cleandoc(vars(base).get("__doc__") or "").splitlines()
    ]
    return {match[1]: match[2] for line in lines if (match := _PARAMETER.match(line))}


def summary(kind: str, name: str) -> str:
    """First line of the class's docstring, or of the module's, read from the source file without importing it.

    A docstring that begins with parameters is passed over.
    A class that its module makes when it is asked for (a record of a catalogue) is asked for.
    """
    module, _, class_name = origin(kind, name).partition(":")
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return "(cannot be found)"
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    named = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == class_name]
    if not named and any(isinstance(n, ast.FunctionDef) and n.name == "__getattr__" for n in tree.body):
        return plugin_class(kind, name).__doc__ or ""
    text = (ast.get_docstring(named[0]) if named else None) or ""
    text = (ast.get_docstring(tree) or "") if not text or _PARAMETER.match(text) else text
    return text.split("\n", 1)[0].strip().removeprefix(f"``{name}`` — ")


def _model_row(name: str) -> dict[str, str]:
    try:
        model = build_model(name)
    except IqarenaError as error:  # somebody else's plugin may be broken; it is an error when it is used
        return {"model": name, "input": f"({error})"}
    facts = model.facts
    low, high = facts.get("range", (0, 100))
    about = "" if facts.get("exact_range", True) else "about "
    gradient = "straight-through" if model.straight_through else "yes" if model.differentiable else "no: target only"
    expected = [f.name + ("" if f.expected in f.name else f" {f.expected[:8]}…") for f in model.files]
    return {
        "model": name,
        "better": "lower" if facts.get("lower_better") else "higher",
        "range": f"{about}{format_number(low)} to {format_number(high)}",
        "trained on": str(facts.get("trained_on", "")),
        "crops": str(facts.get("crops", 1)),
        "input": str(facts.get("input", "")),
        "shortest side": str(model.min_size),
        "gradient": gradient,
        "random": "yes" if model.stochastic else "no",
        "licence": str(facts.get("licence", "")),
        "files": ", ".join(expected) or ("shipped" if facts.get("sha256") else ""),
    }


def _first_comment(path: Path) -> str:
    return path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ")
