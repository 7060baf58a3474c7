"""What a report reads from specs and how it shows them: the parts of a target and of a source, an attack apart from its
budget, labels."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from iqarena.api.spec import Call, parse
from iqarena.store.manifest import Manifest
from iqarena.store.union import members_of

LISTED = 8  # names in a sentence, at most


def split_target(target: str) -> tuple[str, str]:
    """The defenses of a target, empty for none, and its scorer: ``("jpeg(quality=50)", "cnn")``."""
    *defenses, scorer = parse(target).calls
    return "|".join(map(str, defenses)), str(scorer)


def source_size(source: str) -> int:
    """How many models a source has."""
    return len(members_of(source))


def short_source(source: str) -> str:
    """``ensemble of 4`` for a source of several members, else the source itself."""
    members = source_size(source)
    return f"ensemble of {members}" if members > 1 else source


def labelled(table: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """A table for readers: models without default values."""
    columns = table.columns.intersection(["model", "source", "target", "strongest_source"])
    return table.assign(**{name: [manifest.model(str(spec)).label for spec in table[name]] for name in columns})


def without_budget(attack: str) -> str:
    """An attack's spec or label without its ``eps``."""
    call = parse(attack).single
    return str(Call(call.name, call.args, tuple(pair for pair in call.kwargs if pair[0] != "eps")))


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, the first ``LISTED`` of them."""
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")
