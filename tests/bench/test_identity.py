"""What a number is kept under: what changes it changes the keys, and what does not, does not."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from iqarena.api import Attack, Filter, IqarenaError, Model, Plugin, Source, plugin
from iqarena.api.streams import Streams
from iqarena.registry import tables as registry
from iqarena.registry.tables import build_attack, build_filter, build_model
from iqarena.store.keys import Keys, foreign, identity

TABLE = Path(__file__).with_name("plugin_versions.csv")


@dataclass(frozen=True, kw_only=True, repr=False)
class Kept(Filter):
    name = "kept"
    share: float = 0.5

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        return t


@dataclass(frozen=True, kw_only=True, repr=False)
class Shaken(Attack):
    """Noise of its own."""

    name = "shaken"
    strength: float = 1.0
    mask: Filter = Kept()

    def perturb(self, x: Tensor, source: Source, streams: Streams) -> Tensor:
        return self.mask(x + self.eps * self.strength * streams.signs(x), x, streams)


JND = build_filter("jnd")


@dataclass(frozen=True, kw_only=True, repr=False)
class Grown(Shaken):
    """The same, years later."""

    decay: float = 0.0
    inner: Filter = JND
    limit: int | None = None


def key(
    attack: Attack, source: str = "toy_linear", image: str = "a.png", sha256: str = "s", *, repeat: int = 0,
    queried: Model | None = None, direction: str = "mid", seed: int = 0, setting: tuple[str, str] = ("cpu", "fp32"),
) -> str:  # fmt: skip
    return Keys(direction, seed, setting).craft(attack, [build_model(source)], queried, image, sha256, repeat)


def row_key(crafted: str, target: Model) -> str:
    return Keys("mid", 0, ("cpu", "fp32")).row(crafted, target)


# ---- what does not change a key


def test_a_new_parameter_with_a_default_changes_no_key_and_no_random_number() -> None:
    changes: list[dict[str, Any]] = [{}, {"eps": 4 / 255}, {"mask": Kept(share=0.25)}]
    for values in changes:
        old, new = Shaken(**values), Grown(**values)
        assert repr(old) != repr(new)
        assert old.label == new.label
        assert key(old) == key(new)
    assert key(Grown(decay=0.5)) != key(Grown())


def test_a_new_parameter_of_a_nested_plugin_changes_no_key() -> None:
    chosen = build_attack("warm_start(start=pgd(steps=3))")
    assert chosen.label == "warm_start(start=pgd(steps=3))"
    assert build_attack("sega(mask=jnd(7)|random)").label == "sega(mask=jnd(threshold=7)|random)"
    assert "alpha" not in str(identity(chosen))


def test_random_numbers_hang_on_the_label_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    like = torch.zeros(1, 3, 4, 4)
    before = Streams(["a"], Shaken().label).signs(like)
    monkeypatch.setattr(Shaken, "version", 2)
    assert torch.equal(Streams(["a"], Grown().label).signs(like), before)


# ---- what does


def test_whatever_decides_an_image_changes_its_key() -> None:
    attack = build_attack("noise")
    changes: list[dict[str, Any]] = [
        {}, {"attack": build_attack("noise(eps=4/255)")}, {"source": "toy_curved"}, {"image": "b.png"},
        {"sha256": "t"}, {"direction": "raise"}, {"seed": 1}, {"repeat": 1}, {"setting": ("cuda", "fp32")},
    ]  # fmt: skip
    keys = [key(**{"attack": attack, **change}) for change in changes]
    assert len(set(keys)) == len(keys)
    rows = [row_key(one, build_model(target)) for one in keys for target in ("toy_linear", "toy_curved")]
    assert len(set(rows)) == 2 * len(keys)


def test_the_queried_target_decides_the_image() -> None:
    requested = (None, build_model("toy_linear"), build_model("toy_curved"))
    assert len({key(build_attack("square"), queried=queried) for queried in requested}) == 3


def test_versions_weights_and_code_count_wherever_they_are_nested(monkeypatch: pytest.MonkeyPatch) -> None:
    attack, model = Shaken(), build_model("jpeg|toy_linear")
    before = key(attack), row_key("crafted", model)
    for cls, name, value in [
        (Shaken, "version", 2), (Kept, "version", 2), (Kept, "code_sha256", "edited"), (Kept, "distribution", "far 2"),
    ]:  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(cls, name, value)
            assert key(attack) != before[0], f"{cls.__name__}.{name}"
    inner = next(m for m in [model.undefended])
    for cls, name, value in [(type(inner), "version", 2), (type(inner), "weights_sha256", "other")]:
        with monkeypatch.context() as patch:
            patch.setattr(cls, name, value)
            assert row_key("crafted", model) != before[1], f"{cls.__name__}.{name}"
    assert (key(attack), row_key("crafted", model)) == before


# ---- code that does not come with iqarena

PLUGIN = """
from dataclasses import dataclass
from iqarena.api import Attack

@dataclass(frozen=True, kw_only=True, repr=False)
class {cls}({base}):
    name = "{name}"

    def perturb(self, x, source, streams):
        return x + {shift} * self.eps
