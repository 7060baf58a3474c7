"""pyiqa's architectures without its traps: nothing is downloaded, nothing but tensors is unpickled, scores per image.

The architecture is built directly, not through ``pyiqa.create_metric``, which averages over the batch, builds graphs
where they are off and ties a metric to one device. While it is built, the doors to the network and to pickles are
replaced: backbones start empty (the metric's own checkpoint holds them), files come from iqarena's weights folders,
and LIQE's sentences are encoded anew rather than read from a cache that other parameters may have written.

pyiqa 0.1.16 samples nothing when it scores: its crops lie on a grid that depends on the image's size alone, so an
image and its attacked version are cropped alike.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import torch
from scipy.io import whosmat
from torch import Tensor, nn

from iqarena.api import IqarenaError, SpecError, WeightsError
from iqarena_models.backbone import Backbone
from iqarena_models.catalog import Metric, pyiqa_version
from iqarena_models.common_scale import fill, read_checkpoint, read_tensors

TORCHVISION = ("resnet18", "resnet34", "resnet50", "vgg16")
BACKBONES: dict[str, tuple[str, dict[int, int]]] = {  # architecture → its backbone, and what the head expects of it
    "hypernet_arch": ("base_model", {4: 256, 8: 512, 16: 1024, 32: 2048}),
    "dbcnn_arch": ("features1", {16: 512}),
}
_building = threading.Lock()


class PerImage(nn.Module):
    """Images ``(N, 3, H, W)`` → native scores ``(N,)``."""

    def __init__(self, net: nn.Module, stateful: bool) -> None:
        super().__init__()
        self.net = net
        hidden = [value for part in net.modules() for value in vars(part).values() if isinstance(value, list)]
        # CLIP in a list escapes .to(), .eval() and .requires_grad_()
        self.hidden = nn.ModuleList(m for modules in hidden for m in modules if isinstance(m, nn.Module))
        self.turn = threading.Lock() if stateful else contextlib.nullcontext()

    def forward(self, x: Tensor) -> Tensor:
        with self.turn:
            output = self.net(x.contiguous())
        scores: Tensor = output[0] if isinstance(output, tuple) else output
        return scores.reshape(len(x))


class _Features(Backbone):
    """A :class:`Backbone` that answers as the network it replaces: DBCNN's gives its last features alone, HyperIQA's
    list begins with some at half the size, which nobody looks at."""

    def forward(self, z: Tensor) -> Any:
        features = super().forward(z)
        return features[0] if len(features) == 1 else [z, *features]


def build_metric(
    metric: Metric,
    paths: Mapping[str, Path],
    crops: int | None = None,
    backbone: str | None = None,
    *,
    imagenet: bool = False,
) -> PerImage:
    """The architecture of ``metric`` filled from ``paths`` (catalogue name → checked file), on the CPU.

    Without a path its parameters are random. ``backbone`` puts a timm network in the place of its own, with
    ``imagenet`` weights or random ones. Raises :class:`IqarenaError` when pyiqa is not installed, :class:`SpecError`
    when the backbone does not fit and :class:`WeightsError` for a wrong checkpoint.
    """
    if backbone and metric.arch not in BACKBONES:
        raise SpecError(f"{metric.name}: expected no backbone, its own is part of the architecture; found {backbone}")
    files = _Files({} if backbone else paths)
    with _building, _quiet():
        module, configs = _pyiqa(metric.arch)
        options = dict(configs[metric.name]["metric_opts"])
        architecture = getattr(module, options.pop("type"))
        if crops is not None:
            options[metric.crops_option] = crops
        with torch.random.fork_rng(devices=[]), torch.no_grad(), _doors(files):
            net: nn.Module = architecture(**options)
        if backbone:
            place, expected = BACKBONES[metric.arch]
            with torch.random.fork_rng(devices=[]):
                setattr(net, place, _Features(backbone, expected, imagenet=imagenet))
            for path in paths.values():
                files.read |= paths.keys()
                tensors = read_tensors(path)
                fill(net, tensors.get("params", tensors), path)
    if unread := paths.keys() - files.read:
        raise WeightsError(
            f"{metric.name}: expected pyiqa {pyiqa_version()}, the one here never asked for {', '.join(sorted(unread))}"
        )
    return PerImage(net.eval(), metric.stateful)


def _pyiqa(arch: str) -> tuple[ModuleType, dict[str, Any]]:
    try:
        return (
            importlib.import_module(f"pyiqa.archs.{arch}"),
            importlib.import_module("pyiqa.default_model_configs").DEFAULT_CONFIGS,
        )
    except ImportError as error:  # also pkg_resources, which CLIP wants and setuptools 81 no longer has
        raise IqarenaError(
            f"expected pyiqa {pyiqa_version()} and what it needs, found: {error}; pip install 'iqarena[pyiqa]'"
        ) from None


class _Files:
    """What pyiqa gets when it asks for a URL: a checked file of the catalogue. ``read`` are those it asked for."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self.paths, self.read = paths, set[str]()

    def find(self, url: str) -> Path | None:
        name = unquote(url.rpartition("/")[2])
        self.read |= {name} & self.paths.keys()
        return self.paths.get(name)

    def local(self, url: str, **options: Any) -> str:
        path = self.find(url)
        if path is None:
            raise WeightsError(f"expected only files of the catalogue, pyiqa asks for {url}; add it to catalog.toml")
        if path.suffix == ".mat":  # pyiqa would read it without a word about what is wrong
            try:
                whosmat(path)
            except Exception as error:  # the reader raises nearly anything for damaged bytes
                raise WeightsError(f"{path}: expected a MATLAB file: {error}; get the file again") from None
        return str(path)

    def fill(self, net: nn.Module, url: str, strict: bool = True, weight_keys: str | None = None) -> None:
        """Parameters of ``net``; a file that is not in the catalogue is part of one that is, and read with that."""
        path = self.find(url)
        if path is not None:
            tensors = read_tensors(path)
            fill(net, tensors.get(weight_keys or "params", tensors), path, strict=strict)

    def clip(self, name: str, *args: Any, **options: Any) -> nn.Module:
        """CLIP from its own file, or its architecture from the checkpoint that holds its parameters."""
        from pyiqa.archs.clip_model import build_model  # pyright: ignore[reportMissingImports]

        if own := self.find(name.replace("/", "-") + ".pt"):
            return build_model(_archive(own)).float()
        for path in self.paths.values():
            tensors = read_tensors(path)
            tensors = tensors.get("params", tensors)
            if clip := {k.removeprefix("clip_model."): v for k, v in tensors.items() if k.startswith("clip_model.")}:
                return build_model(clip).float()
        raise WeightsError(f"expected CLIP's parameters in {', '.join(map(str, self.paths.values()))}, found none")


