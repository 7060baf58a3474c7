"""Seeded synthetic rows whose answers are known, and the manifest of their run: what the tests of reports share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from toymanifest import toy_manifest

from iqarena.store.manifest import Manifest

MODELS = ["cnn", "hyper", "vit"]
ATTACKS = {"identity": 0.0, "noise": 0.0, "fgsm": 3.0, "mi_fgsm": 6.0, "sega(mask=jnd(6)|soft)": 9.0}
STRENGTH = {"whitebox": 5.0, "transfer": 1.0, "ensemble_holdout": 1.5}


def make_rows(images: int = 12, seed: int = 0) -> pd.DataFrame:
    """Every attack from every source on every target; attack k moves a target by its number of points, plus noise."""
    rng = np.random.default_rng(seed)
    clean = {target: rng.uniform(10, 90, images) for target in MODELS}
    cells = [(s, [s]) for s in MODELS]
    cells += [
        (f"ensemble({', '.join(members)})", members) for m in MODELS if (members := [x for x in MODELS if x != m])
    ]
    rows = []
    for (label, effect), (source, members), target in (
        (a, c, t) for a in ATTACKS.items() for c in cells for t in MODELS if len(c[1]) == 1 or t not in c[1]
    ):
        if members == [target]:
            relation = "whitebox"
        elif len(members) == 1:
            relation = "transfer"
        else:
            relation = "ensemble_holdout"
        moves = label != "identity"
        for k in range(images):
            f = clean[target][k]
            s = -1 if f > 50 else 1
            directed = s * (STRENGTH[relation] * effect + moves * rng.normal())
            drift = moves * rng.normal()
            rows.append({
                "attack": spec_of(label), "attack_label": label,
                "source": source, "target": target, "relation": relation, "image": f"i{k:02d}",
                "cluster": f"c{k // 2:02d}", "repeat": 0, "status": "ok", "message": "", "direction": s,
                "score_clean": f, "score_adv": f + drift + directed, "score_control": f + drift - directed,
                "score_displaced": f + drift,
                "score_float": f + drift + directed + 0.5, "mos": float(k), "own_gain": 5 * effect,
                "linf": moves * 8 / 255, "l2": 2.0, "psnr": 32.0 if moves else np.inf, "ssim": 0.9,
                "changed": 1.0, "above_jnd": 0.1, "zero_gradient": 0.0 if effect else np.nan,
                "forwards": 2, "backwards": 1 if effect else 0, "queries": 0, "seconds": 0.1, "sha256": "",
            })  # fmt: skip
    return pd.DataFrame(rows)


def spec_of(label: str) -> str:
    """The full spec of an attack of :func:`make_rows`."""
    return f"{label.rstrip(')')}{', ' if '(' in label else '('}eps=8/255)"


def make_manifest(rows: pd.DataFrame, **changes: Any) -> Manifest:
    """A plan of all ``ATTACKS`` that has just the rows that there are."""
    of_attack, of_target = rows["attack_label"].value_counts(), rows["target"].value_counts()
    facts: dict[str, Any] = {
        "attacks": [
            {
                "label": label, "spec": spec_of(label), "planned": int(of_attack.get(label, 0)),
                "reconstructed": "a <reading>" if "sega" in label else "",
            }
            for label in ATTACKS
        ],
        "models": {target: {"label": target, "planned": int(of_target.get(target, 0))} for target in MODELS},
        "reference": spec_of("mi_fgsm"),
        **{"suite": "toy & co", "seed": 5, "planned": len(rows), "sources": list(rows["source"].unique())},
        "targets": MODELS,
    }  # fmt: skip
    return toy_manifest(**facts | changes)


def fail(rows: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    numeric = rows.select_dtypes("number").columns.drop("repeat")
    rows = rows.astype(dict.fromkeys(numeric, float))
    rows.loc[chosen, numeric] = np.nan
    rows.loc[chosen, ["status", "message"]] = ["error", "out of | <memory>"]
    return rows
