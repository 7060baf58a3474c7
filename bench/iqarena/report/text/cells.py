"""Numbers as the text of a table's cells: fixed digits, true minus signs, empty for NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def number(value: float, digits: int = 2) -> str:
    """Fixed digits with a true minus sign; zero has no sign; empty for NaN."""
    if math.isnan(value):
        return ""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def share(value: float) -> str:
    """Per cent; empty for NaN."""
    return "" if math.isnan(value) else f"{100 * value:.0f} %"


def with_interval(record: Mapping[Any, Any], name: str, *, signed: bool = False) -> str:
    """``0.41 [0.37, 0.45]``; ``signed`` for a difference; empty for NaN."""
    value, low, high = record[name], record[f"{name}_low"], record[f"{name}_high"]
    if math.isnan(value):
        return ""
    text = f"+{number(value)}" if signed and round(value, 2) > 0 else number(value)
    return text if math.isnan(low) else f"{text} [{number(low)}, {number(high)}]"


def p_value(p: float) -> str:
    """Two digits that count; empty for NaN."""
    return "" if math.isnan(p) else "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def p_text(p: float) -> str:
    """The same for a sentence: ``p = 0.02``, ``p < 0.0001``."""
    return f"p = {p_value(p)}".replace("= <", "<")


def rank_text(record: Mapping[Any, Any]) -> str:
    if math.isnan(record["rank"]):
        return ""
    low, high = record["rank_low"], record["rank_high"]
    return f"{record['rank']:.0f}" + ("" if math.isnan(low) else f" [{low:.0f}–{high:.0f}]")


def tie_text(group: float) -> str:
    """a, b, …, z, aa, ab, …"""
    if math.isnan(group):
        return ""
    text, n = "", int(group)
    while n:
        n, letter = divmod(n - 1, 26)
        text = chr(ord("a") + letter) + text
    return text


def count(value: float) -> str:
    """Without digits, or with one for a small mean."""
    return f"{value:.0f}" if value >= 10 or value == round(value) else f"{value:.1f}"
