"""Conformance checks for authors of plugins: does an attack, a filter, a scorer or a defense do what it declares?

With pytest (which is not needed: a check is a function without arguments that raises ``AssertionError``)::

    add_file("my_attack.py")  # not needed for an installed plugin

    @pytest.mark.parametrize(("name", "check"), check_attack(build_attack("my_attack")))
    def test_my_attack(name, check):
        check()

The declared facts choose the checks, so that none is ever skipped. A plugin is built by the registry (installed, or
added by :func:`add_file`), because its spec must lead back to it. Attacks are tried on two toy scorers.
"""

from __future__ import annotations

from iqarena.registry.tables import add_file, build_attack, build_defense, build_filter, build_model
from iqarena.testing.attacks import check_attack
from iqarena.testing.defenses import check_defense
from iqarena.testing.filters import check_filter
from iqarena.testing.models import check_model
from iqarena.testing.plugins import Check
from iqarena.testing.toys import Curved, CurvedNet, Linear, LinearNet, Steep, images

__all__ = [
    "Check", "add_file", "build_attack", "build_defense", "build_filter", "build_model",
    "check_attack", "check_defense", "check_filter", "check_model",
    "Curved", "CurvedNet", "Linear", "LinearNet", "Steep", "images",
]  # fmt: skip
