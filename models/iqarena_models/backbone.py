"""Any timm network in the place of a scorer's own backbone, for groups that train a scorer of their own.

A scorer's head expects features of certain reductions and widths (HyperIQA's: 256, 512, 1024 and 2048 channels at 1/4,
1/8, 1/16 and 1/32 of the image). A network fits when it has these reductions; where its widths differ, a 1×1
convolution brings them over. The head is the published one, so ``resnet50`` under HyperIQA's needs no convolution.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm import create_model, get_pretrained_cfg
from torch import Tensor, nn

from iqarena.api import IqarenaError, SpecError, WeightFile, WeightsError, obtain
from iqarena_models.zoo.backbones import lite
from iqarena_models.zoo.backbones.package import fill
from iqarena_models.zoo.net import MEAN, STD


class Backbone(nn.Module):
    """Images normalised as for ImageNet ``(N, 3, H, W)`` → features ``(N, width, H/r, W/r)`` for
    each wanted ``{r: width}``.

    Features with a wanted width are rectified, as those of the networks they replace (DBCNN takes a root of theirs); a
    width of None takes what the network has. ``widths`` are those that came out. Networks that were trained with
    another normalisation get theirs. ``imagenet`` starts from timm's ImageNet weights. Raises :class:`SpecError` for a
    name that timm does not know or a network that does not fit.
    """

    gain: Tensor
    shift: Tensor

    def __init__(self, name: str, wanted: Mapping[int, int | None], *, imagenet: bool = False) -> None:
        super().__init__()
        config = get_pretrained_cfg(name, allow_unregistered=True)
        if config is None:
            raise SpecError(
                f"backbone: expected a network that timm knows, found {name!r}; timm.list_models() has them"
            )
        tensors = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": _imagenet(name)}} if imagenet else {}
        try:
            self.net = create_model(name, features_only=True, **tensors)
        except (RuntimeError, AttributeError, TypeError) as error:
            raise SpecError(
                f"backbone {name}: expected features at several scales: {' '.join(str(error).split())}"
            ) from None
        offers = {int(r): i for i, r in enumerate(self.net.feature_info.reduction())}  # pyright: ignore
        if missing := [r for r in wanted if r not in offers]:
            raise SpecError(
                f"backbone {name}: expected features at 1/{missing[0]} of the image, found 1/{list(offers)}"
            )
        channels: list[int] = self.net.feature_info.channels()  # pyright: ignore
        self.levels = [offers[r] for r in wanted]
        self.widths = [width or channels[level] for width, level in zip(wanted.values(), self.levels, strict=True)]
        pairs = zip(wanted.values(), (channels[level] for level in self.levels), strict=True)
        self.fit = nn.ModuleList(_fit(given, width) for width, given in pairs)
        mean, std, own_mean, own_std = map(torch.tensor, (MEAN, STD, config.mean, config.std))
        self.register_buffer("gain", (std / own_std).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", ((mean - own_mean) / own_std).view(3, 1, 1), persistent=False)

    def forward(self, z: Tensor) -> list[Tensor]:
        features = self.net(self.gain * z + self.shift)
        return [fit(features[level]) for fit, level in zip(self.fit, self.levels, strict=True)]


def _fit(given: int, width: int | None) -> nn.Module:
    if width is None:
        return nn.Identity()
    return nn.ReLU() if width == given else nn.Sequential(nn.Conv2d(given, width, 1), nn.ReLU())


def _imagenet(name: str) -> dict[str, Tensor]:
    """timm's ImageNet weights of a network; those of EfficientNet-Lite0 come out of a package."""
    if name == "tf_efficientnet_lite0":
        net = create_model(name, num_classes=1000)
        fill(net, lite.PACKAGE.tensors())  # its names differ, the order is timm's
        used = create_model(name, features_only=True).state_dict().keys()
        return {key: value for key, value in net.state_dict().items() if key in used}
    hub = getattr(get_pretrained_cfg(name), "hf_hub_id", None)
    if not hub:
        raise IqarenaError(
            f"backbone {name}: timm has no ImageNet weights of it; use --from-scratch or another network"
        )
    file = hub.rpartition("/")[2] + ".safetensors"
    path = obtain(WeightFile(file, url=f"https://huggingface.co/{hub}/resolve/main/model.safetensors"))
    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{path}: expected safetensors: {error}; get the file again") from None