@contextlib.contextmanager
def _doors(files: _Files) -> Iterator[None]:
    """Replace every way to the network, to caches and to pickles, for as long as an architecture is built."""
    import timm
    import torchvision.models as backbones

    with tempfile.TemporaryDirectory() as cache, contextlib.ExitStack() as afterwards:
        new = {
            "load_pretrained_network": files.fill,
            "load_file_from_url": files.local,
            "load": files.clip,
            "DEFAULT_CACHE_DIR": cache,
        }
        changes: list[tuple[Any, str, Any]] = [
            (timm, "create_model", partial(_with, timm.create_model, {"pretrained": False})),
            (torch, "load", lambda path, **options: read_checkpoint(Path(path))),
            (torch.hub, "load_state_dict_from_url", lambda url, **options: read_tensors(Path(files.local(url)))),
        ]
        changes += [(backbones, n, partial(_with, getattr(backbones, n), {"weights": None})) for n in TORCHVISION]
        for module in [m for name, m in sys.modules.items() if name.startswith("pyiqa.archs.")]:
            changes += [(module, name, value) for name, value in new.items() if hasattr(module, name)]
            if swin := getattr(module, "create_swin", None):
                changes.append((module, "create_swin", partial(_with, swin, {"pretrained": False})))
        for holder, name, value in changes:
            afterwards.callback(setattr, holder, name, getattr(holder, name))
            setattr(holder, name, value)
        yield


def _with(function: Callable[..., Any], fixed: Mapping[str, Any], *args: Any, **options: Any) -> Any:
    return function(*args, **{**options, **fixed})


def _archive(path: Path) -> dict[str, Tensor]:
    """Tensors of a published CLIP, which is a TorchScript archive, or of a plain checkpoint."""
    try:
        return torch.jit.load(path, map_location="cpu").state_dict()
    except RuntimeError:
        return read_tensors(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """pyiqa prints what it loads, and what it imports warns of its own age."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
