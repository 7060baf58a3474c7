"""A plan for a folder that already holds rows: what stays of them, under which names, and how much there is in all."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import Any

import pandas as pd

from iqarena.errors import IqarenaError
from iqarena.files.hashing import json_digest
from iqarena.registry.tables import build_attack
from iqarena.runner.driver import shard_items
from iqarena.store.folder import Store
from iqarena.store.keys import identity
from iqarena.store.manifest import Manifest
from iqarena.store.schema import NAMES
from iqarena.store.union import identities, members_of, renamed, renamed_source, united
from iqarena.suite.plan import Plan

_METADATA = ["attack", "source", "target", "cluster", "mos", "status", "message"]


def outside(rows: pd.DataFrame, plan: Plan) -> pd.Series:
    """Which rows ``plan`` does not have."""
    planned = [(repr(attack), source.spec, repr(target)) for attack, source, target in plan.results()]
    known = pd.MultiIndex.from_frame(rows[["attack", "source", "target"]].astype(str)).isin(planned)
    images = rows["image"].isin([item.id for item in shard_items(plan)])
    return ~(images & (rows["repeat"] < plan.suite.repeats) & known)


def grown(earlier: Manifest | None, now: Manifest, rows: pd.DataFrame, plan: Plan) -> Manifest:
    """The manifest of ``plan`` in a folder that has ``earlier`` and these ``rows``; rows outside the plan count too."""
    if earlier is None:
        return now
    more = rows[outside(rows, plan)]
    of_attack, of_target = more["attack"].value_counts(), more["target"].value_counts()
    both = united(earlier, now)

    def count(facts: Any, others: int) -> Any:
        return dataclasses.replace(facts, planned=facts.planned + int(others))

    return dataclasses.replace(
        both,
        attacks=tuple(count(attack, of_attack.get(attack.spec, 0)) for attack in both.attacks),
        models={spec: count(model, of_target.get(spec, 0)) for spec, model in both.models.items()},
        planned=now.planned + len(more),
    )


def forget_failures(store: Store, plan: Plan) -> None:
    """Drop the rows outside ``plan`` that failed: they hold no numbers, and no run of it would try them again. Only a
    runner that is alone may."""
    rows = store.rows([*NAMES, "status"])
    gone = rows[(rows["status"] == "error") & outside(rows, plan)]
    names = set(gone[NAMES].itertuples(index=False, name=None))
    left = {
        image: [row for row in store.stored(image) if tuple(row[name] for name in NAMES) not in names]
        for image in gone["image"].astype(str).unique()
    }
    store.forget([image for image, others in left.items() if not others])
    for image, others in left.items():
        if others:
            store.replace(image, others)


def bring_up_to_date(store: Store, earlier: Manifest, now: Manifest, plan: Plan) -> None:
    """Rewrite what is stored where ``now`` knows better.

    Rows get the names that attacks and models have now, and the clusters and opinion scores that images have now. Rows
    outside the plan of what has changed since (version, code, weights) become error rows: a row must be what its name
    says. Those inside the plan are about to be replaced.
    """
    specs, changed = renamed(earlier, now), _changed(earlier, now)
    images = {image.id: image for image in now.images}
    if not specs and not changed and all(_same(image, images.get(image.id, image)) for image in earlier.images):
        return
    rows = store.rows()
    new = rows.copy()
    for name in ("attack", "target"):
        new[name] = [specs.get(str(spec), spec) for spec in rows[name]]
    new["source"] = [renamed_source(str(source), specs) for source in rows["source"]]
    for name in ("cluster", "mos"):
        old = zip(rows["image"], rows[name], strict=True)
        new[name] = [getattr(images[str(i)], name) if i in images else value for i, value in old]
    new["mos"] = new["mos"].astype(float)
    parts = {source: {source, *members_of(source)} for source in new["source"].unique()}
    names = zip(new["attack"], new["source"], new["target"], strict=True)
    why = pd.Series([min(changed & {a, t, *parts[s]}, default="") for a, s, t in names], new.index, str)
    stale = (why != "") & (new["status"] == "ok") & outside(new, plan)
    new.loc[stale, "status"] = "error"
    new.loc[stale, "message"] = why[stale] + " has changed since; run it again"
    blank = {"mos": float("-inf")}
    touched = (rows[_METADATA].fillna(blank) != new[_METADATA].fillna(blank)).any(axis=1)
    for image in rows.loc[touched, "image"].unique():
        store.replace(str(image), new[new["image"] == image].to_dict("records"))


def _changed(earlier: Manifest, now: Manifest) -> set[str]:
    """Specs in ``now`` of what has another version, code or weights than in ``earlier``, and those of attacks outside
    it that do."""
    old, new = identities(earlier), identities(now)
    others = (attack for attack in earlier.attacks if attack.label not in new and attack.identity)
    return {
        *(spec for label, (spec, own) in new.items() if old.get(label, ("", own))[1] != own),
        *(attack.spec for attack in others if _identity(attack.spec) not in ("", attack.identity)),
    }


def _identity(attack: str) -> str:
    """That of an attack's plugin now; empty for one that is not there."""
    with suppress(IqarenaError):
        return json_digest(identity(build_attack(attack)))
    return ""


def _same(old: Any, new: Any) -> bool:
    return (old.cluster, old.mos) == (new.cluster, new.mos)
