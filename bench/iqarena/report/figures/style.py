"""What all figures share: colours that are told apart in all common kinds of colour blindness, axes, wrapped labels."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8A8A8A"
PALETTE = [BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9"]  # of Okabe and Ito
MARKERS = "osD^vPX*"


def new_figure(width: float, height: float) -> Figure:
    """Of ``width`` by ``height`` inches, white."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def tidy_axes(axes: Axes, grid: Literal["both", "x", "y"] = "both", *, labelsize: float = 9) -> None:
    """A faint grid below the data, no frame at the top and on the right."""
    axes.grid(axis=grid, color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=labelsize)


def title(figure: Figure, text: str, size: float = 12) -> None:
    figure.suptitle(text, x=0.01, ha="left", fontsize=size)


def literal(label: str) -> str:
    """A dollar stays a dollar."""
    return label.replace("$", r"\$")


def wrapped(label: str, width: int) -> str:
    """Lines of about ``width`` characters, broken after a space or a mark of the spec; see :func:`literal`."""
    lines = [""]
    for part in re.split(r"(?<=[ |(])", label):
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return literal("\n".join(line.strip() for line in lines))


def shortened(label: str, width: int) -> str:
    """At most ``width`` characters; see :func:`literal`."""
    label = literal(label)
    return label if len(label) <= width else f"{label[: width - 1]}…"
