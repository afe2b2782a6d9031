"""A render as jobs: the same bytes as in one process, whatever the engine does with the jobs."""

from __future__ import annotations

import concurrent.futures
import functools
import multiprocessing
import os
import pickle
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from shards_helpers import contents as bytes_of

from torchgenaug import ClassLabels, ShardSource, SyntheticSequence, render_job, render_shards, shard_jobs
from torchgenaug.errors import ConfigurationError, ShardMismatchError, ShardNotFoundError
from torchgenaug.shards.render import jobs as jobs_module
from torchgenaug.testing import AnalyticSynthesizer

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "cluster"
COUNT = 22
SETTINGS = {"batch_size": 2, "shard_size": 4}


def build(seed=5):
    return SyntheticSequence(AnalyticSynthesizer((8, 8), num_classes=3), ClassLabels(3), seed=seed)


@pytest.fixture
def whole(tmp_path):
    render_shards(build(), tmp_path / "whole", COUNT, progress=False, **SETTINGS)
    return bytes_of(tmp_path / "whole")


def test_any_order_and_any_number_of_times(tmp_path, whole):
    path = tmp_path / "jobs"
    jobs = shard_jobs(build(), path, COUNT, **SETTINGS)
    assert [job.ids for job in jobs] == [range(k, min(k + 4, COUNT)) for k in range(0, COUNT, 4)]
    random.Random(0).shuffle(jobs)
    names = [render_job(pickle.loads(pickle.dumps(job))) for job in jobs[:3]]
    before = {name: (path / name).stat().st_mtime_ns for name in names}
    assert sorted(render_job(job) for job in jobs[:3]) == sorted(names)  # a second time: they are there
    assert {name: (path / name).stat().st_mtime_ns for name in names} == before
    missing = shard_jobs(build(), path, COUNT, **SETTINGS)
    assert {job.index for job in missing} == {job.index for job in jobs[3:]}
    for job in missing:
        render_job(job)
    assert bytes_of(path) == whole
    assert shard_jobs(build(), path, COUNT, **SETTINGS) == []


def test_a_process_pool(tmp_path, whole):
    path = tmp_path / "jobs"
    jobs = shard_jobs(functools.partial(build, 5), path, COUNT, **SETTINGS)
    assert all(len(pickle.dumps(job)) < 1000 for job in jobs)
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        names = list(pool.map(render_job, [*jobs, *jobs]))  # each twice, some at the same time
    assert names[: len(jobs)] == names[len(jobs) :]
    assert bytes_of(path) == whole
    assert len(ShardSource(path)) == COUNT


def test_a_function_is_called_once(tmp_path, monkeypatch):
    calls = []

    def counting():
        calls.append(1)
        return build()

    monkeypatch.setattr(jobs_module, "_key", lambda function: "the same")
    monkeypatch.setattr(jobs_module, "_opened", None)
    for job in shard_jobs(counting, tmp_path / "jobs", COUNT, **SETTINGS):
        render_job(job)
    assert calls == [1]


def test_a_render_that_is_planned_again_takes_the_model_as_it_is_now(tmp_path, monkeypatch):
    """The function has the same name, as in a notebook; or the folder that it loads was trained again."""
    monkeypatch.setattr(jobs_module, "_key", lambda function: "the same")
    seeds = iter((5, 6))
    for name in ("first", "second"):
        for job in shard_jobs(lambda: build(next(seeds)), tmp_path / name, COUNT, **SETTINGS):
            render_job(job)
    assert ShardSource(tmp_path / "second").fingerprint == build(6).fingerprint != build(5).fingerprint


def test_a_function_of_no_module_is_called_for_every_job_and_says_so(tmp_path):
    jobs = None
    with pytest.warns(RuntimeWarning, match="called again for every job, and loads the model each time. Put it into"):
        jobs = shard_jobs(lambda: build(), tmp_path / "jobs", COUNT, **SETTINGS)
    with pytest.warns(RuntimeWarning, match="called again for every job"):
        render_job(jobs[0])


