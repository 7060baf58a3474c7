"""One batch of pictures through all sources and attacks: the cells of a run, and which of their rows are missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from iqarena.api import Attack, ImageItem, Model
from iqarena.metrics.distortion import Reference
from iqarena.runner.batch import Batch
from iqarena.runner.measure import Bench, Row, attack_rows, failed, named, reason
from iqarena.suite.plan import Plan
from iqarena.suite.sources import SourceSpec


def run_batch(bench: Bench, items: Sequence[ImageItem]) -> None:
    """Every missing row of these pictures. A picture that cannot be read costs error rows, not the run; what goes
    through here (a disk that is full) stops all workers."""
    try:
        for batch in _batches(bench, items):
            for repeat in range(bench.plan.suite.repeats):
                batch.gradients.clear()
                for source in bench.plan.cells:
                    if bench.stop.is_set():
                        return
                    _run_cell(bench, source, batch, repeat)
                    bench.tick(len(batch.items))
    except BaseException:
        bench.stop.set()
        raise


def _batches(bench: Bench, items: Sequence[ImageItem]) -> list[Batch]:
    """The readable pictures, those of equal size together; rows for the others are stored here."""
    by_size: dict[tuple[int, ...], Batch] = {}
    for item in items if not bench.stop.is_set() else ():
        try:
            picture = bench.plan.images.read(item)
            reference = Reference.of(picture)
        except Exception as error:  # an image set of somebody else's may fail in any way
            _store_unreadable(bench, item, reason(error))
            continue
        batch = by_size.setdefault(picture.shape, Batch([], [], [], bench.device))
        batch.items.append(item)
        batch.pictures.append(picture)
        batch.references.append(reference)
    return list(by_size.values())


def _run_cell(bench: Bench, source: SourceSpec, batch: Batch, repeat: int) -> None:
    """All attacks from one source; rows are stored together, and only those that are missing."""
    rows: list[Row] = []
    for attack, targets in _crafted_for(bench.plan, source):
        heads = [
            [
                named(bench, attack, source, target, item, sha, repeat)
                for item, sha in zip(batch.items, batch.sha256, strict=True)
            ]
            for target in targets
        ]
        if all(head["key"] in bench.done for some in heads for head in some):
            continue
        made = attack_rows(bench, attack, source, targets, batch, repeat, heads)
        if len(batch.items) > 1 and any(row["status"] == "error" for row in made):
            made = []  # one at a time: no picture pays for its neighbour
            for i, one in enumerate(batch.singles()):
                made += attack_rows(bench, attack, source, targets, one, repeat, [[some[i]] for some in heads])
        rows += [row for row in made if row["key"] not in bench.done]
    for item in batch.items:
        if mine := [row for row in rows if row["image"] == item.id]:
            bench.store.write(item.id, mine)


def _crafted_for(plan: Plan, source: SourceSpec) -> Iterator[tuple[Attack, tuple[Model, ...]]]:
    """Each attack with the targets of one crafting: all of them together, or each alone if it is queried."""
    for attack in plan.attacks:
        targets = plan.met(attack, source)
        for some in [(t,) for t in targets] if attack.queries else [targets]:
            if some:
                yield attack, some


def _store_unreadable(bench: Bench, item: ImageItem, message: str) -> None:
    """Error rows in place of everything there might be of this picture."""
    rows = [
        failed(named(bench, attack, source, target, item, "", repeat), message)
        for attack, source, target in bench.plan.results()
        for repeat in range(bench.plan.suite.repeats)
    ]
    bench.store.write(item.id, rows)
    bench.tick(len(bench.plan.cells) * bench.plan.suite.repeats)
