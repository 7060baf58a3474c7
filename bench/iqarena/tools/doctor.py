"""Checks of an installation, cheapest first; each is one line and says what to do when it fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from iqarena.api import Model
from iqarena.errors import IqarenaError
from iqarena.registry.tables import EXTRAS, KINDS, build_model, names, plugin_class
from iqarena.suite.file import DEFAULT, load_suite
from iqarena.suite.plan import image_set


def examine() -> Iterator[tuple[bool, str]]:
    """(healthy, line) for every check."""
    yield sys.version_info >= (3, 11), f"Python {sys.version.split()[0]} (3.11 or newer is needed)"
    for package in ("torch", "timm", "numpy", "pandas", "pyarrow"):
        yield _try(lambda package=package: f"{package} {version(package)}")
    for extra in EXTRAS:
        there = find_spec(extra) is not None
        yield True, f"{extra}: {'installed' if there else f'not installed (optional: pip install iqarena[{extra}])'}"
    yield _try(_device)
    for kind in KINDS:
        yield _try(lambda kind=kind: f"{kind}s: {', '.join(_importable(kind))}")
    suite = load_suite(DEFAULT)
    for name in suite.targets:
        yield _try(lambda name=name: f"{name}: weights match their hash, {_gradient(build_model(name))}")
    yield _try(lambda: _decoded(suite.images))


def _try(check: Callable[[], str]) -> tuple[bool, str]:
    try:
        return True, check()
    except PackageNotFoundError as error:
        return False, f"{error.name} is not installed; run: pip install iqarena"
    except Exception as error:  # a doctor reports whatever is wrong
        return False, f"{type(error).__name__}: {error}"


def _importable(kind: str) -> Iterator[str]:
    for name in names(kind):
        try:
            yield plugin_class(kind, name).name
        except IqarenaError as error:
            if not isinstance(error.__context__, ModuleNotFoundError):
                raise
            yield f"{name} (needs {error.__context__.name})"  # an extra that is not installed is no fault


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"GPU: {torch.cuda.get_device_name()}"
    return f"no GPU; CPU with {torch.get_num_threads()} threads"


def _decoded(images: str | dict[str, Any]) -> str:
    embedded = image_set(images)
    return f"{sum(embedded.read(item).size > 0 for item in embedded.items())} images of {embedded.label} decode"


def _gradient(model: Model) -> str:
    import torch

    from iqarena.engine.scorer import Scorer

    x = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    value, gradient = Scorer(model).value_and_gradient(x)
    if not bool(gradient.isfinite().all()) or float(gradient.abs().max()) == 0:
        raise RuntimeError("its gradient is zero or not finite")
    return f"score of a test image {float(value):.1f}, gradient fine"
