"""Where the numbers of a report come from."""

from __future__ import annotations

import pandas as pd

from iqarena.report.coverage import Coverage, results
from iqarena.store.manifest import GradientCounts, Manifest
from iqarena.suite.relations import HELD_OUT


def provenance(manifest: Manifest, rows: pd.DataFrame, cover: Coverage) -> dict[str, str]:
    """Where the numbers come from, as name → text."""
    held_out = rows.loc[rows["relation"].isin(HELD_OUT), ["source", "target"]].drop_duplicates()
    packages = [f"{name} {version}" for name, version in sorted(manifest.packages.items())]
    facts = {
        "Suite": manifest.suite,
        "Command": manifest.command,
        "Seed": str(manifest.seed),
        "Run": f"{manifest.started} to {manifest.finished or 'unfinished'}",
        "Results": results(cover),
        "Gradients": _gradients(rows, manifest.gradients),
        "Size": f"{rows['image'].nunique()} images of {rows['cluster'].nunique()} reference images, "
        f"{rows['attack_label'].nunique()} attacks, "
        f"{len(held_out)} held-out pairs of source and target",
        "Sources": ", ".join(manifest.sources),
        "Targets": ", ".join(manifest.targets),
        "Device": f"{manifest.device}, {manifest.precision}",
        "Software": ", ".join([f"Python {manifest.python}", *packages]),
        "Commit": manifest.git_commit or "",
    }
    return {name: text for name, text in facts.items() if text}


def _gradients(rows: pd.DataFrame, counts: GradientCounts | None) -> str:
    """How many gradients the attacks requested by the rows, and how many the run says it evaluated for them."""
    if not counts:
        return ""
    image = ["attack", "source", "image", "repeat"]
    crafted = rows[[*image, "backwards"]].drop_duplicates(image)
    requested = f"{crafted['backwards'].sum():,.0f} gradients of an image requested by the attacks"
    if counts.resumed:
        return f"{requested}; the last invocation, which went on from earlier rows, evaluated {counts.evaluated:,}"
    return f"{requested}, {counts.evaluated:,} evaluated; the others were remembered"
