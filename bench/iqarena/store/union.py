"""Manifests of runs that share a folder: what must be the same in them, and both together."""

from __future__ import annotations

import dataclasses
import json
from itertools import chain
from typing import Any

import pandas as pd

from iqarena.api.spec import parse
from iqarena.store.manifest import Manifest

_SUITE_KEYS = ("direction", "ssim", "diagnostics")


def setting(manifest: Manifest) -> dict[str, Any]:
    """What rows of one folder have in common; all else may differ between runs into it."""
    return {
        "schema of keys": manifest.schema,
        "image set": manifest.image_set,
        "seed": manifest.seed,
        "precision": manifest.precision,
        "device": "cpu" if manifest.device == "cpu" else "GPU",
        **{key: manifest.settings.get(key) for key in _SUITE_KEYS},
    }


def differences(one: Manifest, other: Manifest, where: tuple[str, str] = ("there", "asked for")) -> list[str]:
    """``name: … there, … asked for`` for all that differs in the settings; empty when the runs may share a folder."""
    pairs = zip(setting(one).items(), setting(other).values(), strict=True)
    return [f"{name}: {_short(a)} {where[0]}, {_short(b)} {where[1]}" for (name, a), b in pairs if a != b]


def united(earlier: Manifest, now: Manifest) -> Manifest:
    """Both runs together: of what is in both ``now`` is right, and ``planned`` counts are those of ``now``.

    Attacks and models are the same when their labels are: their specs may have got new parameters in between.
    """
    specs = renamed(earlier, now)
    models = {facts.label: (specs.get(spec, spec), dataclasses.replace(facts, planned=0))
              for spec, facts in earlier.models.items()}  # fmt: skip
    models |= {facts.label: (spec, facts) for spec, facts in now.models.items()}
    grid = earlier if earlier.factors and not now.factors else now
    reference = specs.get(earlier.reference or "", earlier.reference)
    settings = {**now.settings, "repeats": max(earlier.repeats, now.repeats)}
    return dataclasses.replace(
        now,
        settings={**settings, "grid": grid.settings.get("grid")},
        reference=reference if grid is earlier else now.reference or reference,
        started=earlier.started,
        device=", ".join(dict.fromkeys([*earlier.device.split(", "), *now.device.split(", ")])),
        images=_by("id", earlier.images, now.images),
        sources=_all([renamed_source(source, specs) for source in earlier.sources], now.sources),
        targets=_all([specs.get(target, target) for target in earlier.targets], now.targets),
        models=dict(models.values()),
        attacks=_by("label", [dataclasses.replace(attack, planned=0) for attack in earlier.attacks], now.attacks),
        plugins=_by("name", earlier.plugins, now.plugins),
        history=earlier.history if earlier.command == now.command else _all(earlier.history, (earlier.command,)),
    )


def identities(manifest: Manifest) -> dict[str, tuple[str, str]]:
    """Spec and identity of each attack and model, by label."""
    facts = chain(((attack.spec, attack) for attack in manifest.attacks), manifest.models.items())
    return {one.label: (spec, one.identity) for spec, one in facts}


def renamed(earlier: Manifest, now: Manifest) -> dict[str, str]:
    """Specs of attacks and models in ``earlier`` → those in ``now``, where they differ and the labels do not."""
    new = {facts.label: spec for spec, facts in now.models.items()} | {a.label: a.spec for a in now.attacks}
    old = {spec: facts.label for spec, facts in earlier.models.items()} | {a.spec: a.label for a in earlier.attacks}
    return {spec: new[label] for spec, label in old.items() if new.get(label, spec) != spec}


def renamed_source(source: str, specs: dict[str, str]) -> str:
    """A source with its members renamed."""
    members = [specs.get(member, member) for member in members_of(source)]
    return members[0] if len(members) == 1 else f"ensemble({', '.join(members)})"


def renamed_rows(rows: pd.DataFrame, specs: dict[str, str]) -> pd.DataFrame:
    """Rows with attacks, targets and sources renamed."""
    named = {name: [specs.get(spec, spec) for spec in rows[name].astype(str)] for name in ("attack", "target")}
    return rows.assign(**named, source=[renamed_source(str(source), specs) for source in rows["source"]])


def members_of(source: str) -> list[str]:
    """Specs of the models of a source."""
    calls = parse(source).calls
    return [str(one) for one in calls[0].args] if len(calls) == 1 and calls[0].name == "ensemble" else [source]


def _by(name: str, *parts: Any) -> Any:
    """Facts of all ``parts``, the later in the place of the earlier of the same ``name``."""
    return tuple({getattr(one, name): one for part in parts for one in part}.values())


def _all(*parts: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for part in parts for one in part))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"