"""


@pytest.fixture
def _own_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_from_files", {kind: dict(table) for kind, table in registry._from_files.items()})


@pytest.mark.usefixtures("_own_tables")
def test_an_edited_plugin_file_is_another_plugin(tmp_path: Path) -> None:
    path, actual = tmp_path / "edited_plugin.py", []
    for shift in (0, 11, 0):
        path.write_text(PLUGIN.format(cls="Edited", base="Attack", name="edited", shift=shift))
        registry.add_file(path)
        actual.append(build_attack("edited"))
    assert len({attack.code_sha256 for attack in actual}) == 2
    assert key(actual[0]) == key(actual[2]) != key(actual[1])
    assert {attack.label for attack in actual} == {"edited"}


def test_what_comes_with_iqarena_has_a_version_and_no_hash() -> None:
    for built in (build_attack("sega"), build_model("cnn"), build_filter("jnd"), build_model("jpeg|cnn")):
        assert built.code_sha256 == built.distribution == ""
    assert build_model("toy_linear").code_sha256 != "", "from a plugin file"


def test_a_class_whose_source_nobody_can_read_is_refused() -> None:
    namespace: dict[str, Any] = {"__name__": "typed_in"}
    exec(PLUGIN.format(cls="Typed", base="Attack", name="typed", shift=0), namespace)
    with pytest.raises(IqarenaError, match="'typed': expected a class whose source can be read"):
        _ = namespace["Typed"]().code_sha256


def test_an_installed_plugin_carries_its_distribution(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "far_plugin.py").write_text(PLUGIN.format(cls="Far", base="Attack", name="far", shift=1))
    monkeypatch.syspath_prepend(tmp_path)
    keys = []
    for version in ("1.0", "1.1"):
        dist = SimpleNamespace(name="far-attacks", version=version)
        point = SimpleNamespace(name="far", value="far_plugin:Far", dist=dist)
        monkeypatch.setattr(registry, "entry_points", lambda group, p=point: [p] if group == "iqarena.attacks" else [])
        registry._installed.cache_clear()
        attack = build_attack("far")
        assert attack.distribution == f"far-attacks {version}"
        keys.append(key(attack))
    registry._installed.cache_clear()
    assert len(set(keys)) == 2
    assert build_attack("fgsm").distribution == ""


# ---- the table of versions


def defaults(cls: type[Plugin]) -> dict[str, str]:
    """Parameter → default, as a spec has it; those without one are written ``required``."""
    values = {f.name: f.default for f in dataclasses.fields(cls)}
    return {
        name: "required" if value is dataclasses.MISSING else plugin._text(value, lambda inner: inner.label)
        for name, value in values.items()
    }


def line(kind: str, name: str, version: int, values: Mapping[str, str]) -> str:
    return f'{kind},{name},{version},"{"; ".join(f"{k}={v}" for k, v in values.items())}"'


def complaints(table: Mapping[tuple[str, str], tuple[int, dict[str, str]]], kind: str, cls: type[Plugin]) -> str:
    """What to do about a plugin that is not as the table has it; empty when it is."""
    values, add = (
        defaults(cls),
        f"the line of {TABLE.name} to write: {line(kind, cls.name, cls.version, defaults(cls))}",
    )
    if (kind, cls.name) not in table:
        return f"{kind} {cls.name} is new; {add}"
    version, old = table[kind, cls.name]
    changed = [f"{k}: {old[k]} → {values[k]}" for k in old if k in values and old[k] != values[k]]
    if changed and cls.version <= version:
        return (
            f"{kind} {cls.name}: the default of {', '.join(changed)} changed at version {version}, so that old results"
            f" would pass for new ones; set version = {version + 1} in {cls.__name__} (and then its line here)"
        )
    return "" if (version, old) == (cls.version, values) else f"{kind} {cls.name} has changed; {add}"


def read() -> dict[tuple[str, str], tuple[int, dict[str, str]]]:
    with TABLE.open(encoding="utf-8", newline="") as lines:
        return {
            (r["kind"], r["name"]): (int(r["version"]), dict(p.split("=", 1) for p in r["defaults"].split("; ") if p))
            for r in csv.DictReader(lines)
        }


def shipped() -> list[tuple[str, type[Plugin]]]:
    every = [(kind, registry.plugin_class(kind, name)) for kind in registry.KINDS for name in registry.names(kind)]
    return [(kind, cls) for kind, cls in every if cls.__module__.split(".")[0] in plugin.PACKAGES]


def test_defaults_change_with_their_version_only() -> None:
    table, plugins = read(), shipped()
    assert [text for kind, cls in plugins if (text := complaints(table, kind, cls))] == []
    gone = set(table) - {(kind, cls.name) for kind, cls in plugins}
    assert not gone, f"remove the lines of {gone} from {TABLE.name}"


def test_the_table_says_what_to_do() -> None:
    table = {("attack", "shaken"): (1, {"eps": "8/255", "strength": "1", "mask": "kept"})}
    assert complaints(table, "attack", Shaken) == ""
    assert 'is new; the line of plugin_versions.csv to write: filter,kept,1,"share=0.5"' in complaints(
        table, "filter", Kept
    )
    assert "has changed; the line of" in complaints(table, "attack", Grown)
    table["attack", "shaken"] = (1, {"eps": "8/255", "strength": "2", "mask": "kept"})
    assert "strength: 2 → 1 changed at version 1" in complaints(table, "attack", Shaken)
    assert "set version = 2 in Shaken" in complaints(table, "attack", Shaken)
    table["attack", "shaken"] = (0, {"eps": "8/255", "strength": "2", "mask": "kept"})
    assert "has changed; the line of" in complaints(table, "attack", Shaken), "the version was raised"


def test_a_model_of_a_plugin_file_says_its_weights() -> None:
    model = build_model("toy_linear")
    assert isinstance(model, Model)
    assert identity(model)[-1] == model.weights_sha256


def test_what_does_not_come_with_iqarena_is_named_once_wherever_it_is_a_parameter() -> None:
    plugins = [build_model("jpeg|toy_curved"), build_model("toy_curved(seed=1)"), build_attack("fgsm")]
    assert [one.name for one in foreign(plugins)] == ["toy_curved"]
