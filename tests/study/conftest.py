from __future__ import annotations

from typing import Any

import pytest
from study_helpers import Images

from torchgenaug.study import splits
from torchgenaug.trust import LeakReport

REPORTS: dict[Any, LeakReport] = {}


@pytest.fixture(autouse=True)
def searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal sets of the studies' helpers, by content and names, are searched for leaks once, not by each test."""
    search = splits.check_leaks

    def check(source: Any, held_out: dict[str, Any], *, train: Any = None, **options: Any) -> LeakReport:
        sets = [*held_out.values(), train]
        if source is not None or options or {type(each) for each in sets} != {Images}:
            return search(source, held_out, train=train, **options)
        contents = [(each.tensors[0].numpy().tobytes(), (*each.ids,), (*each.patients,)) for each in sets]
        key = (*held_out, *contents)
        if key not in REPORTS:
            REPORTS[key] = search(source, held_out, train=train)
        return REPORTS[key]

    monkeypatch.setattr(splits, "check_leaks", check)
