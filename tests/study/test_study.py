"""Planted studies come to the right verdict; a folder survives kills and is shared; what is wrong is named."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch
from study_helpers import CLASSES, FIELDS, Images, relabelled, score, split, study, train
from torch.utils.data import TensorDataset

from torchgenaug.errors import (
    ConfigurationError,
    DivergenceError,
    LeakError,
    SmallSampleWarning,
    StateMismatchError,
)
from torchgenaug.study import Arm, Classification, Split, mixed, oracle, real_repeated, real_transformed
from torchgenaug.testing import AnalyticSynthesizer


def test_planted_effects_are_found(tmp_path):
    """Real held-out samples help, copies of the training set do not, wrong labels harm, and the oracle has headroom."""
    extra, few = Images(300, 7), split()
    arms = [
        real_repeated(),
        mixed(extra, 0.5, fields=FIELDS, name="held-out real"),
        mixed(Images(6, 0), 0.5, fields=FIELDS, name="copies"),
        mixed(relabelled(extra), 0.5, fields=FIELDS, name="shuffled"),
        oracle(lambda split: extra),
    ]
    summary = study(arms, splits=few, seeds=6, steps=40).run(tmp_path)
    verdicts = {name: arm.get("against_best_control", {}).get("verdict") for name, arm in summary["arms"].items()}
    assert verdicts["held-out real"] == "helps"
    assert verdicts["copies"] != "helps"
    assert verdicts["shuffled"] == "harms"
    assert summary["headroom"] is True
    saved = json.loads((tmp_path / "summary.json").read_text())
    assert saved["arms"] == summary["arms"]
    assert {"mean", "low", "high"} <= saved["arms"]["copies"].keys()
    assert {"difference", "low", "high", "p_adjusted", "verdict"} <= saved["arms"]["copies"][
        "against_best_control"
    ].keys()
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len(lines) == 5 * 6
    assert {"arm", "seed", "split", "steps", "score", "seconds"} <= lines[0].keys()
    assert "helps" in (tmp_path / "report.md").read_text()
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page
    assert page.count("<circle") == 4 * 6
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")


def test_all_arms_begin_alike_and_global_randomness_stays(tmp_path):
    before = torch.get_rng_state()
    study([real_repeated(), real_transformed(), mixed(Images(300, 7), 0.5, fields=FIELDS)]).run(tmp_path)
    assert torch.equal(before, torch.get_rng_state())
    starts = {}
    for line in (tmp_path / "results.jsonl").read_text().splitlines():
        row = json.loads(line)
        starts.setdefault(row["seed"], set()).add(row["start"])
    assert all(len(found) == 1 and found != {""} for found in starts.values())
    assert len(set.union(*starts.values())) == 3


def test_a_second_call_trains_nothing_and_a_cut_line_is_repeated(tmp_path):
    first = study().run(tmp_path)
    path = tmp_path / "results.jsonl"
    whole = path.read_bytes()

    def refuse(*_):
        raise AssertionError("all runs are done")

    refuse.__qualname__ = train.__qualname__
    assert study(train=refuse).run(tmp_path)["arms"] == first["arms"]
    path.write_bytes(whole[:-40])
    said = []
    assert study().run(tmp_path, report=said.append)["arms"] == first["arms"]
    assert "cut off" in said[0]
    assert len(study().keys()) == 6


def slow_train(dataset, seed, steps):
    time.sleep(0.05)
    return train(dataset, seed, steps)


def work(folder):
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    study(train=slow_train).run(folder)


def test_processes_share_the_runs_and_a_killed_one_leaves_its_run_to_others(tmp_path):
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=work, args=(tmp_path,)) for _ in range(3)]
    for child in children:
        child.start()
    while not (tmp_path / "results.jsonl").exists():
        time.sleep(0.01)
    os.kill(children[0].pid, signal.SIGKILL)
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children[1:]] == [0, 0]
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    keys = [(row["arm"], row["seed"], row["split"]) for row in rows]
    assert len(keys) == len(set(keys)) == 6
    assert (tmp_path / "summary.json").exists()


def test_splits_are_the_repeats(tmp_path):
    splits = [split(str(k), 10 * k) for k in range(3)]
    summary = study(splits=splits, seeds=2).run(tmp_path)
    assert (summary["repeated"], summary["repeats"]) == ("splits", 3)
    assert "Nadeau" in (tmp_path / "report.md").read_text()


def test_wrong_numbers_of_steps_are_named(tmp_path):
    def epochs(dataset, seed, steps):
        return train(dataset, seed, steps + 5)

    with pytest.raises(ConfigurationError, match=r"same number of optimizer steps.*20, got 25 in arm 'real, repeated'"):
        study(train=epochs).run(tmp_path)


def test_another_network_or_start_per_arm_is_named(tmp_path):
    calls = []

    def wider(dataset, seed, steps):
        calls.append(seed)
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, CLASSES + len(calls)))
        torch.optim.SGD(model.parameters(), 0.1).step()
        return model

    def other_start(dataset, seed, steps):
        calls.append(seed)
        torch.manual_seed(len(calls))
        return train(dataset, seed, steps)

    with pytest.raises(ConfigurationError, match="same network in every arm"):
        study(train=wider, steps=1).run(tmp_path / "a")
    with pytest.raises(ConfigurationError, match="same weights in every arm of a seed"):
        study(train=other_start).run(tmp_path / "b")


def test_a_score_that_is_no_number_is_named_and_all_others_are_kept(tmp_path):
    calls = []

    def sometimes(model, dataset):
        calls.append(1)
        return float("nan") if len(calls) == 1 else score(model, dataset)

    with pytest.raises(
        DivergenceError, match=r"finite number, got nan on the test data in arm 'real, repeated', seed 0"
    ):
        study(score=sometimes).run(tmp_path)
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 5


def test_shared_patients_are_refused(tmp_path):
    whole = split()
    ill = Split("all", Images(6, 0, ["p1"] * 6), whole.validation, Images(30, 2, ["p1"] * 30))
    with pytest.raises(LeakError, match=r"`train` and `test` of split 'all' must share no patients, got 1 in both: p1"):
        study(splits=ill).run(tmp_path)
    assert not (tmp_path / "results.jsonl").exists()


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_patients_in_an_array_are_compared(tmp_path, kind):
    whole = split()
    ill = Split("all", Images(6, 0, kind(range(6))), whole.validation, Images(30, 2, kind(range(5, 35))))
    with pytest.raises(LeakError, match="must share no patients, got 1 in both: 5"):
        study(splits=ill).run(tmp_path)


def test_scores_that_are_no_numbers_are_named(tmp_path):
    for value in (None, "good", torch.rand(3)):
        with pytest.raises(ConfigurationError, match="`score` must return a number"):
            study(score=lambda model, data, value=value: value).run(tmp_path / str(type(value)))


def test_a_damaged_folder_is_named(tmp_path):
    study().run(tmp_path)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(StateMismatchError, match=r"study.json must be the settings of a study, got a damaged file"):
        study().run(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="`out` must be a folder that can be written"):
        study().run(tmp_path / "file")


def test_leaks_are_refused_before_they_help(tmp_path):
    by_content = study([real_repeated(), mixed(TensorDataset(*split().test.tensors), 0.5, fields=FIELDS)])
    with pytest.raises(LeakError, match=r"arm 'mix 50%' must hold nothing of the validation and test data"):
        by_content.run(tmp_path)
    extra = Images(60, 7)
    extra.trained_on = {"samples": ["2-17"], "patients": []}
    with pytest.raises(LeakError, match="2-17"):
        study([real_repeated(), mixed(extra, 0.5, fields=FIELDS)]).run(tmp_path)
    own = Arm("own", "synthetic", lambda split, seed: split.test)
    with pytest.raises(LeakError, match="arm 'own'"):
        study([real_repeated(), own]).run(tmp_path)


def test_a_generator_that_saw_test_data_is_refused(tmp_path):
    from torchgenaug import SyntheticSequence
    from torchgenaug.testing import InMemorySource

    model = AnalyticSynthesizer((8, 8))
    model.trained_on = {"samples": ["2-3"]}
    source = InMemorySource(SyntheticSequence(model), 12)
    with pytest.raises(LeakError, match="2-3"):
        study([real_repeated(), mixed(source, 0.5, fields=FIELDS)]).run(tmp_path)


def test_a_folder_of_another_study_is_refused_and_arms_and_seeds_may_be_added(tmp_path):
    study().run(tmp_path)
    before = (tmp_path / "results.jsonl").read_bytes()
    with pytest.raises(StateMismatchError, match="steps: saved 20, now 21"):
        study(steps=21).run(tmp_path)
    assert (tmp_path / "results.jsonl").read_bytes() == before
    arms = [real_repeated(), *(mixed(Images(300, 7), ratio, fields=FIELDS) for ratio in (0.5, 1.0))]
    study(arms, seeds=4).run(tmp_path)
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 12


def test_two_seeds_warn(tmp_path):
    with pytest.warns(SmallSampleWarning, match="`seeds` should be at least 3, got 2"):
        few = study(seeds=2)
    row = few.run(tmp_path)["arms"]["mix 50%"]
    assert row["low"] is None
    assert row["against_best_control"]["verdict"] == "no difference shown"


def test_arguments_are_checked():
    with pytest.raises(ConfigurationError, match="a control and an arm to compare"):
        study([real_repeated()])
    with pytest.raises(ConfigurationError, match="a name of its own"):
        study([real_repeated(), real_repeated()])
    with pytest.raises(ConfigurationError, match="`steps`"):
        study(steps=0)


def test_the_built_in_task_takes_exactly_the_steps_and_reads_in_one_order():
    task, seen = Classification(CLASSES, width=4, batch_size=4), []

    class Watched(Images):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    data = Watched(10, 3)
    first = task.train(data, 0, 7)
    order = list(seen)
    seen.clear()
    second = task.train(data, 0, 7)
    assert order == seen
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert 0 <= task.score(first, data) <= 1


def test_a_training_that_returns_no_model_is_named(tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"`train` must return the model that it trained, got None in arm 'real"
    ):
        study(train=lambda data, seed, steps: None).run(tmp_path)
