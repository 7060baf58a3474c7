"""S-CNN, the distortion network inside DBCNN, as a scorer of its own.

Zhang, Ma, Yan, Deng, Wang: Blind image quality assessment using a deep bilinear convolutional neural network,
TCSVT 2020, arXiv 1907.02665. A VGG-like network trained to tell 39 classes of synthetic distortion, each a type and a
level. The parameters are the authors' (github zwx8981/DBCNN-PyTorch, MIT); the layer names are those of their file.

Reconstructed: the classes are not named in the file and were read off by experiment. Classes 0–4 are blur, 5–9 colour
quantisation, 10–11 over- and 12–13 under-exposure, 14–18 white noise, 19–23 JPEG, 24–28 JPEG 2000, 29–33 contrast,
34–38 pink noise, each group from weak to strong; untouched images fall into class 5. The score is the expected level
``Σ p · level`` with level 0 for class 5, 1 to 5 within a group of five, 3 and 5 within a group of two.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from iqarena_models.zoo.net import normalised

WIDTHS = (3, 48, 48, 64, 64, 64, 64, 128, 128, 128)
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 2)
LEVELS = (1, 2, 3, 4, 5, 0, 2, 3, 4, 5, 3, 5, 3, 5, *(1, 2, 3, 4, 5) * 5)


class Scnn(nn.Module):
    """Images ``(N, 3, H, W)`` in [0, 1] → expected level of distortion ``(N,)``, 0–5, lower = better."""

    def __init__(self) -> None:
        super().__init__()
        layers = zip(pairwise(WIDTHS), STRIDES, strict=True)
        self.features = nn.Sequential(*(part for (a, b), stride in layers for part in _layer(a, b, 3, stride)))
        self.projection = nn.Sequential(*_layer(128, 256, 1), *_layer(256, 256, 1))
        self.classifier = nn.Linear(256, len(LEVELS))

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.features(normalised(x)).mean((2, 3), keepdim=True)
        p = self.classifier(self.projection(pooled).flatten(1)).softmax(1)
        return p @ p.new_tensor(LEVELS)


def _layer(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.BatchNorm2d(outputs), nn.ReLU()]
