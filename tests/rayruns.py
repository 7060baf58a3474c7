"""``rayruns.py SUITE FOLDER``: the suite by 1, 2 and 4 workers of one Ray, which is started here, into ``FOLDER/1`` ….

A process of its own, as Ray leaves threads and signal handlers in the one that starts it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from iqarena.executors.on_ray import _connect, _ray
from iqarena.registry.tables import add_file
from iqarena.runner.driver import Options, run_plan
from iqarena.store.folder import Store
from iqarena.suite.file import load_suite
from iqarena.suite.plan import resolve

WORKERS = (1, 2, 4)

if __name__ == "__main__":
    # a token that another Ray left here would be asked for; statistics need the network; a full machine ends workers
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_memory_monitor_refresh_ms": "0"}
    add_file(Path(__file__).with_name("toys.py"))
    _connect(_ray(), None, max(WORKERS))
    plan = resolve(load_suite(sys.argv[1]))
    for workers in WORKERS:
        run_plan(plan, Store(Path(sys.argv[2]) / str(workers)), Options(executor="ray", workers=workers))
