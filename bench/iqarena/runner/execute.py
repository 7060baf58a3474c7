"""A run from manifest to rows: what an earlier run left, the rounds of a budget search, what is whole in the end."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager

import pandas as pd

from iqarena.errors import IqarenaError
from iqarena.files.atomic import plain_errors
from iqarena.files.hashing import json_digest
from iqarena.runner.budget_search import rounds
from iqarena.runner.driver import Options, run_plan, shard_items
from iqarena.runner.growth import bring_up_to_date, forget_failures, grown, outside
from iqarena.runner.manifest import build_manifest, earlier_manifest, finish, row_counts, with_budgets
from iqarena.runner.settled import Settled
from iqarena.store.folder import Store
from iqarena.store.lock import RunLock
from iqarena.store.manifest import GradientCounts, Manifest
from iqarena.store.union import setting
from iqarena.suite.plan import Plan
from iqarena.worker.gallery import Gallery
from iqarena.worker.work import craftings

Progress = Callable[[int], AbstractContextManager[Callable[[int], object]]]  # craftings → what hears of finished ones


def execute(
    plan: Plan, store: Store, options: Options, *, overwrite: str, command: str, progress: Progress
) -> tuple[Manifest, pd.DataFrame]:
    """Run ``plan`` into ``store``; returns manifest and rows. The manifest is finished when no row is missing.

    ``overwrite`` is ``missing`` (add what is missing), ``always`` (start afresh) or ``never`` (refuse a folder that
    holds a run).
    """
    if plan.suite.ssim and options.shard != (1, 1):
        raise IqarenaError("--shard: a search for an SSIM needs all images; leave out --shard, or the suite's ssim")
    keys = options.keys(plan)
    own = build_manifest(plan, options, command, keys)
    store.create()
    items = shard_items(plan, options.shard)
    with RunLock(store.folder, json_digest([setting(own), _work(own)]), options.shard) as lock:
        with lock.gate():
            lock.enter(alone=overwrite == "always")
            if alone := lock.is_alone():
                store.remove_leftovers()
            earlier, before, manifest = _opened(plan, store, own, overwrite, alone=alone)
        settled = Settled(store.folder, plan, own, items)
        known, planned = settled.images(before), len(items) * len(list(craftings(plan)))
        evaluated, budgets = 0, plan

        def unread(image: str, message: str) -> None:
            logging.getLogger("iqarena").warning(f"iqarena: {message}; {image} keeps the results that it has")
            settled.forget(image)

        for budgets in rounds(plan, store):
            with progress(planned) as tick:
                usage = run_plan(budgets, store, options, tick, keys, known, unread)
            evaluated += round(sum(used.evaluated["gradient"] for used in usage))
        with lock.gate():
            if lock.is_alone():
                store.pack()
            rows = before
            if store.written or options.shard != (1, 1) or budgets is not plan:  # another shard may have written
                rows = store.rows()
                manifest = grown(earlier, with_budgets(own, plan, budgets), rows, budgets)
            if len(rows) == manifest.planned:
                settled.note(rows)
            same = earlier and (_work(earlier), earlier.rows) == (_work(manifest), row_counts(rows))
            if earlier and earlier.finished and same and not store.written:
                return earlier, rows
            counts = GradientCounts(evaluated, resumed=earlier is not None or len(before) > 0)
            if options.shard != (1, 1):
                own_images = {item.id for item in items}
                counts = _with_other_shards(store, evaluated, resumed=bool(before["image"].isin(own_images).any()))
            manifest = dataclasses.replace(manifest, gradients=counts)
            store.write_manifest(manifest)
            if len(rows) == manifest.planned:
                with plain_errors(f"cannot read {store.folder / 'gallery'}", store.folder):
                    Gallery(store.folder, plan).write_index()
                manifest = finish(manifest, rows)
                store.write_manifest(manifest)
            return manifest, rows


def _opened(
    plan: Plan, store: Store, own: Manifest, overwrite: str, *, alone: bool
) -> tuple[Manifest | None, pd.DataFrame, Manifest]:
    """The manifest and the rows that the folder holds already, and its new manifest, which is written."""
    if overwrite == "never" and store.has_manifest():
        raise IqarenaError(f"{store.folder} already holds a run; choose another --out, or --overwrite missing to go on")
    if overwrite == "always":
        store.clear()
    if alone:
        store.pack()
    earlier = earlier_manifest(store, own)
    if earlier and plan.suite.keep and not earlier.settings.get("keep"):
        raise IqarenaError(
            f"keep: {store.folder} has images that were not kept; iqarena export writes them, or choose another --out"
        )
    if earlier:
        if alone and not (earlier.rows and not earlier.rows.error):
            forget_failures(store, plan)
        bring_up_to_date(store, earlier, own, plan)
    before = store.rows()
    if earlier is None and outside(before, plan).any():
        raise IqarenaError(
            f"{store.rows_folder}: expected rows of this suite, found others and no manifest.json that says what they"
            " are; choose another --out, or move that folder away"
        )
    manifest = grown(earlier, own, before, plan)
    if earlier:
        manifest = dataclasses.replace(manifest, gradients=earlier.gradients)
    if not (earlier and earlier.finished and _work(earlier) == _work(manifest)):
        store.write_manifest(manifest)
    return earlier, before, manifest


def _with_other_shards(store: Store, evaluated: int, resumed: bool) -> GradientCounts:
    """What this shard evaluated and, unless one of them went on from earlier rows, what those before it did."""
    others = store.manifest().gradients or GradientCounts(0, resumed=False)
    if resumed or others.resumed:
        return GradientCounts(evaluated, resumed=True)
    return GradientCounts(others.evaluated + evaluated, resumed=False)


def _work(manifest: Manifest) -> list[object]:
    """What is planned, by which plugins and weights, on which images, against which reference, as it stands in JSON."""
    images = [(image.id, image.cluster, image.mos) for image in manifest.images]
    facts = [*map(dataclasses.asdict, manifest.attacks), *map(dataclasses.asdict, manifest.models.values())]
    models = list(manifest.models)
    return [images, facts, models, manifest.sources, manifest.targets, manifest.planned, manifest.reference]
