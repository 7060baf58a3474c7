"""The tables in READMEs that are made from the plugins themselves; ``python -m iqarena.tools.docs FILE…`` writes them.

A table stands between ``<!-- make docs: KIND -->`` and ``<!-- end -->``; a test fails when one is stale.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tabulate import tabulate

from iqarena.errors import SpecError, WeightsError, nearest
from iqarena.registry.tables import build_attack, build_defense, build_model, names, origin
from iqarena.tools.describe import default, model_table, summary

_PLACE = re.compile(r"(<!-- make docs: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def refresh(text: str) -> str:
    """``text`` with every generated table as it should be."""

    def table(match: re.Match[str]) -> str:
        kind = match[2]
        if kind not in _TABLES:
            raise SpecError(f"no table {kind!r} to generate{nearest(kind, _TABLES)}")
        rows = _TABLES[kind]()
        return f"{match[1]}\n{tabulate(rows, headers='keys', tablefmt='github', disable_numparse=True)}\n\n{match[3]}"

    return _PLACE.sub(table, text)


def _attacks() -> list[dict[str, object]]:
    return [
        {
            "attack": f"`{default('attack', name)!r}`",
            "what": _summary("attack", name),
            "sees": build_attack(name).access,
            "gradients": build_attack(name).cost,
            "queries": build_attack(name).queries,
        }
        for name in _shipped("attack")
    ]


def _filters() -> list[dict[str, object]]:
    return [
        {"filter": f"`{default('filter', name)!r}`", "what": _summary("filter", name)} for name in _shipped("filter")
    ]


def _models() -> list[dict[str, object]]:
    rows = []
    for name in _shipped("model"):
        facts = build_model(name).facts
        if "monotone" not in facts:
            continue  # a published scorer
        falls = [f"{100 * facts['monotone'][kind]['steps_that_fall']:.0f}" for kind in ("blur", "noise", "jpeg")]
        rows.append(
            {
                "model": f"`{name}`",
                "what": _summary("model", name),
                "backbone": facts["backbone"],
                "parameters": f"{facts['parameters'] / 1e6:.1f} M",
                "size": f"{facts['bytes'] / 1e6:.1f} MB",
                "validation SROCC, PLCC": f"{facts['validation_srocc']:.3f}, {facts['validation_plcc']:.3f}",
                "steps that fall: blur, noise, JPEG": f"{', '.join(falls)} %",
            }
        )
    return rows


def _defenses() -> list[dict[str, object]]:
    rows = []
    for name in _shipped("defense"):
        defense = build_defense(name)
        gradient = "exact" if defense.differentiable else "straight-through"
        rows.append(
            {
                "defense": f"`{defense!r}`",
                "what": _summary("defense", name),
                "gradient": f"{gradient}, mean over draws" if defense.stochastic else gradient,
                "random": "yes" if defense.stochastic else "no",
            }
        )
    return rows


def _hardened() -> list[dict[str, object]]:
    rows = []
    scorers = [name for name in _shipped("model") if "monotone" in build_model(name).facts]
    trained = [name for name in _shipped("defense") if name in names("training")]
    for spec in (f"{defense}|{name}" for defense in trained for name in scorers):
        try:
            facts = build_model(spec).facts["hardened"]
        except WeightsError:  # none are shipped
            continue
        before, after = facts["before"], facts["after"]
        rows.append(
            {
                "scorer": f"`{spec}`".replace("|", "\\|"),
                "mean gradient norm": f"{before['gradient_l1']:.0f} → {after['gradient_l1']:.0f}",
                "clean SROCC": f"{before['srocc']:.3f} → {after['srocc']:.3f}",
                "clean PLCC": f"{before['plcc']:.3f} → {after['plcc']:.3f}",
                "training images": facts["data"].partition(": ")[2].partition(" ")[0],
                "minutes": f"{facts['training_seconds'] / 60:.0f}",
                "size": f"{facts['bytes'] / 1e6:.1f} MB",
            }
        )
    return rows


def _imagesets() -> list[dict[str, object]]:
    rows = []
    for name in _shipped("imageset"):
        images = default("imageset", name)
        published = [f"{number} {split}" for split, number in getattr(images, "splits", {}).items()]
        rows.append(
            {
                "set": f"`{images!r}`",
                "what": _summary("imageset", name),
                "images": ", ".join(published),
                "in its folder": ", ".join(f"`{thing}`" for thing in getattr(images, "layout", ())),
            }
        )
    return rows


def _published() -> list[dict[str, str]]:
    return [
        {key: value for key, value in row.items() if key not in ("random", "licence")} | {"model": f"`{row['model']}`"}
        for row in model_table()
        if row["model"] in _shipped("model") and row["files"] != "shipped"
    ]


def _shipped(kind: str) -> list[str]:
    packages = ("iqarena.", "iqarena_attacks.", "iqarena_models.")
    return [name for name in names(kind) if origin(kind, name).startswith(packages)]


def _summary(kind: str, name: str) -> str:
    return summary(kind, name).replace("|", "\\|")


_TABLES = {
    "attacks": _attacks, "defenses": _defenses,
    "hardened": _hardened, "filters": _filters, "imagesets": _imagesets, "models": _models,
    "published": _published,
}  # fmt: skip


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(refresh(path.read_text(encoding="utf-8")), encoding="utf-8")
