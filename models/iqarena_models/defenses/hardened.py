"""What training defenses have in common: a loss to train a scorer on with, and the weights that came of it.

``iqarena train SCORER --defense DEFENSE`` (:mod:`iqarena_models.training.harden`) leaves the tensors that it changed in
``<defense>-<scorer>.safetensors``; they are laid over the scorer's own weights. The file says which defense and which
weights those were, and neither may be another's. The files in ``weights/`` are those of the embedded scorers with each
defense's default parameters; a file of the user's own is named by ``weights`` and found in ``--weights-dir``.
"""

from __future__ import annotations

import dataclasses
import json
from abc import abstractmethod
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from iqarena.api import Defended, Defense, Model, SpecError, WeightFile, WeightsError, known_sha256, obtain

WEIGHTS = Path(str(files("iqarena_models"))) / "defenses" / "weights"


class Hardened(Defense):
    """A scorer trained on with :meth:`loss`. A subclass is a dataclass that has ``weights`` among its fields."""

    weights: str | None

    @abstractmethod
    def loss(self, module: nn.Module, x: Tensor, mos: Tensor) -> Tensor:
        """The loss of images ``(N, 3, H, W)`` in [0, 1] with opinion scores ``(N,)`` on 0–100, with a graph."""

    @property
    def training(self) -> str:
        """The spec of what was trained, wherever the weights are."""
        return repr(dataclasses.replace(self, weights=None))

    def defend(self, model: Model) -> Defended:
        if model.defenses:
            raise SpecError(f"{self.name}: expected to stand next to the scorer, found '{self.name}|{model.label}'")
        if not model.differentiable or model.straight_through:
            raise SpecError(f"{self.name}: expected a scorer with a gradient of its own, found {model.label}")
        return HardenedModel(defense=self, model=model)


@dataclass(frozen=True, kw_only=True, repr=False)
class HardenedModel(Defended):
    """``model`` with the tensors that training changed."""

    defense: Hardened

    @property
    def facts(self) -> dict[str, Any]:
        card = self._path.with_suffix(".json")
        card_facts = _facts(card) if card.is_file() else {}
        own = {key: value for key, value in self.model.facts.items() if key != "training_seconds"}
        return (
            own
            | {"hardened": card_facts}
            | {key: card_facts[key] for key in ("training_seconds",) if key in card_facts}
        )

    @property
    def files(self) -> tuple[WeightFile, ...]:
        own = (WeightFile(self.defense.weights),) if self.defense.weights else ()
        return (*self.model.files, *own)

    @property
    def weights_sha256(self) -> str:
        return known_sha256(self._path)

    def load(self) -> nn.Module:
        path = self._path
        shipped = self.defense.weights is None
        if shipped and (known := _facts(path.with_suffix(".json"))["sha256"]) != (digest := self.weights_sha256):
            raise WeightsError(f"{path}: expected sha256 {known[:12]}…, found {digest[:12]}…; install iqarena again")
        try:
            with safe_open(path, "pt") as stored:
                tensors = {key: stored.get_tensor(key).float() for key in stored.keys()}  # noqa: SIM118 (no mapping)
                written = json.loads((stored.metadata() or {}).get("iqarena", "{}"))
        except (SafetensorError, ValueError) as error:
            raise WeightsError(f"{path}: expected safetensors: {error}; {self._train}") from None
        expected = origin(self.defense, self.model)
        if wrong := [key for key, value in expected.items() if written.get(key) != value]:
            key = wrong[0]
            raise WeightsError(
                f"{path}: expected weights trained with {key} {expected[key] or 'none'},"
                f" found {written.get(key) or 'none'}; {self._train}"
            )
        module = self.model.load()
        own = module.state_dict()
        if strange := [key for key, value in tensors.items() if key not in own or own[key].shape != value.shape]:
            raise WeightsError(f"{path}: expected tensors of {self.model.label}, found {strange[0]}; {self._train}")
        module.load_state_dict(tensors, strict=False)
        return module

    @property
    def _path(self) -> Path:
        if self.defense.weights is not None:
            return obtain(WeightFile(self.defense.weights))
        path = WEIGHTS / file_name(self.defense, self.model)
        if self.defense.training != type(self.defense)().training or not path.is_file():
            raise WeightsError(f"no weights come with '{self.label}'; {self._train}")
        return path

    @property
    def _train(self) -> str:
        trained = dataclasses.replace(self.defense, weights=None).label
        file = file_name(self.defense, self.model)
        return (
            f"next step: iqarena train '{self.model.label}' --defense '{trained}' --data FOLDER, then name the file"
            f" ({self.defense.name}(…, weights={file})) and its folder (--weights-dir)"
        )


def file_name(defense: Hardened, model: Model) -> str:
    return f"{defense.name}-{model.name}.safetensors"


def origin(defense: Hardened, model: Model) -> dict[str, str]:
    """What a file of tensors says of itself: they fit nothing else."""
    return {"defense": defense.training, "scorer": model.name, "base_sha256": model.weights_sha256}


def scores_and_signs(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """``f(x)`` ``(N,)`` with a graph, and ``sign ∇f(x)``, a constant, both of one evaluation."""
    leaf = x.detach().requires_grad_(True)
    scores = module(leaf)
    (gradient,) = torch.autograd.grad(scores.sum(), leaf, retain_graph=True)
    return scores, gradient.sign()


@cache
def _facts(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
