"""One batch of images through all sources and attacks, cell by cell: what is missing of it, and nothing else."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

from iqarena.api import ImageItem
from iqarena.images.memory import one_at_a_time
from iqarena.metrics.distortion import Reference
from iqarena.store.adversarials import pixels_sha256
from iqarena.worker.batch import Batch, clean_sha256
from iqarena.worker.measure import Result, attack_rows, failed, reason
from iqarena.worker.task import Step, Task
from iqarena.worker.work import Bench, Crafting, Todo, row_id, todo

Cells = Generator[Step | Result, object, None]  # a generator all the way down: Ray sends into what it iterates


@dataclass
class Group:
    """Images of one size of which the same is missing, and what that is, image by image."""

    batch: Batch
    todos: list[Todo] = field(default_factory=list)


def cells(bench: Bench, task: Task) -> Cells:
    """The cells of a task: a source (with all attacks, in one repeat) each, rows only where they are missing.

    Each :class:`Step` is yielded before it runs, so the caller always knows what is running. An image that cannot be
    read costs error rows, not the run.
    """
    passed = 0
    for part in _parts(bench, task):
        if isinstance(part, Step):
            yield part
        elif passed < task.done:
            passed += 1
        else:
            yield from part


def _parts(bench: Bench, task: Task) -> Iterator[Step | Cells]:
    """Steps of reading; cells, none of which has begun."""
    for part in _groups(bench, task):
        if isinstance(part, Step):
            yield part
            continue
        if isinstance(part, Result):
            yield _alone(part)
            continue
        for repeat in range(bench.plan.suite.repeats):
            part.batch.gradients.clear()
            by_source: defaultdict[object, list[Crafting]] = defaultdict(list)
            for crafting in part.todos[0].row_ids:
                if crafting.repeat == repeat:
                    by_source[crafting.source].append(crafting)
            for source in bench.plan.cells:
                yield _cell(bench, task, part, by_source[source])


def _alone(result: Result) -> Cells:
    yield result


def _cell(bench: Bench, task: Task, group: Group, craftings: Sequence[Crafting]) -> Cells:
    cell, started = Result(cells=len(group.todos)), time.perf_counter()
    for crafting in craftings:
        result = yield from _run(bench, task, crafting, group.batch, group.todos)
        if len(group.todos) > 1 and any(row["status"] == "error" for row in result.rows):
            result = Result()  # one at a time: no image pays for its neighbour
            for batch, own in zip(group.batch.singles(), group.todos, strict=True):
                alone = yield from _run(bench, task, crafting, batch, [own])
                result.rows += alone.rows
                result.files |= alone.files
        cell.rows += result.rows
        cell.files |= result.files
    cell.evaluated, cell.seconds = bench.newly_evaluated(), time.perf_counter() - started
    yield cell


def _run(
    bench: Bench, task: Task, crafting: Crafting, batch: Batch, todos: Sequence[Todo]
) -> Generator[Step, object, Result]:
    attack, images = crafting.attack, tuple(item.id for item in batch.items)
    target = repr(crafting.targets[0]) if attack.queries else ""
    step = Step(images, attack.label, crafting.source.spec, target, crafting.repeat)
    row_ids = [own.row_ids[crafting] for own in todos]
    if message := task.lost.get(step):
        return Result([failed(one, message) for of_image in row_ids for one in of_image])
    yield step
    stored = [own.stored[crafting] for own in todos] if crafting.known else []
    with one_at_a_time(sum(image.size for image in batch.images) // 3):
        return attack_rows(bench, crafting, batch, row_ids, stored)


def _groups(bench: Bench, task: Task) -> Iterator[Step | Group | Result]:
    """Results for images that need or allow no work; the others in groups that travel together."""
    groups: dict[object, Group] = {}
    every = len(bench.plan.cells) * bench.plan.suite.repeats
    for item in task.items:
        step = Step((item.id,))
        if message := task.lost.get(step):
            yield Result(_unreadable(bench, item, message), cells=every)
            continue
        yield step
        try:
            image = bench.plan.images.read(item)
            sha256 = clean_sha256(image)
            missing = todo(bench, item, sha256, task.stored[item.id])
            with one_at_a_time(image.size // 3):
                reference = Reference.of(image) if missing.row_ids else None
        except (Exception, SystemExit) as error:  # an image set of somebody else's may fail in any way
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
        failed(row_id(bench, attack, source, target, item, "", repeat), message)
        for attack, source, target in bench.plan.results()
        for repeat in range(bench.plan.suite.repeats)
    ]