def test_damaged_shards_are_made_again(tmp_path, whole):
    path = tmp_path / "jobs"
    render_shards(build(), path, COUNT, progress=False, **SETTINGS)
    victim = sorted(path.glob("shard-*.h5"))[2]
    content = bytearray(victim.read_bytes())
    content[-200] ^= 1
    victim.write_bytes(content)
    assert shard_jobs(build(), path, COUNT, **SETTINGS) == []  # only sizes are looked at
    (job,) = shard_jobs(build(), path, COUNT, resume="verify", **SETTINGS)
    assert (job.index, job.replaces) == (2, (victim.name,))
    render_job(job)
    assert bytes_of(path) == whole


def test_extended(tmp_path, whole):
    path = tmp_path / "jobs"
    render_shards(build(), path, 10, progress=False, **SETTINGS)
    with pytest.raises(ShardMismatchError, match="resume='extend'"):
        shard_jobs(build(), path, COUNT, **SETTINGS)
    jobs = shard_jobs(build(), path, COUNT, resume="extend", **SETTINGS)
    assert [job.index for job in jobs] == [2, 3, 4, 5]
    for job in jobs:
        render_job(job)
    assert bytes_of(path) == whole


def test_a_job_that_would_make_other_bytes_is_refused(tmp_path):
    job = shard_jobs(build(), tmp_path / "jobs", COUNT, **SETTINGS)[0]
    other = jobs_module.ShardJob(job.path, job.index, job.ids, build(6), job.settings)
    with pytest.raises(ShardMismatchError, match="seed: was 5, now 6"):
        render_job(other)
    shard_jobs(build(), tmp_path / "jobs", COUNT + 10, resume="extend", **SETTINGS)
    with pytest.raises(ShardMismatchError, match="count: was 32, now 22"):
        render_job(job)
    gone = jobs_module.ShardJob(str(tmp_path / "nowhere"), 0, job.ids, build(), job.settings)
    with pytest.raises(ShardNotFoundError, match="nowhere"):
        render_job(gone)


class Heavy(AnalyticSynthesizer):
    def __init__(self):
        super().__init__((8, 8))
        self.weights = torch.zeros(1 << 19)


def test_a_job_never_carries_a_model(tmp_path):
    job = shard_jobs(SyntheticSequence(Heavy()), tmp_path / "jobs", 4)[0]
    with pytest.raises(ConfigurationError, match=r"at most 1 MiB .* got 2,\d+,\d+ bytes: it carries the model"):
        pickle.dumps(job)
    assert render_job(job)  # in this process it may


def test_what_is_no_sequence(tmp_path):
    for wrong, message in ((3, "`sequence` must be a SyntheticSequence or a function"), (dict, "got dict from")):
        with pytest.raises(ConfigurationError, match=message):
            shard_jobs(wrong, tmp_path / "jobs", 4)
    with pytest.raises(ConfigurationError, match="must be a folder of this machine"):
        shard_jobs(build(), "s3://bucket/shards", 4)
    assert not (tmp_path / "jobs").exists()


@pytest.mark.slow
def test_on_ray_with_a_machine_that_goes_away(tmp_path, whole, monkeypatch):
    """``pytest -m slow tests/shards/test_jobs.py``: needs the extra ``ray``; processes die, and one is slow."""
    ray = pytest.importorskip("ray")
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (Path(__file__).parents[2], Path(__file__).parent))))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    try:
        import render_ray

        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        deaths = tmp_path / "deaths"
        deaths.mkdir()
        source = render_ray.render(functools.partial(dying, str(deaths)), tmp_path / "jobs", COUNT, **SETTINGS)
    finally:
        ray.shutdown()
    assert len(list(deaths.iterdir())) == 3
    assert len(source) == COUNT
    assert bytes_of(tmp_path / "jobs") == whole


class Dying(AnalyticSynthesizer):
    """Three of its batches kill the process that makes them, the first time."""

    def __init__(self, deaths):
        super().__init__((8, 8), num_classes=3)
        self.deaths = Path(deaths)

    def synthesize(self, seeds, conditions=None):
        mark = self.deaths / str(seeds[0])
        if os.environ.get("RAY_JOB_ID"):
            if len(list(self.deaths.iterdir())) < 3 and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.2 * (os.getpid() % 3))
        return super().synthesize(seeds, conditions)


def dying(deaths):
    return SyntheticSequence(Dying(deaths), ClassLabels(3), seed=5)
