"""Images in every form: what is taken, what comes back, and what is refused with which step."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from iqarena.client.inputs import Images
from iqarena.errors import ImageError

ARRAY = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(ARRAY).permute(2, 0, 1).float() / 255


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Image.fromarray(ARRAY).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def test_every_form_is_the_same_image_and_comes_back_as_it_was(path: Path) -> None:
    forms = [TENSOR, TENSOR[None], TENSOR.double(), ARRAY, Image.fromarray(ARRAY), path, str(path)]
    for form in forms:
        (x,) = Images.of(form).x
        assert torch.equal(x, TENSOR), type(form)
    level = (TENSOR * 255).round().to(torch.uint8)

    def back(form: Any) -> Any:
        return Images.of(form).images([level])

    for tensor in (TENSOR, TENSOR[None], TENSOR.double()):
        assert torch.equal(back(tensor), tensor.double().mul(255).round().div(255).to(tensor.dtype))
        assert back(tensor).dtype == tensor.dtype
    assert np.array_equal(back(ARRAY), ARRAY)
    assert back(ARRAY).dtype == np.uint8
    for form in (Image.fromarray(ARRAY), path, str(path)):
        assert isinstance(back(form), Image.Image)
        assert np.array_equal(np.asarray(back(form)), ARRAY)


def test_a_list_keeps_its_forms_and_sizes(path: Path) -> None:
    given = Images.of([TENSOR, ARRAY[:16], path])
    assert [tuple(x.shape) for x in given.x] == [(3, 24, 32), (3, 16, 32), (3, 24, 32)]
    assert given.by_size(8) == [[0, 2], [1]]
    assert given.by_size(1) == [[0], [2], [1]]
    out = given.images([(x * 255).round().to(torch.uint8) for x in given.x])
    assert [type(image) for image in out] == [Tensor, np.ndarray, Image.Image]
    assert given.scores([1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0]


def test_scores_come_in_the_form_that_answers() -> None:
    assert Images.of(TENSOR).scores([7.0]) == 7.0
    batch = Images.of(torch.stack([TENSOR, TENSOR])).scores([7.0, 8.0])
    assert batch.tolist() == [7, 8]
    assert batch.dtype == torch.float32


def test_grey_and_rotated_images_are_decoded_alike_from_pil_and_from_a_file(tmp_path: Path) -> None:
    grey = Image.fromarray(ARRAY[..., 0])
    assert torch.equal(Images.of(grey).x[0], TENSOR[:1].expand(3, -1, -1))
    turned, exif = Image.fromarray(ARRAY), Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as opened:
        assert torch.equal(Images.of(opened).x[0], Images.of(tmp_path / "turned.png").x[0])
        assert Images.of(opened).x[0].shape == (3, 32, 24)


def test_an_opened_animation_and_a_bomb_are_refused_as_files_are(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, file = [Image.fromarray(ARRAY), Image.fromarray(255 - ARRAY)], io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    with Image.open(file) as opened, pytest.raises(ImageError, match="found 2 frames or pages"):
        Images.of(opened)
    monkeypatch.setattr("iqarena.images.decode.MAX_PIXELS", ARRAY.shape[0] * ARRAY.shape[1] - 1)
    with pytest.raises(ImageError, match="found 32x24 pixels, over the limit of 767"):
        Images.of(frames[0])


def test_what_was_given_stays_as_it_was() -> None:
    x, array = TENSOR.clone().requires_grad_(True), ARRAY.copy()
    Images.of(x).x[0].add_(1)
    Images.of(array).x[0].add_(1)
    assert torch.equal(x.detach(), TENSOR)
    assert np.array_equal(array, ARRAY)


REFUSED = [
    (TENSOR * 255, "found values from 0 to 255; divide by 255"),
    (TENSOR - 0.5, "found values from -0.5 to 0.5; undo a normalisation, or clamp(0, 1)"),
    (TENSOR.where(TENSOR > 0.5, torch.nan), "in [0, 1], found NaN values; mend what made them"),
    ((TENSOR * 255).to(torch.uint8), "found torch.uint8; for levels of 0 to 255 pass x.float() / 255"),
    (TENSOR.bfloat16(), "found torch.bfloat16, too coarse for a budget of grey levels; pass x.float()"),
    (TENSOR[None].half(), "found torch.float16, too coarse"),
    (TENSOR.permute(1, 2, 0), "found shape (24, 32, 3); x.permute(2, 0, 1)"),
    (TENSOR[:1], "found shape (1, 24, 32); repeat grey in three channels"),
    (TENSOR[None, None], "found shape (1, 1, 3, 24, 32); reshape it"),
    (TENSOR[:, :0], "found shape (3, 0, 32)"),
    (TENSOR[None][:0], "found shape (0, 3, 24, 32)"),
    (ARRAY[..., 0], "found shape (24, 32); repeat grey in three channels: numpy.stack([image] * 3, axis=-1)"),
    (ARRAY.astype(np.uint16), "found uint16 (24, 32, 3); reduce it to 8 bits on purpose: (image // 257)"),
    (ARRAY / 255, "found float64 (24, 32, 3); for values in [0, 1]: (image * 255).round().astype('uint8')"),
    (ARRAY.transpose(2, 0, 1), "found shape (3, 24, 32); image.transpose(1, 2, 0)"),
    (ARRAY[None], "found shape (1, 24, 32, 3); pass a list of images"),
    (np.concatenate([ARRAY, ARRAY[..., :1]], 2), "found shape (24, 32, 4); drop other channels"),
    (Image.fromarray(ARRAY[..., 0].astype(np.uint16) * 257), "PIL image: expected an 8-bit grey or RGB image"),
    (Image.fromarray(ARRAY).convert("CMYK"), "found colour mode CMYK"),
    ("nowhere.png", "nowhere.png: expected an 8-bit grey or RGB image"),
    ([TENSOR[None]], "expected images (3, H, W) in a list, found a batch (1, 3, 24, 32); pass it alone"),
    ([], "expected at least one image, found none"),
    (3, "expected a tensor, uint8 array, PIL image or path, found int"),
]


@pytest.mark.parametrize(("image", "words"), REFUSED, ids=[words[:40] for _, words in REFUSED])
def test_what_is_no_image_is_refused_in_one_line(image: Any, words: str) -> None:
    with pytest.raises(ImageError) as error:
        Images.of(image)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_sixteen_bits_and_damage_in_a_file_are_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "deep.png"), ARRAY.astype(np.uint16) * 257)
    with pytest.raises(ImageError, match=r"deep\.png: .*16 bits per channel; convert it on purpose"):
        Images.of(tmp_path / "deep.png")
    Image.fromarray(ARRAY).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:500])
    with Image.open(tmp_path / "cut.png") as cut, pytest.raises(ImageError, match="damaged or truncated"):
        Images.of(cut)
