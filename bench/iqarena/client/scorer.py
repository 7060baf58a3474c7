"""``iqarena.scorer``: a quality model by its spec, or any module or function, called with images in any form."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from iqarena.api import Model
from iqarena.client.inputs import Images, ImagesLike
from iqarena.client.modes import plain_torch
from iqarena.engine import scorer as engine
from iqarena.engine.device import checked_device
from iqarena.engine.scale import off_scale
from iqarena.errors import ScorerError, SpecError
from iqarena.registry.tables import build_model


@plain_torch()
def scorer(
    model: str | Model | Scorer | nn.Module | Callable[[Tensor], Tensor],
    *,
    range: tuple[float, float] | None = None,
    higher_better: bool = True,
    name: str | None = None,
    device: str | None = None,
) -> Scorer:
    """A no-reference quality scorer on the common scale: 0–100, higher = better.

    ``model`` is a spec (``"hyper"``, ``"jpeg(quality=70)|cnn"``; see ``iqarena list models``), or a module or function
    that maps float32 images ``(N, 3, H, W)`` in [0, 1] to scores ``(N,)``. For these ``range=(low, high)`` is the scale
    of their scores, mapped in a straight line onto 0–100 and never clipped, and ``higher_better=False`` turns it round.
    Without ``range`` scores are taken to be on 0–100 already, and first scores between 0 and 1 are refused. What this
    function has made is returned as it is.

    A module is copied, set to evaluation and frozen; yours keeps its mode, its gradients and its place, and what it
    learns later is not seen. (One that cannot be copied is set to evaluation while it is asked.) A function is called
    as it is. ``name`` is what tables and errors show.

    ``device`` is ``cpu``, ``cuda``, ``cuda:1`` … or ``auto``; left out it is where a module's parameters lie, a GPU if
    there is one for a spec, and the CPU for a function.

    Raises :class:`~iqarena.errors.IqarenaError`, in one line: ``SpecError`` for an unknown name (with the nearest) or a
    range that is none, ``WeightsError`` for missing weights, ``ScorerError`` when a first score shows that it is none.
    """
    if isinstance(model, (str, Model, Scorer)):
        if range is not None or not higher_better or name is not None:
            raise SpecError(f"{model}: its scale is known; leave out range, higher_better and name")
        if isinstance(model, Scorer):
            there = model.engine.device
            if device not in (None, "auto") and not _same_device(torch.device(checked_device(device)), there):
                raise SpecError(f"{model}: it is on {there} already; make another for {device}")
            return model
        built = build_model(model) if isinstance(model, str) else model
        return Scorer(engine.Scorer(built, checked_device(device or "auto")))
    if isinstance(model, type) or not callable(model):
        what = f"the class {model.__name__}, not an object of it" if isinstance(model, type) else type(model).__name__
        raise SpecError(f"expected a spec such as 'hyper', a torch module or a function, found {what}")
    given = OwnModel(net=_Native(model, _name(model, name), _checked_range(range), higher_better))
    return Scorer(engine.Scorer(given, checked_device(device) if device else _place(model)))


class Scorer:
    """Images → scores on 0–100, higher = better; made by :func:`scorer`.

    A score never depends on what is scored beside it, nor on autocast or inference mode around the call.
    """

    def __init__(self, scorer: engine.Scorer) -> None:
        self.engine = scorer

    @plain_torch()
    def __call__(self, images: ImagesLike) -> Any:
        """Score ``images``: see :mod:`iqarena.client.inputs` for the forms.

        A float for one image (tensor ``(3, H, W)``, uint8 array ``(H, W, 3)``, PIL image, path), a list of floats for a
        list, a float32 tensor ``(N,)`` on the same device for a tensor ``(N, 3, H, W)``. Raises ``ImageError`` for what
        is not an image or too small, ``ScorerError`` for scores that are not finite; both name a path that was given.
        """
        given = Images.of(images)
        scores = [0.0] * len(given.x)
        for group in given.by_size(self.engine.chunk):
            with given.named(group):
                values = finite(self.engine, torch.stack([given.x[i] for i in group]))
            for i, score in zip(group, values.tolist(), strict=True):
                scores[i] = score
        return given.scores(scores)

    @property
    def name(self) -> str:
        """Its spec without default values, or the name of a caller's own."""
        return self.engine.model.label

    def __repr__(self) -> str:
        return f"<scorer {self.name} on {self.engine.device}>"


