"""Ways to the boundary: the line, the angle, SurFree's steps, the score-boundary attack's rounds and directions."""

from __future__ import annotations

import math
from collections.abc import Generator
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from iqarena.api import ImageError
from iqarena.api.streams import Streams
from iqarena.images.perception import saliency_map
from iqarena.images.sets.folder import FolderImages
from iqarena.registry.tables import build, build_attack
from iqarena.testing import Curved, Steep, images
from iqarena_attacks.query._frame import Case
from iqarena_attacks.query.boundary import Boundary
from iqarena_attacks.query.directions import Directions, high_frequency
from iqarena_attacks.query.nes import Nes
from iqarena_attacks.query.surfree import low_frequencies, nearer


def case(x: Tensor, reach: float = 1.0, seed: int = 0) -> Case:
    stream = Streams(["one"], "test", seed).each()[0]
    return Case(x, x, x.new_full((1, *x.shape[1:]), reach), 50.0, stream, 10**9, x)


def drive(search: Generator[Tensor, Tensor, Any], gain: Any) -> tuple[Any, int]:
    """Run a search on a gain function of float images; its result, and the number of queries."""
    requested, z = 0, next(search)
    while True:
        requested += len(z)
        try:
            z = search.send(torch.stack([gain(one) for one in z]).double())
        except StopIteration as stop:
            return stop.value, requested


def test_the_nes_estimate_is_aligned_with_the_gradient_of_a_linear_scorer() -> None:
    """With n antithetic pairs in d dimensions the cosine is √(n / (n + d)) on average."""
    one = case(torch.full((3, 8, 8), 0.5))
    w = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(3))
    for pairs in (100, 1000):
        search = Nes(samples=2 * pairs).gradient(one.x, one, pairs)
        g, requested = drive(search, lambda z: (w * z).sum())
        cosine = float((g * w).sum() / g.norm() / w.norm())
        assert requested == 2 * pairs
        assert cosine == pytest.approx(math.sqrt(pairs / (pairs + 192)), abs=0.12)
    assert float((g * w).sum() / w.square().sum()) == pytest.approx(1, abs=0.15), "and its length is right"


def test_surfree_comes_near_the_nearest_point_of_a_plane() -> None:
    """Past the boundary is ``w·(z − o) > c``; the nearest such point is at distance ``c / ‖w‖`` along ``w``."""
    o = torch.full((3, 8, 8), 0.5)
    one = case(o)
    w = low_frequencies(case(o, seed=9))  # what the search may turn to
    w /= w.norm()
    level = 0.5
    far = low_frequencies(case(o, seed=5))
    far = far - (w * far).sum() * w
    one.answer = o + 0.6 * w + 1.5 * far / far.norm()
    distances = [float((one.answer - o).norm())]
    gain = 0.6
    for _ in range(6):
        gain, requested = drive(nearer(one, o, gain, level, queries=10**6, steps=200), lambda z: (w * (z - o)).sum())
        distances.append(float((one.answer - o).norm()))
        assert gain > level
        assert requested <= 200 * 8 + 80 * 2 + 20, "two signs, then at most six halvings to 0.01 in 1 − cos θ"
    assert all(b <= a for a, b in pairwise(distances)), distances
    assert distances[0] > 1.6
    assert distances[-1] == pytest.approx(level, rel=0.05)


@pytest.mark.parametrize("level", [0.07, 0.193])
def test_the_line_leads_to_the_boundary(level: float) -> None:
    """51 grey levels are halved seven times to less than half of one; the last point past the boundary is kept."""
    o = torch.full((3, 8, 8), 0.3)
    one = case(o)
    one.answer = o + 0.2
    gain, requested = drive(nearer(one, o, 0.2, level, queries=100, steps=0), lambda z: (z - o).mean())
    assert 7 < requested <= 14, "at both ends of a round"
    assert 0 < gain - level < 0.5 / 255 + 1e-6
    assert torch.allclose(one.answer, o + gain, atol=1e-6)


