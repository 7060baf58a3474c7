"""A suite file, resolved: which attacks on which sources against which targets, on which images, at what cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast, get_type_hints

from iqarena.api import Attack, Estimate, ImageSet, Model
from iqarena.errors import SpecError, nearest
from iqarena.registry.tables import build, build_attack, build_model, plugin_class
from iqarena.store.decode import from_json
from iqarena.suite.file import Suite
from iqarena.suite.grid import Grid, expand
from iqarena.suite.relations import only_relatives
from iqarena.suite.sources import SourceSpec, named_sources


@dataclass(frozen=True)
class Plan:
    """A suite with every name looked up."""

    suite: Suite
    attacks: tuple[Attack, ...]
    sources: tuple[SourceSpec, ...]
    targets: tuple[Model, ...]
    images: ImageSet
    grid: Grid | None = None  # the factorial among the attacks
    reference: Attack | None = None  # what the others are compared with one by one

    @property
    def models(self) -> tuple[Model, ...]:
        """Every model the run loads, each once."""
        return tuple(dict.fromkeys([*self.targets, *(m for s in self.sources for m in s.models)]))

    @property
    def cells(self) -> tuple[SourceSpec, ...]:
        """What the run works through, image by image: the sources, and each target that is queried."""
        queried = self.targets if any(a.access == "score" for a in self.attacks) else ()
        return tuple(dict.fromkeys([*self.sources, *(SourceSpec((t,)) for t in queried)]))

    def scored(self, source: SourceSpec) -> tuple[Model, ...]:
        """The targets that images crafted on ``source`` are scored with: all but an ensemble's own members."""
        if source.own:
            return source.models
        return tuple(t for t in self.targets if source.relation(t) != "ensemble_member")

    def targets_of(self, attack: Attack, source: SourceSpec) -> tuple[Model, ...]:
        """The targets that ``attack`` meets from ``source``, one of :attr:`cells`.

        A query attack has no source but its target; one that also takes gradients attacks every target that its
        source does not hold.
        """
        if attack.access == "score":
            return tuple(t for t in self.targets if source.models == (t,))
        if source not in self.sources:
            return ()
        if attack.access == "gradient+score":
            return tuple(t for t in self.scored(source) if t not in source.models)
        return self.scored(source)

    @property
    def without_strangers(self) -> tuple[Model, ...]:
        """Targets that only relatives attack: they have no held-out pair."""
        relations = {t: {s.relation(t) for s in self.sources if t in self.scored(s)} for t in self.targets}
        return tuple(target for target, of_target in relations.items() if only_relatives(of_target))

    def results(self) -> list[tuple[Attack, SourceSpec, Model]]:
        """All that is measured on each image."""
        return [(a, s, t) for s in self.cells for a in self.attacks for t in self.targets_of(a, s)]

    def gradients(self, *, attacks: Sequence[Attack] | None = None) -> dict[str, int]:
        """Gradient evaluations per image, by model, of all attacks or these: at most so many, after sharing (see
        ``Source``)."""
        totals: dict[str, int] = {}
        for model in dict.fromkeys(m for s in self.sources for m in s.models):
            holding = [s for s in self.sources if model in s.models]
            seen: set[Estimate] = set()
            total = 0
            for attack in self.attacks if attacks is None else attacks:
                shared = attack.shared_gradient
                if shared is None:
                    total += attack.cost * sum(
                        len(self.targets_of(attack, s)) if attack.queries else 1 for s in holding
                    )
                elif shared not in seen:
                    seen.add(shared)
                    total += attack.cost
            totals[repr(model)] = total
        return totals


def resolve(suite: Suite) -> Plan:
    """Look up every plugin of a suite; raises :class:`SpecError` for what is unknown."""
    targets = tuple(build_model(spec) for spec in suite.targets)
    grid = expand(suite.grid) if suite.grid else None
    attacks = (*(build_attack(spec) for spec in suite.attacks), *(grid.attacks if grid else ()))
    for things, what in ((targets, "target"), (attacks, "attack")):
        specs = [repr(t) for t in things]
        for spec in specs:
            if specs.count(spec) > 1:
                raise SpecError(f"suite {suite.name}: {what} {spec} is listed twice")
    sources: dict[str, SourceSpec] = {}
    for text in suite.sources:
        for source in named_sources(text, targets):
            if source.spec not in sources or sources[source.spec].own:
                sources[source.spec] = source
    for attack in attacks:
        for source in sources.values():
            if len(source.models) < attack.min_members:
                raise SpecError(
                    f"suite {suite.name}: {attack.label} needs a source of at least {attack.min_members} scorers, found"
                    f" {source.spec}; write sources = ['leave_one_out'] or leave the attack out"
                )
    reference = grid.reference if grid else _reference(suite, attacks)
    images = image_set(suite.images)
    plan = Plan(suite, attacks, tuple(sources.values()), targets, images, grid, reference)
    if not plan.results():
        raise SpecError(f"suite {suite.name}: no source has a target that is not its own ensemble member; add a target")
    return plan


def _reference(suite: Suite, attacks: tuple[Attack, ...]) -> Attack | None:
    """What the suite names, which an earlier run into the folder may have run; else the first attack that declares
    itself a reference."""
    if suite.reference:
        return build_attack(suite.reference)
    return next((attack for attack in attacks if attack.reference), None)


def image_set(value: str | dict[str, Any]) -> ImageSet:
    """A spec string, or a table ``{set = "folder", path = "…"}`` for values a spec cannot hold."""
    if isinstance(value, str):
        return cast(ImageSet, build("imageset", value))
    options = dict(value)
    cls = plugin_class("imageset", str(options.pop("set", "folder")))
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key, given in options.items():
        if key not in fields:
            raise SpecError(f"image set {cls.name!r} has no parameter {key!r}{nearest(key, fields)}")
        try:
            options[key] = from_json(hints[key], given, key)
        except ValueError as error:
            raise SpecError(f"image set {cls.name!r}: {error}") from None
    for key, one in fields.items():
        if key not in options and one.default is dataclasses.MISSING:
            raise SpecError(
                f"image set {cls.name!r} needs {key}; for example images = {{set = {cls.name!r}, {key} = …}}"
            )
    return cast(ImageSet, cls(**options))
