"""Further lengths, learning curves, the stop without headroom, and arms that change during training."""

from __future__ import annotations

import json

import pytest
from study_helpers import CLASSES, FIELDS, Images, score, split, study, train

from torchgenaug.errors import ConfigurationError, SmallSampleWarning
from torchgenaug.study import Extent, Ramp, Split, mixed, oracle, pretrained, real_repeated, scheduled
from torchgenaug.study.curve_figure import ratio_points
from torchgenaug.study.curves import real_equivalent
from torchgenaug.study.shares import share_of


def test_lengths_and_shares_are_runs_of_their_own(tmp_path):
    whole = Split("all", Images(30, 0), Images(30, 1), Images(60, 2))
    arms = [real_repeated(), mixed(Images(90, 7), 0.5, fields=FIELDS)]
    found = study(arms, splits=whole, extent=Extent(lengths=(1, 2), shares=(0.2, 0.5)), steps=4)
    assert len(found.keys()) == 3 * 2 * (2 + 2)
    summary = found.run(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert {(line["steps"], line["share"], line["real"]) for line in lines} == {
        (4, 1.0, 30),
        (8, 1.0, 30),
        (4, 0.2, 6),
        (4, 0.5, 15),
    }
    curve = summary["learning_curves"]["arms"]["real, repeated"]
    assert [point["real"] for point in curve] == [6, 15, 30]
    assert list(summary["lengths"]) == ["8"]
    assert summary["steps"] == 4
    page = (tmp_path / "report.html").read_text()
    assert "Learning curves" in page
    assert "Longer training" in page
    # The first length alone decides verdicts.
    alone = study(arms, splits=whole, steps=4).run(tmp_path)
    assert alone["arms"] == summary["arms"]
    assert any("One training length" in line for line in alone["conclusion"])


def test_an_undertrained_study_says_so(tmp_path):
    """One step is too few for anything; the control still gains at twenty times as many."""
    whole = Split("all", Images(60, 0), Images(90, 1), Images(300, 2))
    arms = [real_repeated(), mixed(Images(90, 7), 0.5, fields=FIELDS)]
    summary = study(arms, splits=whole, steps=1, seeds=5, extent=Extent(lengths=(1, 20))).run(tmp_path)
    assert any(line.startswith("Warning, undertrained") for line in summary["conclusion"])


def test_it_stops_where_the_oracle_does_not_win(tmp_path):
    few = split()
    arms = [real_repeated(), mixed(Images(90, 7), 0.5, fields=FIELDS), oracle(lambda split: split.train)]
    stopped = study(arms, splits=few).run(tmp_path)
    assert stopped["headroom"] is False
    assert stopped["stopped"] is True
    row = stopped["arms"]["mix 50%"]
    assert (row["runs"], row["mean"], row["against_best_control"]["verdict"]) == (0, None, "no difference shown")
    assert [line.split(":")[0] for line in stopped["conclusion"]] == ["No headroom", "Stopped here"]
    assert "not trained" in (tmp_path / "report.md").read_text()
    further = study(arms, splits=few, extent=Extent(past_no_headroom=True)).run(tmp_path)
    assert further["headroom"] is False
    assert further["arms"]["mix 50%"]["runs"] == 3


def test_parts_of_the_data_keep_patients_whole_and_classes_present():
    patients = [f"p{k // 4}" for k in range(40)]
    data = Split("all", Images(40, 0, patients), Images(6, 1), Images(6, 2))
    small, large = share_of(data, 0.2).train, share_of(data, 0.5).train
    assert set(small.rows) < set(large.rows)
    assert {int(label) for _, label in small} == set(range(CLASSES))
    chosen = {patients[row] for row in small.rows}
    assert small.rows == [row for row in range(40) if patients[row] in chosen]
    with pytest.raises(ConfigurationError, match="which is all of them"):
        share_of(split(), 0.9)


def test_real_samples_that_give_the_same_score():
    curve = [{"real": 10, "mean": 0.5}, {"real": 40, "mean": 0.45}, {"real": 100, "mean": 0.7}]
    assert real_equivalent(curve, 0.4) == "below"
    assert real_equivalent(curve, 0.8) == "above"
    assert real_equivalent(curve, 0.5) == 10
    assert 40 < real_equivalent(curve, 0.6) < 100


def fit_batches(dataset, seed, steps):
    return train(dataset, seed, steps)


fit_batches.batch_size = 6


def counts_of(arm, steps):
    """Synthetic samples of each epoch, of six real ones; the first pixel of synthetic images is 6."""
    from torchgenaug.study.schedules import set_length

    data = arm.build(split(), 0)
    set_length(data, fit_batches, steps)
    found = []
    for epoch in range(steps):
        data.set_epoch(epoch)
        found.append(sum(bool(image[0, 0, 0] == 6) for image, _ in data.__getitems__(range(6))))
    return found


def test_pretraining_and_schedules_follow_the_steps(tmp_path):
    marked = Images(30, 7)
    marked.tensors[0][:, 0, 0, 0] = 6
    assert counts_of(pretrained(marked, 0.5, fields=FIELDS), 4) == [6, 6, 0, 0]
    assert counts_of(pretrained(marked, 0.25, fields=FIELDS), 8) == [6, 6, *[0] * 6]
    assert counts_of(scheduled(marked, Ramp(1.0, 0.0), fields=FIELDS), 6) == [6, 5, 4, 3, 2, 1]
    arms = [real_repeated(), pretrained(Images(30, 7), fields=FIELDS)]
    with pytest.raises(ConfigurationError, match="`train` must state its batch size"):
        study(arms).run(tmp_path)
    assert study(arms, train=fit_batches).run(tmp_path / "other")["arms"]["pretrained on synthetic"]["runs"] == 3


def test_scores_of_several_measures(tmp_path):
    def several(model, dataset):
        return {"accuracy": score(model, dataset), "constant": 2.0, "undefined": float("nan")}

    summary = study(score=several).run(tmp_path)
    assert summary["arms"]["mix 50%"]["measures"].keys() == {"accuracy", "constant"}
    assert summary["arms"]["mix 50%"]["measures"]["accuracy"] == pytest.approx(summary["arms"]["mix 50%"]["mean"])
    assert "Further measures" in (tmp_path / "report.md").read_text()
    with pytest.raises(ConfigurationError, match="`metric` must name one of the scores"):
        study(score=several, metric="Dice").run(tmp_path / "other")


@pytest.mark.parametrize(
    "wrong", [{"lengths": ()}, {"lengths": (0,)}, {"lengths": (1, 1)}, {"shares": (0.0,)}, {"shares": (2,)}]
)
def test_extents_are_checked(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Extent(**wrong)


def test_curves_of_ratios_have_short_names():
    point = {"mean": 0.5, "low": 0.4, "high": 0.6}
    roles = {"real": ("control", {}), "mix": ("synthetic", {"ratio": 0.5})}

    def curves(*transforms):
        settings, arms = {}, {}
        for transform in transforms:
            for name, (role, own) in roles.items():
                arms[f"{name} {transform}"] = {"role": role, **point}
                settings[f"{name} {transform}"] = {**own, "transform": transform}
        return list(ratio_points({"arms": arms}, {"arms": settings}))

    assert curves("Affine(degrees=12)", "Elastic(knots=7)") == ["Affine", "Elastic"]
    assert curves("Affine(degrees=12)", "Affine(degrees=3)") == ["Affine(degrees=12)", "Affine(degrees=3)"]


def test_two_repeats_of_an_oracle_are_not_called_no_oracle(tmp_path):
    arms = [real_repeated(), mixed(Images(90, 7), 0.5, fields=FIELDS), oracle(lambda split: split.train)]
    with pytest.warns(SmallSampleWarning):
        found = study(arms, seeds=2).run(tmp_path)
    assert found["headroom"] is None
    assert any("the oracle cannot show" in line for line in found["conclusion"])
    assert not any("Without an oracle" in line for line in found["conclusion"])
