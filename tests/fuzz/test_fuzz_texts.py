"""Fuzz: spec strings, suites, score tables."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from fuzzing import ODD_TEXT, ODD_VALUES, cases, outcome
from hypothesis import given
from hypothesis import strategies as st

from iqarena.images.sets.folder import FolderImages
from iqarena.registry.tables import KINDS, build
from iqarena.suite.file import load_suite
from iqarena.suite.plan import resolve
from iqarena.suite.sources import parse_source

WORDS = st.one_of(
    st.sampled_from([
        "cnn", "toy_linear", "toy_curved", "jpeg", "gaussian", "fgsm", "pgd", "sega", "jnd", "soft", "fourier_topk",
        "pocket", "clive", "folder", "ensemble", "eps", "steps", "mask", "quality", "weights", "8/255", "1/0", "-1",
        "1e999", "0", "3.5", "none", "true", "(", ")", ",", "=", "|", "((", "))", "()",
    ]),
    ODD_TEXT,
)  # fmt: skip
SPECS = st.one_of(
    st.lists(WORDS, max_size=12).map("".join),
    st.tuples(st.sampled_from(["sega", "ensemble", "jpeg", "a"]), st.sampled_from("(|,="), st.integers(1, 5000)).map(
        lambda parts: (parts[0] + parts[1]) * parts[2] + "cnn"
    ),
    st.sampled_from(["9", "(", ")", "|", "=", "a=", "\n"]).flatmap(lambda c: st.integers(1, 6000).map(lambda n: c * n)),
)  # fmt: skip
SUITE: dict[str, Any] = {
    "images": "pocket", "targets": ["toy_curved", "toy_step"], "attacks": ["noise", "fgsm"], "sources": ["each"],
    "reference": "fgsm", "grid": {"attack": "sega", "mask": ["none", "jnd(6)"]}, "ssim": 0.9, "diagnostics": True,
    "direction": "mid", "seed": 1, "repeats": 2, "limit": 3, "keep": "", "name": "x",
}  # fmt: skip
KEYS = st.one_of(st.sampled_from([*SUITE, "images", "grid"]), ODD_TEXT)
VALUES = st.one_of(
    ODD_VALUES,
    st.lists(SPECS, max_size=3),
    SPECS,
    st.fixed_dictionaries({"set": WORDS, "path": ODD_VALUES}, optional={"csv": ODD_VALUES, "crop": ODD_VALUES}),
    st.fixed_dictionaries({"attack": WORDS, "mask": st.lists(ODD_VALUES, max_size=3)}),
)


@cases(50)
@given(kind=st.sampled_from([*KINDS]), spec=SPECS)
def test_specs(kind: str, spec: str) -> None:
    outcome(lambda: build(kind, spec))
    outcome(lambda: parse_source(spec))


@cases(50)
@given(base=st.sampled_from([SUITE, {}]), changes=st.dictionaries(KEYS, VALUES, max_size=3), images=st.none() | SPECS)
def test_suites_as_keys(base: dict[str, Any], changes: dict[str, Any], images: str | None) -> None:
    keys = {key: value for key, value in base.items() if key not in ("grid", "reference") or key in changes}
    outcome(lambda: resolve(load_suite({**keys, **changes}, None, images)))


TOML = st.one_of(
    st.text(max_size=60),
    st.lists(st.tuples(KEYS, st.one_of(ODD_TEXT, VALUES.map(repr))).map(" = ".join), max_size=4).map("\n".join),
    st.tuples(st.sampled_from(["[", "{a=", "a.", "[["]), st.integers(1, 4000)).map(lambda p: "x = " + p[0] * p[1]),
    st.integers(1, 6000).map(lambda n: f"seed = {'9' * n}"),
)


@cases(40)
@given(text=st.one_of(TOML.map(lambda t: t.encode(errors="surrogatepass")), st.binary(max_size=40)))
def test_suite_files(text: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "own.toml")
        path.write_bytes(text)
        outcome(lambda: resolve(load_suite(str(path))))


CELLS = st.one_of(st.sampled_from(["a.png", "b.png", "50", "1e400", "nan", "", "train", '"']), ODD_TEXT)
TABLES = st.tuples(
    st.sampled_from(["image,mos", "image,mos,split", "image,mos,cluster,split", "mos", "image,image,mos,mos", ""]),
    st.lists(st.lists(CELLS, max_size=5).map(",".join), max_size=4),
).map(lambda parts: "\n".join([parts[0], *parts[1]]).encode(errors="surrogatepass"))


@cases(40)
@given(text=st.one_of(TABLES, st.binary(max_size=60)), split=st.sampled_from([None, "train", ""]))
def test_score_tables(text: bytes, split: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.png", "b.png"):
            Path(folder, name).touch()
        table = Path(folder, "mos.csv")
        table.write_bytes(text)
        outcome(FolderImages(path=folder, csv=str(table), split=split).items)


@cases(20)
@given(path=ODD_TEXT, csv=st.none() | ODD_TEXT)
def test_places_of_images(path: str, csv: str | None) -> None:
    outcome(lambda: FolderImages(path=path, csv=csv).items())