@pytest.mark.parametrize("vain", [0, 1, 5])
@pytest.mark.parametrize("steps", [2, 4])
def test_a_step_is_a_direction_that_leads_nearer(steps: int, vain: int) -> None:
    """Seven scores on the first line; two for a direction in vain; seven for one that leads nearer; none at the end.

    Seven are the first sign and six halvings: of 30° to 60° they leave 0.007 in 1 − cos θ, five would leave 0.014. The
    answer is then within half a grey level of the origin, so that the last line needs none.
    """
    o = torch.full((3, 8, 8), 0.3)
    one = case(o)
    one.answer = o + 0.2
    gains = iter([1.0] * 7 + [-1.0] * 2 * vain)
    _, requested = drive(nearer(one, o, 1, 0, queries=100, steps=steps), lambda _: torch.tensor(next(gains, 1.0)))
    assert requested == 7 + 2 * vain + 7 * steps


def test_eighty_tries_in_vain_are_the_end_of_a_round() -> None:
    o = torch.full((3, 8, 8), 0.3)
    one = case(o)
    one.answer = o + 0.2

    def gain(z: Tensor) -> Tensor:
        return (z - o).mean() if (z - o).std() < 1e-4 else torch.tensor(-1.0)  # nothing but the line is past

    _, requested = drive(nearer(one, o, 0.2, 0.1, queries=1000, steps=10), gain)
    assert 2 * 80 + 7 < requested <= 2 * 80 + 14
    assert torch.allclose(one.answer, o + one.answer.sub(o).mean(), atol=1e-6)


@pytest.mark.parametrize("largest", [33.0, 41.0, 58.0])
def test_the_angle_is_known_to_a_hundredth_of_its_cosine(largest: float) -> None:
    """Past the boundary is what lies within that angle of the first direction."""
    o = torch.full((3, 8, 8), 0.3)
    one = case(o)
    one.answer = o + 0.2

    def cosine(z: Tensor) -> float:
        return float((z - o).double().sum() / (z - o).double().norm() / math.sqrt(192))

    inside = math.cos(math.radians(largest))
    drive(nearer(one, o, 1, 0, queries=100, steps=1), lambda z: torch.tensor(cosine(z) - inside))
    assert 0 < cosine(one.answer) - inside < 0.01


def test_surfree_keeps_its_allowance() -> None:
    o = torch.full((3, 8, 8), 0.5)
    one = case(o)
    one.answer = o + 0.2
    for queries in (1, 5, 25, 60):
        _, requested = drive(nearer(one, o, 0.2, 0.1, queries=queries, steps=100), lambda z: (z - o).mean())
        assert requested <= queries
    there = case(o)
    assert list(nearer(there, o, 0.0, 0.0, queries=25, steps=100)) == [], "nowhere nearer than the origin"


def test_low_frequencies_hold_no_high_ones() -> None:
    import scipy.fft

    wave = low_frequencies(case(torch.zeros(3, 15, 22))).numpy()
    spectrum = np.abs(np.asarray(scipy.fft.dctn(wave, axes=(1, 2), norm="ortho")))
    assert spectrum[:, :8, :11].min() > 1e-4
    assert spectrum[:, 8:].max() < 1e-4
    assert spectrum[:, :, 11:].max() < 1e-4


def test_the_schedule_of_the_boundary() -> None:
    b = Boundary()
    assert (b.b, b.step) == (0.01, 0.01)
    assert b.reach(0.012) == 0.01, "a small excess changes nothing"
    b.move_on()
    assert (b.passed, b.b) == (0.01, 0.02)
    assert b.reach(0.04) == 0.02, "0.02 + 2·0.01 is not beyond itself"
    assert b.reach(0.9) == pytest.approx(0.03), "half of the way to 0.02 + 2·0.01, however far it led"
    b.move_on()
    assert (b.passed, b.b, b.step) == pytest.approx((0.03, 0.05, 0.02))
    steps = []
    while b.ease():
        steps.append(b.step)
        assert b.passed == pytest.approx(0.03)
    assert steps == pytest.approx([0.01, 0.005, 0.0025]), "1/400 is tried, and not halved"
    small = Boundary(b=0.001)
    assert small.reach(0.0045) == 0.001, "0.001 + 2·0.001 is less than 0.005"
    assert small.reach(0.0055) == pytest.approx(0.003), "half of the way to 0.005"


