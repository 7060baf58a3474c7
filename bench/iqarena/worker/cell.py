"""One batch of images through all sources and attacks, cell by cell: what is missing of it, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from operator import attrgetter

from iqarena.api import ImageItem
from iqarena.images.memory import one_at_a_time
from iqarena.metrics.distortion import Reference
from iqarena.store.adversarials import pixels_sha256
from iqarena.store.keys import foreign
from iqarena.worker.batch import Batch, clean_sha256
from iqarena.worker.measure import Result, attack_rows, failed, reason
from iqarena.worker.task import Step, Task
from iqarena.worker.work import Bench, Crafting, Row, Todo, todo

HELD_BACK = 5.0  # seconds of finished work that a worker keeps to itself
PIXELS_TOGETHER = 2**20  # of images that travel together on the CPU: what they need of memory is little beside a model
MANY_QUERIES = 1000  # an attack with more is given one image at a time there, so that a step stays short
Running = Generator[Step, object, Result]


@dataclass
class Group:
    """Images of one size of which the same is missing, and what that is, image by image."""

    batch: Batch
    todos: list[Todo] = field(default_factory=list)

    @cached_property
    def singles(self) -> list[Group]:
        """The images one by one."""
        return [Group(batch, [own]) for batch, own in zip(self.batch.singles(), self.todos, strict=True)]


@dataclass
class Part:
    """The smallest piece of a task: a crafting, or rows that are known already; how many craftings are done with it,
    and which images that have rows are ``unread``, and why. Once an ``end`` is done, what is finished is yielded."""

    craftings: int
    work: tuple[Crafting, Group] | None = None
    rows: Sequence[Row] = ()
    unread: Mapping[str, str] = field(default_factory=dict)
    end: bool = True


def cells(bench: Bench, task: Task) -> Generator[Step | Result, object, None]:
    """The cells of a task: a source (with all attacks, in one repeat) each, rows only where they are missing. One that
    takes longer than ``HELD_BACK`` comes in several pieces.

    Each :class:`Step` is yielded before it runs, so the caller always knows what is running. An image that cannot be
    read costs error rows, not the run.
    """
    passed, result = 0, Result()
    for part in _parts(bench, task):
        if isinstance(part, Step):
            yield part
            continue
        passed += 1
        if passed <= task.done:
            continue
        started = time.perf_counter()
        result.rows += part.rows
        result.unread |= part.unread
        if part.work:
            result.add((yield from _craft(bench, task, *part.work)))
        result.seconds += time.perf_counter() - started
        result.parts += 1
        result.craftings += part.craftings
        if part.end or result.seconds > HELD_BACK:
            result.evaluated = bench.newly_evaluated()
            yield result
            result = Result()


def _parts(bench: Bench, task: Task) -> Iterator[Step | Part]:
    """Steps of reading; parts, none of which has begun."""
    for group in _groups(bench, task):
        if not isinstance(group, Group):
            yield group
            continue
        missing = group.todos[0].row_ids
        yield Part((len(bench.craftings) - len(missing)) * len(group.todos), end=False)
        for repeat in range(bench.plan.suite.repeats):
            repeated = Group(group.batch, group.todos)  # without gradients, and singles, of the repeat before
            repeated.batch.gradients.clear()
            for _, of_source in groupby((one for one in missing if one.repeat == repeat), attrgetter("source")):
                *others, last = (Part(len(group.todos), (crafting, repeated), end=False) for crafting in of_source)
                yield from (*others, replace(last, end=True))


def _craft(bench: Bench, task: Task, crafting: Crafting, group: Group) -> Running:
    """One attack from one source on a group. Image by image if it fails for one; and on the CPU, where that costs
    little, if it takes long or is a stranger's, which might let images depend on their company."""
    single, attack = len(group.todos) == 1, crafting.attack
    apart = group.batch.device.type == "cpu" and (attack.queries > MANY_QUERIES or foreign([attack]))
    if single or not apart:
        result = yield from _run(bench, task, crafting, group)
        if single or all(row["status"] == "ok" for row in result.rows):
            return result
    result = Result()
    for image in group.singles:
        result.add((yield from _run(bench, task, crafting, image)))
    return result


def _run(bench: Bench, task: Task, crafting: Crafting, group: Group) -> Running:
    attack, images = crafting.attack, tuple(item.id for item in group.batch.items)
    target = repr(crafting.targets[0]) if attack.queries else ""
    step = Step(images, attack.label, crafting.source.spec, target, crafting.repeat)
    row_ids = [own.row_ids[crafting] for own in group.todos]
    if message := task.lost.get(step):
        return Result([failed(one, message) for of_image in row_ids for one in of_image])
    yield step
    stored = [own.stored[crafting] for own in group.todos] if crafting.known else []
    with one_at_a_time(sum(image.size for image in group.batch.images) // 3):
        return attack_rows(bench, crafting, group.batch, row_ids, stored)


def _groups(bench: Bench, task: Task) -> Iterator[Step | Group | Part]:
    """Parts for images that need or allow no work; the others in groups that travel together."""
    groups: dict[object, Group] = {}
    every, unreadable = len(bench.craftings), []
    for item in task.items:
        step = Step((item.id,))
        if message := task.lost.get(step):
            unreadable.append(_unreadable(bench, item, task, message))
            continue
        yield step
        try:
            image = bench.plan.images.read(item)
            sha256 = clean_sha256(image)
            missing = todo(bench, item, sha256, task.stored[item.id])
            with one_at_a_time(image.size // 3):
                reference = Reference.of(image) if missing.row_ids else None
        except (Exception, SystemExit) as error:  # an image set of somebody else's may fail in any way
            unreadable.append(_unreadable(bench, item, task, reason(error)))
            continue
        if reference is None:
            yield Part(every)
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
        if bench.device.type == "cpu" and image.size // 3 * (len(group.todos) + 1) > PIXELS_TOGETHER:
            yield groups.pop(key)
    yield from groups.values()
    yield from unreadable  # last: another worker, which takes the task over, may be able to read them or may not


def _unreadable(bench: Bench, item: ImageItem, task: Task, message: str) -> Part:
    """Error rows in place of everything that is not stored of this image, as it was when it was read."""
    stored = task.stored[item.id]
    sha256 = next((row["image_sha256"] for row in stored if row["status"] == "ok"), "")
    missing = todo(bench, item, sha256, stored).row_ids
    rows = [failed(one, message) for row_ids in missing.values() for one in row_ids]
    return Part(len(bench.craftings), rows=rows, unread={item.id: message} if sha256 else {})
