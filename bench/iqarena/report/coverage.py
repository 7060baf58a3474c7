"""How much of what is planned now is there: a run may have grown, been stopped, or hold what is no longer planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from iqarena.report.specs import listed
from iqarena.store.manifest import Manifest


@dataclass(frozen=True)
class Coverage:
    """Rows of the plan: there with a result (``ok``), there without one (``failed``), and all (``planned``).

    ``attacks`` and ``targets`` that lack rows are named with (there with a result, planned).
    """

    ok: int
    failed: int
    planned: int
    attacks: Mapping[str, tuple[int, int]]
    targets: Mapping[str, tuple[int, int]]
    unplanned: tuple[str, ...]  # attacks, sources and targets that only rows of an earlier plan have

    @property
    def complete(self) -> bool:
        return self.ok >= self.planned and not self.unplanned


def coverage(rows: pd.DataFrame, manifest: Manifest) -> Coverage:
    """Count ``rows`` against the plan in ``manifest``; per attack and target as far as it holds their numbers."""
    planned = _planned(rows, manifest)
    ok = planned[planned["status"] == "ok"]
    of_attack, of_target = ok["attack"].value_counts(), ok["target"].value_counts()
    return Coverage(
        ok=len(ok),
        failed=len(planned) - len(ok),
        planned=manifest.planned,
        attacks=_incomplete({a.label: (int(of_attack.get(a.spec, 0)), a.planned) for a in manifest.attacks}),
        targets=_incomplete({t: (int(of_target.get(t, 0)), manifest.model(t).planned) for t in manifest.targets}),
        unplanned=tuple(dict.fromkeys(_unplanned(rows, manifest))),
    )


def results(cover: Coverage) -> str:
    """The one line on what is there."""
    share = f"{100 * cover.ok / cover.planned:.1f} %" if cover.planned else "none planned"
    return f"{cover.ok} of {cover.planned} planned rows are there ({share})"


def notice(cover: Coverage) -> str:
    """What a reader must know before the first table; empty for a complete run of one plan."""
    if cover.complete:
        return ""
    sentences = [f"This run is incomplete: {results(cover)}"] if cover.ok < cover.planned else []
    missing = cover.planned - cover.ok - cover.failed
    sentences[:1] = [f"{text}, {cover.failed} failed, {max(0, missing)} are missing" for text in sentences[:1]]
    for kind, lacking in (("attacks", cover.attacks), ("targets", cover.targets)):
        names = [f"{name} ({there} of {planned})" for name, (there, planned) in lacking.items()]
        sentences += [f"Incomplete {kind}: {listed(names)}"] if names else []
    if cover.unplanned:
        sentences.append(f"Shown from an earlier plan, not counted above: {listed(cover.unplanned)}")
    return ". ".join(sentences) + "."


def _planned(rows: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """The rows that the plan has; a query attack starts from its target, whatever the sources are."""
    attacks = [attack.spec for attack in manifest.attacks]
    source = rows["source"].isin(manifest.sources) | (rows["relation"] == "query")
    return rows[rows["attack"].isin(attacks) & rows["target"].isin(manifest.targets) & source]


def _unplanned(rows: pd.DataFrame, manifest: Manifest) -> list[str]:
    attacks = {attack.spec for attack in manifest.attacks}
    sources = rows["source"][rows["relation"] != "query"]
    return [
        *rows["attack_label"][~rows["attack"].isin(attacks)].unique(),
        *sources[~sources.isin(manifest.sources)].unique(),
        *rows["target"][~rows["target"].isin(manifest.targets)].unique(),
    ]


def _incomplete(counts: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    return {name: count for name, count in counts.items() if count[0] < count[1]}
