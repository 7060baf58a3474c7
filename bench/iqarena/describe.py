"""Plugins in words: one-line summaries without importing them, and full descriptions."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
from importlib.util import find_spec
from pathlib import Path

from iqarena.api import Model, Plugin
from iqarena.errors import SpecError, nearest
from iqarena.plan import suites
from iqarena.registry import KINDS, names, origin, plugin_class


def summaries(kind: str) -> list[tuple[str, str, str]]:
    """(name, first line of its docstring, module) for every plugin of ``kind`` (plural), or for the suites."""
    if kind == "suites":
        return [(name, _first_comment(path), path.name) for name, path in suites().items()]
    single = kind.removesuffix("s")
    return [(name, summary(single, name), origin(single, name).partition(":")[0]) for name in names(single)]


def description(name: str) -> str:
    """Header, parameters, facts and citation of the plugin called ``name``, whatever its kind."""
    kinds = [kind for kind in KINDS if name in names(kind)]
    if not kinds:
        everything = [n for kind in KINDS for n in names(kind)]
        raise SpecError(f"unknown plugin {name!r}{nearest(name, everything)}; see: iqarena list")
    return "\n\n".join(_describe(kind, name) for kind in kinds)


def bibtex(name: str) -> str:
    """BibTeX of an attack; raises when it has none."""
    text = plugin_class("attack", name).bibtex
    if not text:
        raise SpecError(f"attack {name!r} has no paper to cite")
    return text


def default(kind: str, name: str) -> Plugin:
    """The plugin with default parameters, and ``…`` for those that must be given."""
    cls = plugin_class(kind, name)
    return cls(**{f.name: "…" for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING})


def _describe(kind: str, name: str) -> str:
    plugin = default(kind, name)
    parts = [f"{kind} {name}", inspect.getdoc(inspect.getmodule(type(plugin))) or ""]
    if dataclasses.fields(plugin):
        parts.append(f"parameters (defaults): {plugin!r}")
    if plugin.reconstructed:
        parts.append("reconstructed: " + plugin.reconstructed)
    if isinstance(plugin, Model) and plugin.facts:
        parts.append("facts: " + json.dumps(plugin.facts, indent=1, ensure_ascii=False))
    if plugin.bibtex:
        parts.append(plugin.bibtex)
    return "\n\n".join(parts)


def summary(kind: str, name: str) -> str:
    """First line of the class's docstring, or of the module's, read from the source file without importing it."""
    module, _, class_name = origin(kind, name).partition(":")
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return "(cannot be found)"
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    named = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == class_name]
    text = (ast.get_docstring(named[0]) if named else None) or ast.get_docstring(tree) or ""
    return text.split("\n", 1)[0].strip().removeprefix(f"``{name}`` — ")


def _first_comment(path: Path) -> str:
    return path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ")
