"""A suite file: what it says, checked."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

from iqarena.api.attack import Policy
from iqarena.errors import IqarenaError, nearest
from iqarena.suite.images_option import replace_images

_HELP = "python -m pydoc iqarena.suite"
DEFAULT = "pocket"  # the suite that needs nothing but what comes with iqarena


@dataclass(frozen=True)
class Suite:
    """The keys of a suite file.

    name: of the run's folder in ``results/runs``; left out, it is the file's
    images: an image set such as ``"clive(crop=224)"``, or a table ``{set = "folder", path = "…", csv = "…"}``
    targets: specs of the models to attack
    attacks: specs of attacks, ``"pgd(eps=4/255, steps=20)"``
    sources: models, ``"ensemble(a, b)"``, or ``each`` (every target alone), ``leave_one_out`` (all targets but one, for
        each), ``subsets`` (every choice that leaves a target out), ``undefended`` (each without defenses alone) and
        ``own`` (every target, against itself and no other)
    reference: the attack that all others are tested against; left out, the first that declares itself one
    grid: ``attack``, and a list of values for each of its parameters to cross; see :mod:`iqarena.suite.grid`
    ssim: a mean SSIM, such as 0.9, at which attacks are compared as well
    diagnostics: whether rows say how the perturbation relates to the target's own gradient
    direction: ``mid`` (lower a source score above 50, raise any other), ``raise`` or ``lower``
    seed: of all random streams
    repeats: runs with streams of their own
    limit: the first images only
    keep: ``adversarials`` keeps them in the run's folder, so that a later target costs scores and no gradients
    """

    name: str
    images: str | dict[str, Any]
    targets: list[str]
    attacks: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=lambda: ["each", "leave_one_out"])
    reference: str | None = None
    grid: dict[str, Any] = field(default_factory=dict)
    ssim: float | None = None
    diagnostics: bool = False
    direction: Policy = "mid"
    seed: int = 0
    repeats: int = 1
    limit: int | None = None
    keep: Literal["", "adversarials"] = ""


def suites() -> dict[str, Path]:
    """The suites that come with iqarena, by name."""
    folder = Path(str(files("iqarena"))) / "suites"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_suite(
    suite: str | Mapping[str, Any], overrides: Mapping[str, Any] | None = None, images: str | None = None
) -> Suite:
    """A built-in suite by its name, a ``.toml`` file, or the keys of one; ``overrides`` beat them.

    ``images`` is ``--images``: see :func:`iqarena.suite.images_option.replace_images`. Unknown keys are errors.
    """
    where, keys = ("given as keys", {"name": "run", **suite}) if isinstance(suite, Mapping) else _read(suite)
    keys |= overrides or {}
    if images == "":
        raise IqarenaError("images: expected a folder or an image set, found ''; write . for the current folder")
    if images is not None:
        keys["images"] = replace_images(keys.get("images"), images)
    valid = Suite.__dataclass_fields__
    for key in keys:
        if key not in valid:
            raise IqarenaError(f"suite {where}: unknown key {key!r}{nearest(str(key), valid)}")
    for key in ("images", "targets", "grid" if "grid" in keys else "attacks"):
        if not keys.get(key):
            raise IqarenaError(f"suite {where}: expected the key {key!r}, found none; see: {_HELP}.file.Suite")
    return _checked(Suite(**keys), where)


def _read(name: str) -> tuple[str, dict[str, Any]]:
    """File name and keys of a built-in suite or a ``.toml`` file."""
    known = suites()
    path = known.get(name, Path(name))
    if not os.path.isfile(path):  # unlike pathlib's it takes every name
        raise IqarenaError(
            f"expected a suite name or a .toml file, found {name!r}{nearest(name, known)}; see: iqarena list suites"
        )
    try:
        keys = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no TOML or UTF-8, a number of too many digits, too deep
        raise IqarenaError(f"{path}: expected a TOML file: {error}") from None
    except OSError as error:
        raise IqarenaError(f"{path}: cannot be read: {error.strerror}") from None
    return path.name, {"name": path.stem, **keys}


def _checked(suite: Suite, where: str) -> Suite:
    def expect(valid: bool, key: str, what: str) -> None:
        if not valid:
            raise IqarenaError(f"suite {where}: expected {what} for {key!r}, found {getattr(suite, key)!r:.200}")

    own = " (left out, it is the file's name: write name = 'word' there)" if Path(where).stem == suite.name else ""
    expect(re.fullmatch(r"[\w.+-]*\w", str(suite.name)) is not None, "name", f"a word that can name a folder{own}")
    expect(isinstance(suite.images, (str, dict)), "images", "a name or a table such as {path = 'photos'}")
    for key in ("attacks", "targets", "sources"):
        value = getattr(suite, key)
        words = isinstance(value, list) and all(isinstance(v, str) for v in value)
        expect(words, key, "a list of specs such as ['a', 'b']")
    expect(isinstance(suite.grid, dict), "grid", f"a table (see: {_HELP}.grid)")
    reference = suite.reference
    expect(reference is None or isinstance(reference, str), "reference", "the spec of an attack")
    expect(not (reference and suite.grid), "reference", "none beside a grid, whose own attack it is,")
    expect(isinstance(suite.diagnostics, bool), "diagnostics", "true or false")
    ssim = suite.ssim
    expect(ssim is None or (isinstance(ssim, float) and 0 < ssim < 1), "ssim", "a mean SSIM between 0 and 1")
    expect(suite.direction in get_args(Policy), "direction", "mid, raise or lower")
    expect(suite.keep in ("", "adversarials"), "keep", "adversarials, or nothing")
    for key, least in (("seed", 0), ("repeats", 1), ("limit", 1)):
        value = getattr(suite, key)
        absent = key == "limit" and value is None
        expect(absent or (type(value) is int and value >= least), key, f"a whole number ≥ {least}")
    return suite
