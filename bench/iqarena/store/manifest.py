"""The manifest: all that is needed to say what a run was and to run it again. One type, one reader, one writer."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iqarena.errors import StoreError
from iqarena.files.atomic import plain_errors, write_atomically
from iqarena.store.decode import each_key_once, from_json


@dataclass(frozen=True)
class AttackFacts:
    """What a report needs to know of an attack; ``planned`` counts its rows in the whole run, 0 for unknown."""

    spec: str
    label: str  # the spec without default values
    eps: float  # in [0, 1]
    version: int
    access: str  # what it may ask of a model: gradient, score, gradient+score or none
    queries: int = 0  # scores of the target per image, at most
    floor: bool = False  # looks at no model: what others must beat
    searched: bool = False  # added by a search over budgets, not by the suite
    published: str = ""
    reconstructed: str = ""
    bibtex: str = ""
    planned: int = 0
    identity: str = ""  # hash of its label, version and code, and of the plugins among its parameters


@dataclass(frozen=True)
class ModelFacts:
    """What a report needs to know of a scorer; ``planned`` counts its rows as a target, 0 for none or unknown."""

    weights_sha256: str = ""  # empty: it has no weights file
    stochastic: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    label: str = ""  # the spec without default values
    random_defense: bool = False
    hardened: bool = False  # by a defense with weights of its own
    reconstructed: str = ""  # of its defenses and of itself
    planned: int = 0
    identity: str = ""  # hash of its label, version, code and weights, and of the plugins among its parameters


@dataclass(frozen=True)
class ImageFacts:
    id: str
    cluster: str  # its reference image
    sha256: str = ""  # of its pixels; known when the run is finished
    mos: float | None = None  # opinion score on the set's own scale


@dataclass(frozen=True)
class PluginFacts:
    """Code that does not come with iqarena."""

    name: str
    file: str
    sha256: str
    distribution: str = ""  # name and version of the installed package it comes from


@dataclass(frozen=True)
class GradientCounts:
    """Gradients of single images that the last invocation evaluated, and whether it went on from earlier rows.

    With shards it is what all of them evaluated, as long as none went on from rows of its own images.
    """

    evaluated: int
    resumed: bool


@dataclass(frozen=True)
class RowCounts:
    ok: int
    error: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A run in words: what was planned, by which code, on which machine; ``finished`` is none until no row is missing.

    A folder may have been run into several times. Attacks, models, images and so on are those of all runs together, and
    ``planned`` counts the rows that are there or planned by the last one; ``command``, ``settings`` and the machine are
    those of the last one, ``history`` has the commands before. ``schema`` is that of the keys of the rows.

    ``settings`` are the keys of its suite. ``models`` are by spec; ``sources`` and ``targets`` are specs. ``reference``
    is the spec of the attack that others are compared with, if there is one.
    """

    suite: str
    settings: dict[str, Any]
    command: str
    seed: int
    started: str  # ISO 8601, UTC
    finished: str | None = None
    packages: dict[str, str | None]
    python: str
    platform: str
    processor: str
    git_commit: str | None
    device: str
    precision: str
    image_set: str
    images: tuple[ImageFacts, ...]
    reference: str | None = None
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    models: dict[str, ModelFacts]
    attacks: tuple[AttackFacts, ...]
    planned: int  # rows
    gradients: GradientCounts | None = None
    rows: RowCounts | None = None
    plugins: tuple[PluginFacts, ...] = ()
    history: tuple[str, ...] = ()
    schema: int = 1

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Raises :class:`StoreError`, one line that names the key, for what is no manifest or cannot be read."""
        try:
            with plain_errors(f"cannot read {path}", path):
                text = path.read_text(encoding="utf-8")
            return cls.from_json(json.loads(text, object_pairs_hook=each_key_once))
        except (ValueError, RecursionError) as error:
            raise StoreError(
                f"{path}: damaged or not iqarena's ({error}); choose another folder, or remove it and run again"
            ) from None

    @classmethod
    def from_json(cls, value: Any) -> Manifest:
        """A manifest from what a JSON parser gives; raises :class:`ValueError` naming the key that is wrong."""
        manifest = from_json(cls, _migrated(value), "")
        _check(manifest)
        return manifest

    def write(self, path: Path) -> None:
        """Write ``path`` atomically."""
        text = json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n"
        write_atomically(path, text.encode())

    @property
    def declared(self) -> Manifest:
        """The same without the attacks that a search over budgets has added."""
        return dataclasses.replace(self, attacks=tuple(a for a in self.attacks if not a.searched))

    @property
    def ssim(self) -> float | None:
        """The mean SSIM at which the suite compares attacks, if it does."""
        return self.settings.get("ssim")

    @property
    def repeats(self) -> int:
        """How often each image is attacked; once where the settings do not say."""
        return self.settings.get("repeats") or 1

    @property
    def factors(self) -> tuple[str, ...]:
        """The parameters of the reference attack that the suite's grid varies; empty without a grid."""
        return tuple(name for name in self.settings.get("grid") or {} if name != "attack")

    def model(self, spec: str) -> ModelFacts:
        """Facts of a model; of one that the run does not name (any more), nothing but its spec."""
        return self.models.get(spec) or ModelFacts(label=spec)


def _check(manifest: Manifest) -> None:
    """Raises :class:`ValueError` for what types do not say: names that stand twice, numbers below 0, suite keys."""
    attacks, models = manifest.attacks, manifest.models
    for key, names in {
        "images": [image.id for image in manifest.images],
        "attacks": [attack.spec for attack in attacks],
        "sources": manifest.sources,
        "targets": manifest.targets,
    }.items():
        for name, count in Counter(names).items():
            if count > 1:
                raise ValueError(f"{name!r} twice in {key!r}")
    gradients, rows = manifest.gradients or GradientCounts(0, resumed=False), manifest.rows or RowCounts(0, 0)
    numbers = {"planned": manifest.planned, "rows.ok": rows.ok, "rows.error": rows.error}
    numbers |= {"gradients.evaluated": gradients.evaluated}
    numbers |= {f"attacks[{i}].{name}": getattr(attack, name)
                for i, attack in enumerate(attacks) for name in ("eps", "queries", "planned")}  # fmt: skip
    numbers |= {f"models[{spec!r}].planned": model.planned for spec, model in models.items()}
    for key, number in numbers.items():
        if not 0 <= number < float("inf"):
            raise ValueError(f"expected a number ≥ 0 for {key!r}, found {number}")
    for key, hint in {"ssim": float | None, "grid": dict[str, Any] | None, "repeats": int | None}.items():
        from_json(hint, manifest.settings.get(key), f"settings.{key}")


def _migrated(value: Any) -> Any:
    """A manifest of an earlier version with what it left to be concluded; whatever is malformed stays so."""
    if not isinstance(value, Mapping):
        return value
    value = {name: part for name, part in value.items() if name != "baselines"}
    attacks, models = value.get("attacks"), value.get("models")
    if isinstance(attacks, list):
        attacks = [{"floor": a.get("access") == "none", **a} if isinstance(a, Mapping) else a for a in attacks]
        value = {**value, "attacks": attacks}
    if isinstance(models, Mapping):
        models = {spec: {"label": spec, **m} if isinstance(m, Mapping) else m for spec, m in models.items()}
        value = {**value, "models": models}
    return value
