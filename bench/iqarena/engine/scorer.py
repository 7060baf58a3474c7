"""A loaded scorer: frozen weights, safe gradients, and evaluations whose result does not depend on the batch.

Convolution libraries pick their algorithm by batch size, and another algorithm rounds differently. So a scorer is
always evaluated in micro-batches of one fixed size: single images on the CPU (which is as fast there), padded
batches of ``CUDA_BATCH`` on a GPU.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from iqarena.api import AttackError, Certified, ImageError, IqarenaError, Model, ScorerError
from iqarena.engine.resident import Resident
from iqarena.engine.weights import WeightsWatch

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}

T = TypeVar("T")


class WeightsTouched(ScorerError):
    """Somebody wrote into the weights of a scorer."""


class Scorer(Resident):
    """Images ``(N, 3, H, W)`` float32 in [0, 1] → scores ``(N,)`` float64, nominally 0–100, higher = better.

    ``evaluated`` counts the images really scored and differentiated, and the seconds that it took. After every
    evaluation the weights must be those that were loaded, and the input what was given: :class:`ScorerError` says who
    changed them, :class:`WeightsTouched` that it was not the scorer. They are then loaded anew.
    """

    def __init__(self, model: Model, device: str = "cpu", precision: str = "fp32") -> None:
        super().__init__(model, torch.device(device))
        self.evaluated: dict[str, float] = {"forward": 0, "gradient": 0, "seconds": 0.0}
        self._dtype = PRECISIONS[precision]
        self._layout = torch.channels_last if model.channels_last else torch.contiguous_format
        self.module = self._load()
        self._weights = WeightsWatch(self.module)
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._kept: dict[Hashable, Any] = {}
        self._keeping = threading.RLock()
        self.fitting(lambda: None)

    def _load(self) -> nn.Module:
        with self._blamed("cannot be loaded"):
            module = self.model.load()
            if not isinstance(module, nn.Module):
                raise TypeError(f"expected a torch module, found {type(module).__name__}")
            module = module.eval().requires_grad_(False)
        return module.to(memory_format=self._layout)  # pyright: ignore[reportCallIssue]

    @contextlib.contextmanager
    def _blamed(self, what: str) -> Iterator[None]:
        """Somebody else's plugin may fail in any way, and is named; what is ours is a bug to be seen."""
        try:
            yield
        except (IqarenaError, torch.cuda.OutOfMemoryError):
            raise
        except (Exception, SystemExit) as error:
            if not any(one.code_sha256 for one in (self.model, self.model.undefended, *self.model.defenses)):
                raise
            raise ScorerError(f"{self.model!r}: {what}: {type(error).__name__}: {error}") from error

    def score(self, x: Tensor) -> Tensor:
        """Scores without a graph."""
        scores = self.score_again(x)
        self._count("forward", len(x))
        return scores

    def score_again(self, x: Tensor) -> Tensor:
        """The same as a check of the scorer, which is not counted."""
        return self._watched(lambda: self._scores(x)).double().clone()

    @property
    def tolerance(self) -> float:
        """By how many points two scores of equal pixels may differ: by none, but on a GPU, which may add in another
        order each time."""
        if self.device.type == "cpu":
            return 0.0
        return 0.05 if self._dtype == torch.float32 else 1.0

    def certificate(self, x: Tensor) -> Tensor | None:
        """Bounds ``(N, 2)`` of the scores within the radius that a certified defense declares; none without one."""
        if not isinstance(self.module, Certified):
            return None

        def bounds() -> Tensor:
            module = cast(Certified, self.module)
            with torch.inference_mode():
                return _joined([module.certificate(part)[:n] for part, n in self._parts(x)])

        return self._watched(bounds).double().clone()

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``(N,)`` and ``∂ score / ∂ x`` ``(N, 3, H, W)``, at the price of one forward and one backward.

        Scores of a batch are independent, so their sum is differentiated.
        """
        if not self.model.differentiable:
            raise AttackError(f"{self.model!r} has no gradient; use it as a target only")
        values, gradients = self._watched(lambda: self._values_and_gradients(x))
        self._count("gradient", len(x))
        return values.double(), gradients.contiguous()

    def _scores(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            return _joined([self._forward(part)[:n] for part, n in self._parts(x)])

    def _values_and_gradients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        values, grads = [], []
        for part, n in self._parts(x):
            leaf = part.detach().requires_grad_(True)
            with torch.enable_grad():  # an attack may ask from where gradients are off
                scores = self._forward(leaf)
                total = scores.sum()
            if not scores.requires_grad:
                raise AttackError(f"{self.model!r} has no gradient; use it as a target only")
            values.append(scores.detach()[:n])
            grads.append(torch.autograd.grad(total, leaf)[0][:n])
        return _joined(values), _joined(grads)

    def intact(self) -> bool:
        """Whether the weights are those that were loaded; if not they are loaded anew."""
        with self.turn(), self._looking:
            if self._weights.intact(self.module):
                return True
            self.left()
            self.module = self._load()
            return False

    def _watched(self, evaluate: Callable[[], T]) -> T:
        """What ``evaluate`` gives with weights that are the same before and after it, as the module is: another thread
        may have found it written into, and loaded it anew, in between."""

        def blamed() -> T:
            with self._blamed("cannot be evaluated"):
                return evaluate()

        started = time.perf_counter()
        while True:
            module = self.module
            result = self.fitting(blamed)
            if not self.intact():
                break
            if module is self.module:
                self._count("seconds", time.perf_counter() - started)
                return result
        self.fitting(blamed)
        if not self.intact():
            raise ScorerError(f"{self.model!r}: changes its own weights when it is evaluated; keep its state elsewhere")
        raise WeightsTouched(f"{self.model!r}: its weights were changed from outside; they are loaded anew")

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """``make()``, worked out once for this scorer: for what does not depend on the image under attack."""
        with self._keeping:
            if key not in self._kept:
                self._kept[key] = make()
            return self._kept[key]

    def _parts(self, x: Tensor) -> Iterator[tuple[Tensor, int]]:
        """Micro-batches of exactly ``chunk`` images and how many of each are real."""
        if min(x.shape[-2:]) < self.model.min_size:
            raise ImageError(
                f"{self.model!r} needs images of at least {self.model.min_size} pixels a side,"
                f" found {x.shape[-1]}×{x.shape[-2]}; leave the image out or enlarge it"
            )
        for part in x.to(self.device).split(self.chunk):
            pad = self.chunk - len(part)
            padded = torch.cat([part, part[:1].expand(pad, -1, -1, -1)]) if pad else part
            given = padded.to(memory_format=self._layout, copy=True)
            yield given, len(part)
            if not torch.equal(given, padded) and not torch.equal(given.nan_to_num(), padded.nan_to_num()):
                raise ScorerError(f"{self.model!r}: changed its input in place; work on a copy")

    def _forward(self, x: Tensor) -> Tensor:
        low = self._dtype != torch.float32
        with torch.autocast(self.device.type, self._dtype) if low else contextlib.nullcontext():
            scores = self.module(x)
        if not isinstance(scores, Tensor):
            raise ScorerError(f"{self.model!r}: expected a tensor of scores (N,), found {type(scores).__name__}")
        if scores.shape != (len(x),):
            raise AttackError(f"{self.model!r} returned scores of shape {tuple(scores.shape)}, expected ({len(x)},)")
        return scores.float()

    def _count(self, what: str, n: float) -> None:
        with self._lock:
            self.evaluated[what] += n


def _joined(parts: list[Tensor]) -> Tensor:
    """The micro-batches' results as one, without a copy of a single one."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)
