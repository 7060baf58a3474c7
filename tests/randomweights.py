"""Checkpoints of random parameters in the layouts in which they are published: the real loading path without a network.

For tests only: a scorer with random parameters is never part of a result. CLIP is small here; the metrics read its
size off the checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from iqarena_models.catalog import Metric, catalog
from iqarena_models.pyiqa_adapter import build_metric


def write_files(name: str, folder: Path) -> None:
    """All files of the metric ``name``, with random parameters."""
    metric = catalog()[name]
    torch.manual_seed(0)
    with torch.no_grad():
        clip = _clip(metric)
        if clip is not None:
            torch.save(clip, folder / metric.files[-1])
        if metric.arch == "arniqa_arch":
            from torchvision.models import resnet50

            encoder = nn.Sequential(*list(_lively(resnet50(weights=None)).children())[:-1])
            torch.save(_prefixed("model.", encoder.state_dict()), folder / metric.files[0])
            torch.jit.script(nn.Linear(4096, 1)).save(folder / metric.files[1])
        elif metric.arch == "metaiqa_arch":
            from pyiqa.archs.metaiqa_arch import MetaIQA  # pyright: ignore[reportMissingImports]

            torch.save({"params": _lively(MetaIQA(pretrained=False)).state_dict()}, folder / metric.files[0])
        elif name == "clipiqa+":
            torch.save(torch.randn(16, 64) / 50, folder / metric.files[0])
        elif clip is None or len(metric.files) > 1:
            net = build_metric(metric, {file: folder / file for file in metric.files[1:]}).net
            torch.save({"params": _lively(net).state_dict()}, folder / metric.files[0])


def _clip(metric: Metric) -> dict[str, Any] | None:
    """The file of the metric that holds CLIP's parameters, if one does."""
    if metric.arch == "liqe_arch":
        return {"params": _prefixed("clip_model.", _small_clip(2, 64, 32))}
    if metric.arch == "qualiclip_arch":
        sentences = nn.functional.normalize(torch.randn(14, 64), dim=1)
        return {**_prefixed("clip_model.", _small_clip((1, 1, 1, 1), 8)), "prompts_features": sentences}
    if "ViT-L-14.pt" in metric.files:
        return _small_clip(2, 64, 14)
    return _small_clip((1, 1, 1, 1), 8) if "RN50.pt" in metric.files else None


def _small_clip(layers: int | tuple[int, ...], width: int, patch: int | None = None) -> dict[str, Tensor]:
    from pyiqa.archs.clip_model import CLIP  # pyright: ignore[reportMissingImports]

    text = {"context_length": 77, "vocab_size": 49408, "transformer_width": 64, "transformer_heads": 1}
    return CLIP(64, 224, layers, width, patch, transformer_layers=1, **text).state_dict()  # pyright: ignore[reportArgumentType]


def _lively(net: nn.Module) -> nn.Module:
    """Batch statistics that are not those of an untouched network, so that they must be loaded to be right."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            module.running_var.uniform_(0.5, 2)
    return net


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in tensors.items()}
