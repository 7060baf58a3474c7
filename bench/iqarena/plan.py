"""A suite file, resolved: which attacks on which sources against which targets, on which pictures, at what cost."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_type_hints

from iqarena.api import Attack, ImageSet, Model
from iqarena.errors import SpecError, nearest
from iqarena.grid import Grid, expand
from iqarena.registry import build, build_attack, build_model, plugin_class
from iqarena.spec import Chain, Number, parse
from iqarena.suite import Suite

Relation = Literal["whitebox", "same_scorer", "transfer", "ensemble_holdout", "ensemble_member", "query"]
HELD_OUT = ("transfer", "ensemble_holdout")  # the attack never saw the target


@dataclass(frozen=True)
class SourceSpec:
    """A source: one model or an ensemble of several; ``spec`` is its canonical text.

    An ``own`` source is there to attack itself and no other target.
    """

    models: tuple[Model, ...]
    own: bool = field(default=False, compare=False)

    @property
    def spec(self) -> str:
        names = [repr(m) for m in self.models]
        return names[0] if len(names) == 1 else f"ensemble({', '.join(names)})"

    def relation(self, target: Model) -> Relation:
        """``whitebox``: the source is the target; ``ensemble_member``: it contains it; ``same_scorer``: it is or
        contains the target's scorer, with other defenses or none; else it never saw the target."""
        alone = len(self.models) == 1
        if target in self.models:
            return "whitebox" if alone else "ensemble_member"
        if target.undefended in {model.undefended for model in self.models}:
            return "same_scorer"
        return "transfer" if alone else "ensemble_holdout"


@dataclass(frozen=True)
class Plan:
    """A suite with every name looked up."""

    suite: Suite
    attacks: tuple[Attack, ...]
    sources: tuple[SourceSpec, ...]
    targets: tuple[Model, ...]
    images: ImageSet
    baselines: tuple[str, ...]  # labels of those attacks that the others are compared with
    grid: Grid | None = None  # the factorial among the attacks

    @property
    def models(self) -> tuple[Model, ...]:
        """Every model the run loads, each once."""
        return tuple(dict.fromkeys([*self.targets, *(m for s in self.sources for m in s.models)]))

    @property
    def cells(self) -> tuple[SourceSpec, ...]:
        """What the run works through, picture by picture: the sources, and each target that is queried."""
        queried = self.targets if any(a.access == "score" for a in self.attacks) else ()
        return tuple(dict.fromkeys([*self.sources, *(SourceSpec((t,)) for t in queried)]))

    def scored(self, source: SourceSpec) -> tuple[Model, ...]:
        """The targets that pictures crafted on ``source`` are scored with: all but an ensemble's own members."""
        if source.own:
            return source.models
        return tuple(t for t in self.targets if source.relation(t) != "ensemble_member")

    def met(self, attack: Attack, source: SourceSpec) -> tuple[Model, ...]:
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

    def results(self) -> list[tuple[Attack, SourceSpec, Model]]:
        """All that is measured on each picture."""
        return [(a, s, t) for s in self.cells for a in self.attacks for t in self.met(a, s)]

    def gradients(self) -> dict[str, int]:
        """Gradient evaluations per picture, by model: at most these, after sharing (see ``Source``)."""
        totals: dict[str, int] = {}
        for model in dict.fromkeys(m for s in self.sources for m in s.models):
            holding = [s for s in self.sources if model in s.models]
            seen: set[tuple[Any, ...]] = set()
            total = 0
            for attack in self.attacks:
                shared = attack.shared_gradient
                if shared is None:
                    total += attack.cost * sum(len(self.met(attack, s)) if attack.queries else 1 for s in holding)
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
        for source in _sources(text, targets):
            if source.spec not in sources or sources[source.spec].own:
                sources[source.spec] = source
    for attack in attacks:
        for source in sources.values():
            if len(source.models) < attack.min_members:
                raise SpecError(
                    f"suite {suite.name}: {attack.label} needs a source of at least {attack.min_members} scorers, found"
                    f" {source.spec}; write sources = ['leave_one_out'] or leave the attack out"
                )
    named = {repr(build_attack(spec)) for spec in suite.baselines}
    baselines = tuple(a.label for a in attacks if repr(a) in named)
    plan = Plan(suite, attacks, tuple(sources.values()), targets, _image_set(suite.images), baselines, grid)
    if not plan.results():
        raise SpecError(f"suite {suite.name}: no source has a target that is not its own ensemble member; add a target")
    return plan


def parse_source(text: str) -> SourceSpec:
    """``cnn`` or ``ensemble(cnn, vit)``."""
    chain = parse(text)
    call = chain.calls[0]
    if call.name != "ensemble" or len(chain.calls) > 1:
        return SourceSpec((build_model(chain),))
    if call.kwargs or len(call.args) < 2 or any(isinstance(a, Number) for a in call.args):
        raise SpecError(f"expected ensemble(a, b, …) of at least two models, found {text!r}")
    models = tuple(build_model(a) for a in call.args if isinstance(a, Chain))
    if len(set(models)) != len(models):
        raise SpecError(f"{text!r} names a model twice")
    return SourceSpec(models)


def _sources(text: str, targets: tuple[Model, ...]) -> list[SourceSpec]:
    able = [t for t in targets if t.differentiable]
    if text == "each":
        return [SourceSpec((t,)) for t in able]
    if text == "undefended":
        return [SourceSpec((t,)) for t in able if not t.defenses]
    if text == "own":
        return [SourceSpec((t,), own=True) for t in able]
    if text == "leave_one_out":
        ensembles = [SourceSpec(tuple(m for m in able if m.undefended != t.undefended)) for t in targets]
        return [e for e in ensembles if len(e.models) > 1]
    if text == "subsets":
        some = (SourceSpec(s) for k in range(1, len(able) + 1) for s in itertools.combinations(able, k))
        return [s for s in some if set(targets) - set(s.models)]
    source = parse_source(text)
    for model in source.models:
        if not model.differentiable:
            raise SpecError(f"source {text!r}: {model!r} has no gradient; use it as a target only")
    return [source]


def _image_set(value: str | dict[str, Any]) -> ImageSet:
    """A spec string, or a table ``{set = "folder", path = "…"}`` for values a spec cannot hold."""
    if isinstance(value, str):
        return cast(ImageSet, build("imageset", value))
    options = dict(value)
    cls = plugin_class("imageset", str(options.pop("set", "folder")))
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key, found in options.items():
        if key not in fields:
            raise SpecError(f"image set {cls.name!r} has no parameter {key!r}{nearest(key, fields)}")
        if not isinstance(found, hints[key]):
            raise SpecError(f"image set {cls.name!r}: expected {key} of type {fields[key].type}, found {found!r}")
    for key, one in fields.items():
        if key not in options and one.default is dataclasses.MISSING:
            raise SpecError(
                f"image set {cls.name!r} needs {key}; for example images = {{set = {cls.name!r}, {key} = …}}"
            )
    return cast(ImageSet, cls(**options))
