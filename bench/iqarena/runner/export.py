"""Adversarial images of a stored run as PNG files with a table: the kept ones, the others crafted again and checked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from iqarena.engine.device import checked_device
from iqarena.engine.scorer import Scorer
from iqarena.errors import SpecError, StoreError, nearest, plain
from iqarena.files.atomic import is_there, make_folder, plain_errors, slug, write_atomically
from iqarena.files.progress import progress_bar
from iqarena.images.tensors import to_images
from iqarena.metrics.distortion import Reference
from iqarena.registry.tables import build_attack, build_model
from iqarena.store.adversarials import Adversarials, png
from iqarena.store.folder import Store
from iqarena.store.keys import SCHEMA, Keys
from iqarena.store.schema import CRAFTED
from iqarena.suite.file import Suite
from iqarena.suite.plan import resolve
from iqarena.suite.sources import parse_source
from iqarena.worker.attacked import attack_images
from iqarena.worker.batch import Batch, clean_sha256
from iqarena.worker.measure import reason
from iqarena.worker.threads import single_threaded
from iqarena.worker.work import Bench, Crafting, Row

_NAMES = ["attack", "attack_label", "source", "queried", "image", "image_sha256", "repeat"]
_TABLE = "adversarials.csv"
COLUMNS = [*_NAMES, *CRAFTED, "sha256", "craft_key", "file", "message"]


def export(
    store: Store,
    out: Path,
    *,
    attacks: Sequence[str] = (),
    sources: Sequence[str] = (),
    images: Sequence[str] = (),
) -> pd.DataFrame:
    """Write the adversarial images of a run into ``out`` and say what they are in ``out/adversarials.csv``, which keeps
    the lines of earlier exports into the same folder.

    ``attacks`` (labels or specs), ``sources`` (specs) and ``images`` (ids) choose; none is all. One line an image:
    its names, what holds for it whoever scores it, its hash and ``file``; an image that cannot be had again has a
    ``message`` and no file. Raises :class:`IqarenaError` for a choice that the run does not have.
    """
    chosen, earlier = _chosen(store, attacks, sources, images), _earlier(out)
    kept, lines = Adversarials(store.folder), []
    make_folder(out)
    bench: Bench | None = None
    try:
        for _, group in progress_bar(chosen.groupby(["image", "repeat"], sort=True), desc="export", unit="image"):
            batch: Batch | None = None
            for record in group.to_dict("records"):
                row: Row = {str(name): value for name, value in record.items()}
                stored, image, message = kept.load(row["craft_key"], row["sha256"]), None, ""
                if stored:
                    image = stored[0]
                else:
                    try:
                        bench = bench or _bench(store, chosen)
                        batch = batch or _batch(bench, row)
                        with single_threaded(bench.device.type == "cpu"):
                            attacked = attack_images(bench, _crafting(row), batch, [row])
                        image, message = to_images(attacked.adversarial)[0], attacked.failures[0]
                    except StoreError:
                        raise
                    except (Exception, SystemExit) as error:  # a plugin may fail in any way
                        message = plain(reason(error))
                file = f"{slug(row['image'])[:40]}__{slug(row['attack_label'])[:40]}__{row['craft_key'][:12]}.png"
                if image is not None and not message:
                    write_atomically(out / file, png(image), sync=False)
                lines.append({**row, "file": "" if message else file, "message": message})
    finally:  # also of what was written before ^C
        table = pd.DataFrame(lines, columns=COLUMNS)
        together = pd.concat([earlier[~earlier["craft_key"].isin(table["craft_key"])], table])
        write_atomically(out / _TABLE, together.to_csv(index=False, lineterminator="\n").encode())
    return table


def _earlier(out: Path) -> pd.DataFrame:
    """The table of an earlier export into the same folder."""
    if not is_there(out / _TABLE):
        return pd.DataFrame(columns=COLUMNS)
    with plain_errors(f"cannot read {out / _TABLE}", out), suppress(ValueError, OSError):  # not a table, or another one
        return pd.read_csv(out / _TABLE, keep_default_na=False)[COLUMNS]
    raise StoreError(f"{out / _TABLE}: expected the table of an earlier export; choose another --out")


def _chosen(store: Store, attacks: Sequence[str], sources: Sequence[str], images: Sequence[str]) -> pd.DataFrame:
    """One row of every adversarial image that is wanted."""
    if store.manifest().schema != SCHEMA:
        raise StoreError(f"{store.folder}: its rows are of an earlier version of iqarena; run the suite again")
    rows = store.rows()
    rows = rows[rows["status"] == "ok"].drop_duplicates("craft_key")
    rows = rows.assign(queried=rows["target"].where(rows["relation"] == "query", ""))
    for kind, column, wanted in (
        ("attack", "attack_label", [_label(text) for text in attacks]),
        ("source", "source", [parse_source(text).spec for text in sources]),
        ("image", "image", images),
    ):
        there = set(rows[column])
        for name in wanted:
            if name not in there:
                raise SpecError(f"{store.folder} has no adversarial images of {kind} {name!r}{nearest(name, there)}")
        rows = rows[rows[column].isin(wanted)] if wanted else rows
    return rows


def _label(attack: str) -> str:
    return build_attack(attack).label


def _bench(store: Store, chosen: pd.DataFrame) -> Bench:
    """What crafting needs: the run's images, and the scorers of the chosen sources (and queried targets)."""
    manifest = store.manifest()
    settings: dict[str, Any] = {k: v for k, v in manifest.settings.items() if k in Suite.__dataclass_fields__}
    plan = resolve(Suite(**{**settings, "ssim": None, "diagnostics": False}))
    models = [model for source in chosen["source"].unique() for model in parse_source(str(source)).models]
    models += [build_model(str(target)) for target in chosen["queried"].unique() if target]
    device = checked_device("cpu" if manifest.device == "cpu" else "cuda")
    scorers = {model: Scorer(model, device, manifest.precision) for model in dict.fromkeys(models)}
    return Bench(plan, store.folder, scorers, Keys(plan.suite.direction, plan.suite.seed, (device, manifest.precision)))


def _batch(bench: Bench, row: Row) -> Batch:
    item = next((item for item in bench.plan.images.items() if item.id == row["image"]), None)
    if item is None:
        raise SpecError(f"{row['image']} is no longer in {bench.plan.images!r}")
    image = bench.plan.images.read(item)
    if clean_sha256(image) != row["image_sha256"]:
        raise SpecError(f"{row['image']} in {bench.plan.images!r} has other pixels than the image of the run")
    return Batch([item], [image], [Reference.of(image)], bench.device)


def _crafting(row: Row) -> Crafting:
    targets = (build_model(row["queried"]),) if row["queried"] else ()
    return Crafting(build_attack(row["attack"]), parse_source(row["source"]), int(row["repeat"]), targets, True)
