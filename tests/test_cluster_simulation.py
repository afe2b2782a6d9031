"""The simulation of docs/scale.md, and that the page shows its tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.cluster import OUT, Cluster, markdown, simulate

CALM = Cluster(nodes=4, gpus=2, slow=0.0, samples=8 * 10 * 32, preemptions=0.0, bandwidth=1e15)


def test_equal_machines_that_stay_end_together():
    expected = CALM.start / 3600 + 10 * 32 / CALM.rate / 3600
    for dynamic in (False, True):
        run = simulate(CALM, 32, dynamic=dynamic)
        assert run["hours"] == pytest.approx(expected)
        assert run["redone"] == 0


def test_the_file_system_bounds_the_rate():
    narrow = Cluster(nodes=4, gpus=2, slow=0.0, samples=2560, preemptions=0.0, start=0.0, bandwidth=8 << 20)
    assert simulate(narrow, 32, dynamic=True)["hours"] * 3600 == pytest.approx(2560 / 8)


def test_slow_machines_delay_only_the_static_render():
    mixed = Cluster(nodes=4, gpus=2, slow=0.5, samples=8 * 30 * 32, preemptions=0.0, start=0.0, bandwidth=1e15)
    work = mixed.samples / (mixed.rate * 8 * 0.75) / 3600
    assert simulate(mixed, 32, dynamic=False)["hours"] == pytest.approx(30 * 32 / (mixed.rate / 2) / 3600)
    assert work <= simulate(mixed, 32, dynamic=True)["hours"] < 1.1 * work


def test_what_a_preemption_costs_grows_with_the_shard():
    cluster = Cluster(nodes=8, gpus=2, samples=200_000, bandwidth=1e15)
    small, large = (simulate(cluster, size, dynamic=True)["redone"] for size in (32, 1024))
    assert 0 < small < large
    assert simulate(cluster, 32, dynamic=True) == simulate(cluster, 32, dynamic=True)


def test_the_page_shows_the_tables():
    page = (Path(__file__).parents[1] / "docs" / "scale.md").read_text(encoding="utf-8")
    result = json.loads(OUT.read_text(encoding="utf-8"))
    for case in result["cases"].values():
        assert markdown(case) in page