@pytest.mark.parametrize("passed", [0.0, 0.03, 0.17, 0.4])
def test_the_smallest_step_is_tried_wherever_the_boundary_is(passed: float) -> None:
    b = Boundary(b=passed + 0.01, passed=passed)
    assert [b.ease() for _ in range(3)] == [True, True, False]
    assert b.b == pytest.approx(passed + 0.0025)


def test_directions_lie_on_edges_and_salient_pixels_and_leave_out_the_own_image() -> None:
    pocket = build("imageset", "pocket(crop=96)")
    item = pocket.items()[5]  # pyright: ignore[reportAttributeAccessIssue]
    image = pocket.read(item)  # pyright: ignore[reportAttributeAccessIssue]
    x = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    one = case(x)
    one.draw = Streams([item.id], "d").each()[0]
    directions = Directions(one, build("imageset", "pocket"))  # pyright: ignore[reportArgumentType]
    drawn = torch.stack([directions.draw() for _ in range(40)])
    edges = cv2.dilate(cv2.Canny(image, 50, 150), np.ones((3, 3), np.uint8)) > 0
    seen = torch.from_numpy(edges | (saliency_map(image) > 0.225))
    assert 0.1 < seen.float().mean() < 1
    assert not drawn[:, :, ~seen].any()
    assert drawn.abs().max() <= 0.1
    touched = (drawn != 0).any(1).float().mean((1, 2)) / seen.float().mean()
    sparse = torch.arange(1, 41) % 4 == 0
    assert ((touched[sparse] > 0.03) & (touched[sparse] < 0.13)).all()
    assert (touched[~sparse] > 0.8).all()
    kinds = {
        tuple((d / d.abs().max()).abs()[:, seen][:, ::97].flatten().mul(1e4).round().tolist()) for d in drawn[~sparse]
    }
    assert 5 < len(kinds) <= 10, "times another number, but of the same ten crops"
    images = build("imageset", "pocket")
    all_, others = (high_frequency(images, besides=name) for name in ("nobody", item.id))  # pyright: ignore[reportArgumentType]
    assert len(all_) == len(others) == 10
    photographs = [torch.from_numpy(images.read_reference(i)).permute(2, 0, 1) / 255 for i in images.items()]  # pyright: ignore[reportAttributeAccessIssue]
    assert all(any(torch.equal(one, photograph) for photograph in photographs) for one in all_), "none is degraded"
    assert not any(torch.equal(photographs[4], other) for other in others), "nor the attacked image's own"


def test_directions_may_come_from_a_folder(tmp_path: Any) -> None:
    for k in range(2):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.random.default_rng(k).integers(0, 256, (20, 30, 3)).astype(np.uint8))
    folder = FolderImages(path=str(tmp_path))
    one = case(images(range(1), (32, 40))[0].float() / 255)
    assert Directions(one, folder).draw().shape == (3, 32, 40), "smaller images are mirrored on"
    alone = tmp_path / "alone"
    alone.mkdir()
    (tmp_path / "0.png").rename(alone / "0.png")
    with pytest.raises(ImageError, match="expected images besides the attacked one"):
        high_frequency(FolderImages(path=str(alone)), besides="0.png")


def test_the_score_goes_one_way_from_round_to_round() -> None:
    """Of the answers of 20 rounds, each ends further than the one before; candidates in between may not."""
    attack = build_attack("score_boundary(steps=3)")
    net = Steep(of=Curved()).load()
    x = images(range(1), (40, 48)).float() / 255
    clean = net(x)
    s = -1.0 if clean > 50 else 1.0
    one = Case(x[0], x[0], attack.reach(x)[0], 50.0, Streams(["a"], "b").each()[0], 8000, x[0])  # pyright: ignore[reportAttributeAccessIssue]

    def gain(z: Tensor) -> Tensor:
        return (s * (net((z[None] * 255).round() / 255) - clean))[0]

    ends, last = [0.0], one.answer
    search = attack.search(one)  # pyright: ignore[reportAttributeAccessIssue]
    z = next(search)
    with torch.no_grad():
        for _ in range(3000):
            starts = search.gi_frame.f_locals.get("start")
            if starts is not None and starts is not last:
                last = starts
                ends.append(float(gain(starts)))
            try:
                z = search.send(torch.stack([gain(c) for c in z]).double())
            except StopIteration:
                break
    assert len(ends) >= 5
    assert all(b > a for a, b in pairwise(ends[1:])), ends