@dataclass(frozen=True, kw_only=True, repr=False)
class OwnModel(Model):
    """A caller's own module or function, as a plugin."""

    name = "own"
    channels_last = False  # a module that was not written for it may not survive that layout

    net: _Native

    def __repr__(self) -> str:
        return self.net.name

    @property
    def label(self) -> str:
        return self.net.name

    def load(self) -> nn.Module:
        return self.net


class _Native(nn.Module):
    """A caller's module or function ``f``, checked: ``100 (f(x) − worst) / (best − worst)``."""

    def __init__(
        self, net: Callable[[Tensor], Tensor], name: str, range: tuple[float, float] | None, higher_better: bool
    ) -> None:
        super().__init__()
        low, high = range or (0.0, 100.0)
        self.worst, self.best = (low, high) if higher_better else (high, low)
        self.name, self._scale_is_known = name, range is not None
        own, uncopied = net, None
        if isinstance(net, nn.Module):
            try:
                own = copy.deepcopy(net)
            except Exception:  # what a module holds may refuse a copy in any way
                own, uncopied = net.__call__, net
        self._net = own  # a module is frozen, moved and set to evaluation together with this one
        self._uncopied = () if uncopied is None else tuple(uncopied.modules())  # a tuple, so that these are spared

    def forward(self, x: Tensor) -> Tensor:
        native = self._evaluated(x)
        if not isinstance(native, Tensor):
            raise ScorerError(f"{self.name}: expected a tensor of scores (N,), found {type(native).__name__}")
        if native.shape == (len(x), 1):
            native = native[:, 0]
        if native.shape != (len(x),):
            raise ScorerError(
                f"{self.name}: expected one score an image, shape ({len(x)},), found shape {tuple(native.shape)};"
                " give a module or function that maps (N, 3, H, W) to (N,)"
            )
        native = native.float()
        if not self._scale_is_known:
            if why := off_scale(native):
                raise ScorerError(f"{self.name}: {why}; write range=(0, 1), or range=(0, 100) if it is not")
            self._scale_is_known = True  # an attack may well bring later ones there
        return 100 * (native - self.worst) / (self.best - self.worst)

    def _evaluated(self, x: Tensor) -> Any:
        modes = [module.training for module in self._uncopied]
        try:
            for module in self._uncopied:
                module.training = False
            return self._net(x)
        except torch.cuda.OutOfMemoryError:
            raise  # the engine makes room
        except (Exception, SystemExit) as error:
            size = f"{x.shape[-1]}×{x.shape[-2]}"
            raise ScorerError(f"{self.name} failed on an image of {size}: {type(error).__name__}: {error}") from error
        finally:
            for module, mode in zip(self._uncopied, modes, strict=True):
                module.training = mode


def finite(scorer: engine.Scorer, x: Tensor) -> Tensor:
    """Scores ``(N,)`` of ``x`` ``(N, 3, H, W)`` on the CPU; raises :class:`ScorerError` when one is not finite."""
    scores = scorer.score(x).cpu()
    if not bool(scores.isfinite().all()):
        first = int((~scores.isfinite()).nonzero()[0])
        raise ScorerError(
            f"{scorer.model.label}: expected finite scores, found {float(scores[first])} for an image of"
            f" {x.shape[-1]}×{x.shape[-2]}; mend the model, or leave the image out"
        )
    return scores


def _name(model: Any, name: str | None) -> str:
    return name or getattr(model, "__name__", type(model).__name__)


def _checked_range(range: tuple[float, float] | None) -> tuple[float, float] | None:
    if range is None:
        return None
    try:
        low, high = (float(end) for end in range)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise SpecError(f"range: expected two numbers (low, high) with low < high, found {range!r};"
                        " write higher_better=False where a low score is good")  # fmt: skip
    return low, high


def _same_device(a: torch.device, b: torch.device) -> bool:
    return (a.type, a.index or 0) == (b.type, b.index or 0)


def _place(model: Any) -> str:
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return "cpu" if first is None else checked_device(str(first.device))
