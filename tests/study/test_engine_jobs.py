"""A study as jobs: picklable, in any order, twice without harm; the scores of one process."""

from __future__ import annotations

import functools
import json
import pickle

import pytest
from study_helpers import Images, relabelled, split, study

from torchgenaug.errors import DivergenceError
from torchgenaug.study import oracle, real_repeated, run_study_job, study_jobs


def scores(folder):
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return {(row["arm"], row["seed"]): row["score"] for row in rows}


def test_jobs_in_any_order_give_the_scores_of_one_process(tmp_path):
    together = study().run(tmp_path / "one")
    jobs = study_jobs(study, tmp_path / "jobs")
    assert len(jobs) == 2 * 3
    for job in reversed(pickle.loads(pickle.dumps(jobs))):
        assert run_study_job(job) == scores(tmp_path / "one")[job.key.arm, job.key.seed]
    assert run_study_job(jobs[0]) == run_study_job(jobs[0])
    assert study_jobs(study, tmp_path / "jobs") == []
    lines = (tmp_path / "jobs" / "results.jsonl").read_text().splitlines()
    assert len(lines) == len(jobs), "what was done twice was found"
    assert study().run(tmp_path / "jobs")["arms"] == together["arms"]


def hopeless():
    """An oracle that gains nothing: more data with wrong labels."""
    extra = relabelled(Images(300, 7))
    return study([real_repeated(), oracle(lambda split: extra), *study().arms[1:]], splits=split(), seeds=5)


def test_where_nothing_can_be_gained_there_are_no_further_jobs(tmp_path):
    jobs = study_jobs(hopeless, tmp_path)
    assert {job.key.arm for job in jobs} == {arm.name for arm in hopeless().arms if arm.role != "synthetic"}
    for job in jobs:
        run_study_job(job)
    assert study_jobs(hopeless, tmp_path) == []
    assert hopeless().run(tmp_path)["headroom"] is False


def test_a_score_that_is_not_finite_ends_its_job_alone(tmp_path):
    build = functools.partial(study, score=lambda model, data: float("nan"))
    job = study_jobs(build, tmp_path)[0]
    with pytest.raises(DivergenceError):
        run_study_job(job)
