"""The manifest: read back as written, and every mistake in it named."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Literal

import pytest
from toymanifest import toy_manifest

from iqarena.errors import StoreError
from iqarena.store.decode import from_json
from iqarena.store.manifest import GradientCounts, Manifest, RowCounts
from iqarena.store.union import united

FULL = toy_manifest(
    [{"label": "fgsm", "published": "0.5"}, {"label": "noise", "access": "none", "floor": True, "searched": True}],
    models={"cnn": {"weights_sha256": "ab", "facts": {"deep": [1, {"x": None}]}, "label": "cnn", "planned": 3}},
    images=[{"id": "a.png", "cluster": "a", "sha256": "cd"}],
    settings={"ssim": 0.9, "grid": {"attack": "fgsm", "steps": [1, 5]}},
    packages={"torch": "2.9", "timm": None},
)


def read(path: Path, value: Any) -> Manifest:
    path.write_text(json.dumps(value), encoding="utf-8")
    return Manifest.read(path)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    manifest = dataclasses.replace(FULL, gradients=GradientCounts(7, resumed=True), rows=RowCounts(ok=2, error=1))
    manifest.write(tmp_path / "manifest.json")
    assert Manifest.read(tmp_path / "manifest.json") == manifest
    assert manifest.ssim == 0.9
    assert manifest.factors == ("steps",)
    assert [attack.label for attack in manifest.declared.attacks] == ["fgsm"]
    assert manifest.model("gone").label == "gone"


def test_an_earlier_manifest_says_what_floors_and_labels_are(tmp_path: Path) -> None:
    old = dataclasses.asdict(FULL)
    for attack in old["attacks"]:
        del attack["floor"], attack["planned"], attack["searched"]
    old["models"] = {"cnn(crop=none)": {"weights_sha256": "ab", "stochastic": False, "facts": {}}}
    manifest = read(tmp_path / "manifest.json", old)
    assert [attack.floor for attack in manifest.attacks] == [False, True]
    assert manifest.models["cnn(crop=none)"].label == "cnn(crop=none)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sede": 1}, "unknown key 'sede'; nearest: 'seed'"),
        ({"seed": "1"}, "expected a whole number for 'seed', found '1'"),
        ({"seed": True}, "expected a whole number for 'seed', found True"),
        ({"targets": "cnn"}, "expected a list for 'targets', found 'cnn'"),
        ({"targets": ["cnn", 1]}, r"expected text for 'targets\[1\]', found 1"),
        ({"finished": 3}, "expected text for 'finished', found 3"),
        ({"images": [{"id": "a"}]}, r"missing key 'images\[0\].cluster'"),
        ({"models": {"cnn": {"stochastic": "no"}}}, r"expected true or false for \"models\['cnn'\].stochastic\""),
        ({"attacks": [3]}, r"expected an object for 'attacks\[0\]', found 3"),
        ({"attacks": {}}, "expected a list for 'attacks', found {}"),
        ({"images": 2 * [{"id": "a", "cluster": ""}]}, "'a' twice in 'images'"),
        ({"attacks": 2 * [dataclasses.asdict(FULL.attacks[0])]}, "'fgsm' twice in 'attacks'"),
        ({"targets": ["cnn", "vit", "cnn"]}, "'cnn' twice in 'targets'"),
        ({"sources": ["cnn", "cnn"]}, "'cnn' twice in 'sources'"),
        ({"planned": -1}, "expected a number ≥ 0 for 'planned', found -1"),
        ({"rows": {"ok": 1, "error": -2}}, "expected a number ≥ 0 for 'rows.error', found -2"),
        (
            {"attacks": [{**dataclasses.asdict(FULL.attacks[0]), "eps": math.nan}]},
            r"expected a number ≥ 0 for 'attacks\[0\].eps', found nan",
        ),
        ({"settings": {"ssim": 10**400}}, "expected a number for 'settings.ssim', found 1000"),
        ({"settings": {"ssim": "high"}}, "expected a number for 'settings.ssim', found 'high'"),
        ({"settings": {"grid": 3}}, "expected an object for 'settings.grid', found 3"),
        ({"settings": {"repeats": "2"}}, "expected a whole number for 'settings.repeats', found '2'"),
    ],
)
def test_a_wrong_key_is_named_in_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "manifest.json"
    with pytest.raises(
        StoreError, match=rf"manifest.json: damaged or not iqarena's \({message}.*\); choose another"
    ) as caught:
        read(path, {**dataclasses.asdict(FULL), **change})
    assert "\n" not in str(caught.value)


def test_a_key_that_stands_there_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    text = json.dumps(dataclasses.asdict(FULL))
    path.write_text(text[:-1] + ', "images": []}', encoding="utf-8")
    with pytest.raises(StoreError, match="key 'images' twice"):
        Manifest.read(path)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    value = dataclasses.asdict(FULL)
    del value["planned"]
    with pytest.raises(StoreError, match="missing key 'planned'"):
        read(tmp_path / "manifest.json", value)


def test_a_grid_of_an_earlier_run_stays_with_its_reference_beside_a_later_reference() -> None:
    grid = {"grid": {"attack": "fgsm", "steps": [1, 5]}}
    ablation = toy_manifest([{"label": "fgsm"}], settings=grid, reference="fgsm(steps=1)")
    later = toy_manifest([{"label": "pgd"}], settings={"grid": {}}, reference="pgd")
    assert united(ablation, later).factors == united(later, ablation).factors == ("steps",)
    assert united(ablation, later).reference == united(later, ablation).reference == "fgsm(steps=1)"
    plain = dataclasses.replace(later, reference=None)
    assert united(later, plain).reference == united(plain, later).reference == "pgd"


def test_the_most_repeats_count_and_none_said_are_one() -> None:
    one, none, two = (toy_manifest(settings={"repeats": repeats}) for repeats in (1, None, 2))
    assert [united(*both).settings["repeats"] for both in ((one, none), (none, none), (two, none))] == [1, 1, 2]


def test_a_value_may_be_of_one_of_several_kinds() -> None:
    hint = int | Literal["auto"] | None
    assert [from_json(hint, value, "key") for value in (3, "auto", None)] == [3, "auto", None]
    with pytest.raises(ValueError, match="expected 'auto' for 'key', found 'otto'"):
        from_json(hint, "otto", "key")
