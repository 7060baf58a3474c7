"""One batch of images through all sources and attacks, cell by cell: what is missing of it, and nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from iqarena.api import ImageItem
from iqarena.errors import StoreError
from iqarena.images.memory import one_at_a_time
from iqarena.metrics.distortion import Reference
from iqarena.runner.batch import Batch, clean_sha256
from iqarena.runner.measure import Result, attack_rows, failed, reason
from iqarena.runner.work import Bench, Crafting, Todo, head, todo
from iqarena.store.adversarials import pixels_sha256


@dataclass
class Group:
    """Images of one size of which the same is missing, and what that is, image by image."""

    batch: Batch
    todos: list[Todo] = field(default_factory=list)


def cells(bench: Bench, items: Sequence[ImageItem]) -> Iterator[Result]:
    """The cells of these images: a source (with all attacks, in one repeat) each, rows only where they are missing.

    An image that cannot be read costs error rows, not the run.
    """
    for part in _groups(bench, items):
        if isinstance(part, Result):
            yield part
            continue
        for repeat in range(bench.plan.suite.repeats):
            part.batch.gradients.clear()
            by_source: defaultdict[object, list[Crafting]] = defaultdict(list)
            for crafting in part.todos[0].row_ids:
                if crafting.repeat == repeat:
                    by_source[crafting.source].append(crafting)
            for source in bench.plan.cells:
                yield _cell(bench, part, by_source[source])


def _cell(bench: Bench, group: Group, craftings: Sequence[Crafting]) -> Result:
    cell = Result(cells=len(group.todos))
    for crafting in craftings:
        result = _run(bench, crafting, group.batch, group.todos)
        if len(group.todos) > 1 and any(row["status"] == "error" for row in result.rows):
            result = Result()  # one at a time: no image pays for its neighbour
            for batch, own in zip(group.batch.singles(), group.todos, strict=True):
                alone = _run(bench, crafting, batch, [own])
                result.rows += alone.rows
                result.files |= alone.files
        cell.rows += result.rows
        cell.files |= result.files
    return cell


def _run(bench: Bench, crafting: Crafting, batch: Batch, todos: Sequence[Todo]) -> Result:
    stored = [own.stored[crafting] for own in todos] if crafting.known else []
    with one_at_a_time(sum(image.size for image in batch.images) // 3):
        return attack_rows(bench, crafting, batch, [own.row_ids[crafting] for own in todos], stored)


def _groups(bench: Bench, items: Sequence[ImageItem]) -> Iterator[Group | Result]:
    """Results for images that need or allow no work; the others in groups that travel together."""
    groups: dict[object, Group] = {}
    every = len(bench.plan.cells) * bench.plan.suite.repeats
    for item in items:
        try:
            image = bench.plan.images.read(item)
            sha256 = clean_sha256(image)
            missing = todo(bench, item, sha256)
            with one_at_a_time(image.size // 3):
                reference = Reference.of(image) if missing.row_ids else None
        except StoreError:
            raise
        except Exception as error:  # an image set of somebody else's may fail in any way
            yield Result(_unreadable(bench, item, reason(error)), cells=every)
            continue
        if reference is None:
            yield Result(cells=every)
            continue
        key = (image.shape, tuple(missing.row_ids))
        group = groups.setdefault(key, Group(Batch([], [], [], bench.device)))
        for target, scores, seconds in missing.scores:
            scores[pixels_sha256(image)] = scores[sha256]  # an adversarial image may be the clean one
            group.batch.remember(target, len(group.todos), scores, seconds)
        group.batch.items.append(item)
        group.batch.images.append(image)
        group.batch.references.append(reference)
        group.todos.append(missing)
    yield from groups.values()


def _unreadable(bench: Bench, item: ImageItem, message: str) -> list[dict[str, object]]:
    """Error rows in place of everything there might be of this image."""
    return [
        failed(head(bench, attack, source, target, item, "", repeat), message)
        for attack, source, target in bench.plan.results()
        for repeat in range(bench.plan.suite.repeats)
    ]
