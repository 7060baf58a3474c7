"""Sources: one scorer or an ensemble of several, and the words a suite has for sets of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from iqarena.api import Model
from iqarena.api.spec import Chain, Number, parse
from iqarena.errors import SpecError
from iqarena.registry.tables import build_model
from iqarena.suite.relations import Relation


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
        contains the target's scorer, with other defenses or none; ``same_backbone``: a scorer of it shares a
        pretrained network with the target, or is its plugin with other parameters; else it never saw the target."""
        alone = len(self.models) == 1
        if target in self.models:
            return "whitebox" if alone else "ensemble_member"
        if target.undefended in {model.undefended for model in self.models}:
            return "same_scorer"
        if any(related(model, target) for model in self.models):
            return "same_backbone"
        return "transfer" if alone else "ensemble_holdout"


def related(one: Model, other: Model) -> bool:
    """Whether two scorers contain the same pretrained network, or are of one plugin, whatever the defenses and other
    parameters, unless both name their networks: a parameter may choose another."""
    if one.undefended.name == other.undefended.name and not (one.backbones and other.backbones):
        return True
    return not set(one.backbones).isdisjoint(other.backbones)


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


def named_sources(text: str, targets: tuple[Model, ...]) -> list[SourceSpec]:
    """The sources that an entry of a suite's ``sources`` stands for: one by its spec, or those that ``each``, ``own``,
    ``undefended``, ``leave_one_out`` or ``subsets`` make of the targets that have a gradient.

    Raises :class:`SpecError` for a model without a gradient, or what :func:`parse_source` refuses.
    """
    able = [t for t in targets if t.differentiable]
    if text == "each":
        return [SourceSpec((t,)) for t in able]
    if text == "undefended":
        return [SourceSpec((t,)) for t in able if not t.defenses]
    if text == "own":
        return [SourceSpec((t,), own=True) for t in able]
    if text == "leave_one_out":
        ensembles = [SourceSpec(tuple(m for m in able if not related(m, t))) for t in targets]
        return [e for e in ensembles if len(e.models) > 1]
    if text == "subsets":
        subsets = (SourceSpec(s) for k in range(1, len(able) + 1) for s in itertools.combinations(able, k))
        return [s for s in subsets if set(targets) - set(s.models)]
    source = parse_source(text)
    for model in source.models:
        if not model.differentiable:
            raise SpecError(f"source {text!r}: {model!r} has no gradient; use it as a target only")
    return [source]
