"""Several run folders of one setting as one: shards from several machines, or results of several people."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import pandas as pd

from iqarena.errors import StoreError
from iqarena.files.atomic import plain_errors, write_atomically
from iqarena.runner.manifest import finish
from iqarena.store.folder import Store
from iqarena.store.lock import RunLock
from iqarena.store.manifest import GradientCounts, Manifest
from iqarena.store.schema import CRAFTED, NAMES, SCORED, TIMES
from iqarena.store.union import differences, identities, members_of, renamed, renamed_rows, united

_OF_AN_IMAGE = {"image_sha256": "other pixels", "cluster": "another reference image", "mos": "another opinion score"}
_NUMBERS = [name for name in ["sha256", *CRAFTED, *SCORED] if name not in TIMES]


def merge(folders: Sequence[Path], out: Path) -> Manifest:
    """Write the rows, kept images and manifest of all ``folders`` into ``out``; none of them is changed.

    A row that several have must have the same key and numbers in all (times apart; ``score_float`` may be unknown in
    one); the first folder's is taken, and a result before a failure. Raises :class:`StoreError`, one line, for runs of
    different settings, for rows that disagree, for results of other pixels, opinion scores, weights or code, and for an
    ``out`` that holds a run.
    """
    stores = [Store(folder) for folder in folders]
    manifests = [store.manifest() for store in stores]
    for store, manifest in zip(stores[1:], manifests[1:], strict=True):
        if differing := differences(manifests[0], manifest, ("in the first", "in the second")):
            raise StoreError(
                f"{stores[0].folder} and {store.folder} are runs of different settings: {'; '.join(differing)}"
            )
    both = reduce(united, manifests)
    tables = [store.rows().assign(folder=str(store.folder)) for store in stores]
    _same_plugins(manifests, tables)
    rows = _agreed(pd.concat([renamed_rows(t, renamed(m, both)) for t, m in zip(tables, manifests, strict=True)]))
    both = _counted(both, manifests, rows)
    if len(rows) == both.planned:
        both = finish(both, rows)
    result = Store(out)
    result.create()
    with RunLock(out, "merge") as lock:
        with lock.gate():
            lock.enter(alone=True)
            result.remove_leftovers()
            if result.has_manifest():
                raise StoreError(f"{out} already holds a run; choose another --out")
        for image, group in rows.groupby("image"):
            result.replace(str(image), group.to_dict("records"))
        for store in stores:
            _copy(store.folder / "adversarials", out / "adversarials")
        result.write_manifest(both)
        result.pack()
    return both


def _same_plugins(manifests: Sequence[Manifest], tables: Sequence[pd.DataFrame]) -> None:
    """Raises :class:`StoreError` naming an attack or a model that results of two folders were not made with alike."""
    known: dict[str, tuple[str, str]] = {}
    for manifest, rows in zip(manifests, tables, strict=True):
        names = rows.loc[rows["status"] == "ok", ["attack", "source", "target", "folder"]].drop_duplicates()
        used = {*names["attack"], *names["target"], *(one for source in names["source"] for one in members_of(source))}
        for label, (spec, identity) in identities(manifest).items():
            if spec in used:
                folder = names["folder"].iloc[0]
                other, where = known.setdefault(label, (identity, folder))
                if other != identity:
                    raise StoreError(
                        f"{where} and {folder} disagree on {label}: other weights, code or versions; run the suite of"
                        " one again, or merge without it"
                    )


def _agreed(rows: pd.DataFrame) -> pd.DataFrame:
    """One row of each name; raises :class:`StoreError` naming both folders of two that disagree."""
    rows = rows.assign(failed=rows["status"] != "ok").sort_values([*NAMES, "failed"], kind="stable")
    twice = rows[rows.duplicated(NAMES, keep=False) & ~rows["failed"]]
    for _, group in twice.groupby(NAMES):
        first = group.iloc[0]
        for _, other in group.iloc[1:].iterrows():
            if why := _disagreement(first, other):
                raise StoreError(
                    f"{first['folder']} and {other['folder']} disagree on {first['attack']} from {first['source']} on"
                    f" {first['target']}, image {first['image']}: {why}; remove the rows of one, or merge without it"
                )
    for column, what in _OF_AN_IMAGE.items():
        known = rows[rows["image_sha256"] != ""].drop_duplicates(["image", column])
        for image, group in known[known.duplicated("image", keep=False)].groupby("image"):
            one, other = group["folder"].iloc[:2]
            raise StoreError(
                f"{one} and {other} disagree on image {image}: {what}; run the suite of one again, or merge without it"
            )
    return rows.drop_duplicates(NAMES).drop(columns=["folder", "failed"])


def _disagreement(one: Any, other: Any) -> str:
    if one["key"] != other["key"]:
        return "made with other pixels, weights or versions"
    apart = [
        name for name in _NUMBERS if one[name] != other[name] and not (pd.isna(one[name]) and pd.isna(other[name]))
    ]
    apart = [name for name in apart if name != "score_float" or (pd.notna(one[name]) and pd.notna(other[name]))]
    return f"{apart[0]} is {one[apart[0]]} and {other[apart[0]]}" if apart else ""


def _counted(both: Manifest, manifests: Sequence[Manifest], rows: pd.DataFrame) -> Manifest:
    """``planned`` of the whole: of each attack and target what is there, or what a folder planned if that is more."""

    def most(facts: list[Any], there: pd.Series, spec: str, label: str) -> int:
        return max([int(there.get(spec, 0)), *(one.planned for one in facts if one.label == label)])

    of_attack, of_target = rows["attack"].value_counts(), rows["target"].value_counts()
    attack_facts = [attack for manifest in manifests for attack in manifest.attacks]
    model_facts = [model for manifest in manifests for model in manifest.models.values()]
    attacks = tuple(
        dataclasses.replace(a, planned=most(attack_facts, of_attack, a.spec, a.label)) for a in both.attacks
    )
    models = {
        spec: dataclasses.replace(m, planned=most(model_facts, of_target, spec, m.label))
        for spec, m in both.models.items()
    }
    planned = sum(attack.planned for attack in attacks)
    counts = [manifest.gradients or GradientCounts(0, resumed=True) for manifest in manifests]
    known = not any(count.resumed for count in counts)
    gradients = GradientCounts(sum(count.evaluated for count in counts), resumed=False) if known else None
    return dataclasses.replace(
        both, attacks=attacks, models=models, planned=planned, finished=None, gradients=gradients, rows=None
    )


def _copy(source: Path, target: Path) -> None:
    with plain_errors(f"cannot copy {source} to {target}", source, target):
        for path in source.glob("*/*.zip"):
            copy = target / path.relative_to(source)
            if not copy.exists():
                write_atomically(copy, path.read_bytes(), sync=False)
