"""Memory of large images: what a decoded pixel costs, and that large ones take turns."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iqarena.images import decode as module
from iqarena.images import memory
from iqarena.metrics.distortion import Reference, distortion

DECODE = """
import re, sys
from pathlib import Path
from iqarena.images.decode import decode_file

def peak():  # the largest resident set so far, in kB
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

decode_file(Path(sys.argv[1]))
before = peak()
decode_file(Path(sys.argv[2]))
print((peak() - before) * 1024)
"""


def png(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_decoding_takes_no_copies_of_a_large_image(tmp_path: Path) -> None:
    side = 3000
    for name, size in (("small.png", 8), ("large.png", side)):
        (tmp_path / name).write_bytes(png(size))
    command = [sys.executable, "-c", DECODE, str(tmp_path / "small.png"), str(tmp_path / "large.png")]
    added = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 3 * side**2 < added < 10 * side**2, f"{added / side**2:.1f} bytes a pixel"


def test_two_large_images_are_never_decoded_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most = 0, {8: 0, 40: 0}
    counting, to_rgb = threading.Lock(), module._to_rgb

    def slow(image: Image.Image, name: str) -> np.ndarray:
        nonlocal running
        with counting:
            running += 1
            most[image.width] = max(most[image.width], running)
        time.sleep(0.02)
        with counting:
            running -= 1
        return to_rgb(image, name)

    monkeypatch.setattr(memory, "LARGE", 1000)
    monkeypatch.setattr(module, "_to_rgb", slow)
    for side in most:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda data: module.decode(data, "x"), [png(side)] * 4))
    assert most[8] > 1, "small ones need not wait"
    assert most[40] == 1


def test_distances_take_little_beside_the_images() -> None:
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 256, (1000, 1000, 3), np.uint8)
    tracemalloc.start()
    try:
        reference = Reference.of(clean)
        assert tracemalloc.get_traced_memory()[1] < 28 * 1000**2
        tracemalloc.reset_peak()
        held = tracemalloc.get_traced_memory()[0]
        distortion(reference, clean)
        assert tracemalloc.get_traced_memory()[1] - held < 12 * 1000**2
    finally:
        tracemalloc.stop()
