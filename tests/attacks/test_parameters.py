"""Parameters: bounds are data, each is explained, and the example of the README is an attack."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Interval, Lt, Unit

from iqarena.api import EVEN, ODD, Plugin, SpecError
from iqarena.api.bounds import bounds_of
from iqarena.registry import tables as registry
from iqarena.registry.tables import build_attack, names, plugin_class
from iqarena.testing import check_attack
from iqarena.tools.describe import description, meanings_of, summary


@dataclass(frozen=True, kw_only=True, repr=False)
class Dials(Plugin):
    name = "dials"

    count: Annotated[int, Ge(1)] = 1
    size: Annotated[int, Ge(3), ODD] = 3
    pairs: Annotated[int, Ge(2), EVEN] = 2
    share: Annotated[float, Interval(gt=0, le=1)] = 1.0
    below: Annotated[float, Lt(1)] = 0.0
    level: Annotated[float, Ge(0), Unit("grey levels")] = 6.0
    sigma: Annotated[float, Gt(0)] | Literal["auto"] | None = "auto"
    free: float = 0.0
    flag: bool = False


@dataclass(frozen=True, kw_only=True, repr=False)
class OtherDefaults(Dials):
    count: int = 5


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"count": 0}, "dials: expected count ≥ 1, found 0"),
        ({"size": 4}, "dials: expected an odd size ≥ 3, found 4; nearest: 5"),
        ({"size": 1}, "dials: expected an odd size ≥ 3, found 1; nearest: 3"),
        ({"size": -5}, "dials: expected an odd size ≥ 3, found -5; nearest: 3"),
        ({"pairs": 3}, "dials: expected an even pairs ≥ 2, found 3"),
        ({"share": 0.0}, "dials: expected share in (0, 1], found 0"),
        ({"share": 1.5}, "dials: expected share in (0, 1], found 1.5"),
        ({"below": 1.0}, "dials: expected below < 1, found 1"),
        ({"level": -1.0}, "dials: expected level ≥ 0 grey levels, found -1"),
        ({"sigma": -1 / 255}, "dials: expected sigma > 0 or auto or none, found -1/255"),
        ({"count": float("nan")}, "dials: expected count ≥ 1, found nan"),
    ],
)
@pytest.mark.parametrize("cls", [Dials, OtherDefaults], ids=["own", "inherited"])
def test_a_number_out_of_bounds_is_one_line(cls: type[Dials], given: dict[str, float], expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        cls(**given)  # pyright: ignore[reportArgumentType]
    assert str(caught.value).startswith(expected)


def test_bounds_let_everything_else_through() -> None:
    Dials(sigma=None, free=-1e9, flag=True, share=1.0, level=0.0)
    assert set(bounds_of(OtherDefaults)) == {"count", "size", "pairs", "share", "below", "level", "sigma"}


@pytest.mark.parametrize("kind", ["attack", "filter", "defense"])
def test_every_parameter_is_explained_where_it_is_declared(kind: str) -> None:
    missing = [
        f"{name}({field.name})"
        for name in names(kind)
        for field in dataclasses.fields(plugin_class(kind, name))
        if field.name not in meanings_of(plugin_class(kind, name))
    ]
    assert missing == []


def test_a_description_shows_bounds_units_and_meaning() -> None:
    line = next(line for line in description("jnd").splitlines() if line.startswith("threshold"))
    assert "≥ 0 grey levels" in line
    assert "just-noticeable difference" in line
    line = next(line for line in description("sega").splitlines() if line.startswith("sigma"))
    assert "≥ 0 or auto" in line
    assert summary("attack", "mi_fgsm").startswith("MI-FGSM — Momentum Iterative"), "not a parameter of the class"


def test_the_attack_of_the_readme_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read from attacks/README.md, through the door of --plugin."""
    monkeypatch.setattr(registry, "_from_files", {kind: dict(table) for kind, table in registry._from_files.items()})
    text = (Path(__file__).parents[2] / "attacks" / "README.md").read_text("utf-8")
    file = tmp_path / "steepest.py"
    file.write_text(text.partition("## Add an attack")[2].partition("```python\n")[2].partition("```")[0], "utf-8")
    registry.add_file(file)
    checks = list(check_attack(build_attack("steepest(steps=3)")))
    assert len(checks) > 12
    for _, check in checks:
        check()
