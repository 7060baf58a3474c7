"""What a caller may have switched on in torch around a call, and what must not reach the engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def plain_torch() -> Iterator[None]:
    """Without autocast and inference mode, as on the command line: within them numbers would be others, or none."""
    import torch

    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
