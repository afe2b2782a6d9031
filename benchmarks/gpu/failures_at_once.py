"""A plugin of pytest: each failure is printed at once, so that a run which is ended at its limit has them, too."""

from __future__ import annotations

from typing import Any


def pytest_runtest_logreport(report: Any) -> None:
    """Prints the end of the text of a failure or an error."""
    if report.failed:
        print(f"\n{report.nodeid}\n{report.longreprtext[-2000:]}", flush=True)
