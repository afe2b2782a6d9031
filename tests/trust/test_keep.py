"""Filters keep what they should, sample k stays sample k, and an interrupted filter goes on."""

from __future__ import annotations

import functools
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.trust.test_copy_detector import blobs
from torchgenaug import ClassLabels, SyntheticPool, SyntheticSequence
from torchgenaug.errors import ConfigurationError, EmptyDatasetError, StateMismatchError
from torchgenaug.metrics import HistogramFeatures, RadiomicsFeatures
from torchgenaug.sources.in_memory import InMemorySource
from torchgenaug.testing import AnalyticSynthesizer, SourceConformance
from torchgenaug.trust import (
    ClassifierConfidence,
    CopyDetector,
    Density,
    DiscriminatorScore,
    DistanceToCopies,
    Realism,
    SegmentationAgreement,
    keep,
    keep_varied,
    load_kept,
)

SEQUENCE = SyntheticSequence(AnalyticSynthesizer((16, 16), num_classes=2), ClassLabels(2, weights=[0.75, 0.25]))
SOURCE = InMemorySource(SEQUENCE, 40)


def brightness(batch):
    return batch["image"].flatten(1).mean(1)


class TestKeptSource(SourceConformance):
    def make(self):
        return keep(SOURCE, brightness, best=0.5)

    def sequence(self):
        return SEQUENCE


def test_the_best_are_kept_under_their_own_ids():
    kept = keep(SOURCE, brightness, best=0.25, batch_size=7)
    scores = brightness(SOURCE.read(np.arange(40))).double().numpy()
    expected = np.sort(np.argsort(-scores, kind="stable")[:10])
    assert kept.positions.tolist() == expected.tolist()
    assert kept.ids(np.arange(10)).tolist() == expected.tolist()
    assert torch.equal(kept.read(np.array([3]))["image"], SEQUENCE.batch([expected[3]])["image"])
    assert kept.acceptance_rate == 0.25


def test_the_class_balance_can_stay():
    kept = keep(SOURCE, brightness, best=0.5, within="label")
    before, after = (np.bincount(each.column("label").numpy()) for each in (SOURCE, kept))
    assert after.tolist() == [round(0.5 * count) for count in before]


def test_a_threshold_and_a_yes_or_no():
    middle = float(brightness(SOURCE.read(np.arange(40))).median())
    one = keep(SOURCE, brightness, above=middle)
    other = keep(SOURCE, lambda batch: brightness(batch) >= middle)
    assert one.positions.tolist() == other.positions.tolist()
    assert one.condition == f"score >= {middle:g}"


def test_saved_and_loaded(tmp_path):
    kept = keep(SOURCE, brightness, best=0.3)
    saved = json.loads(kept.save(tmp_path).read_text())
    assert (saved["acceptance_rate"], saved["condition"]) == (0.3, "best 0.3")
    again = load_kept(SOURCE, tmp_path)
    assert again.positions.tolist() == kept.positions.tolist()
    assert np.array_equal(again.scores, kept.scores)
    with pytest.raises(StateMismatchError, match="the one that was filtered"):
        load_kept(InMemorySource(SEQUENCE, 39), tmp_path)


def test_an_interrupted_filter_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("torchgenaug.trust.filters.scoring._SAVED_EVERY", 1)
    calls = []

    def counted(batch):
        calls.append(len(batch["image"]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return brightness(batch)

    file = tmp_path / "scores.json"
    with pytest.raises(KeyboardInterrupt):
        keep(SOURCE, counted, best=0.5, batch_size=10, progress=file)
    kept = keep(SOURCE, counted, best=0.5, batch_size=10, progress=file)
    assert calls == [10, 10, 10, 10, 10]
    assert kept.positions.tolist() == keep(SOURCE, brightness, best=0.5).positions.tolist()
    with pytest.raises(StateMismatchError, match="of others"):
        keep(SOURCE, brightness, best=0.5, progress=file)


class Bright(nn.Module):
    """Logits of class 1 that grow with the brightness; dropout shows whether it is in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.drop, self.weight = nn.Dropout(0.9), nn.Parameter(torch.ones(()))

    def forward(self, images):
        score = self.weight * self.drop(images).flatten(1).mean(1)
        return torch.stack([torch.zeros_like(score), score], 1)


def test_classifier_confidence():
    model = Bright()
    batch = SOURCE.read(np.arange(8))
    scores = ClassifierConfidence(model)(batch)
    expected = model.eval()(batch["image"]).softmax(1)[torch.arange(8), batch["label"]]
    assert torch.allclose(scores, expected)
    model.train()
    ensemble = ClassifierConfidence([model, model])
    assert torch.allclose(ensemble(batch), expected)
    assert model.training
    assert ensemble.fingerprint != ClassifierConfidence(model).fingerprint
    with torch.no_grad():
        before = ClassifierConfidence(model).fingerprint
        model.weight.add_(1)
    assert ClassifierConfidence(model).fingerprint != before


def test_discriminator_scores_of_patches_are_averaged():
    images = torch.rand(3, 1, 8, 8)
    rule = DiscriminatorScore(lambda batch: batch[:, :, ::2, ::2])
    assert torch.allclose(rule({"image": images}), images[:, :, ::2, ::2].flatten(1).mean(1))


def test_segmentation_agreement():
    mask = torch.zeros(3, 1, 4, 4, dtype=torch.int64)
    mask[0, 0, :2] = 1
    mask[1, 0, :1] = 1

    def upper_half(images):
        logits = torch.zeros(len(images), 2, 4, 4)
        logits[:, 1, :2] = 1
        logits[:, 0, 2:] = 1
        return logits

    scores = SegmentationAgreement(upper_half)({"image": torch.zeros(3, 1, 4, 4), "mask": mask})
    assert torch.allclose(scores, torch.tensor([1.0, 2 * 4 / 12, 0.0]))
    with pytest.raises(ConfigurationError, match="one class per pixel"):
        SegmentationAgreement(upper_half)({"image": torch.zeros(3, 1, 4, 4), "mask": torch.zeros(3, 1, 8, 8)})


def test_copies_score_low():
    train = blobs(60, 1, (16, 16))
    detector = CopyDetector(train, blobs(120, 2, (16, 16)))
    scores = DistanceToCopies(detector)({"image": torch.cat([train[:2], blobs(4, 3, (16, 16))])})
    assert scores[:2].max() < 0.01 < scores[2:].min()


def test_realism_and_density_prefer_real_images_to_noise():
    real, others = blobs(80, 1, (16, 16)), blobs(20, 2, (16, 16))
    noise = torch.rand(20, 1, 16, 16)
    for rule in (Realism(HistogramFeatures(), real), Density(HistogramFeatures(), real)):
        good, bad = rule({"image": others}), rule({"image": noise})
        assert good.mean() > 2 * bad.mean()
        assert torch.allclose(rule({"image": others[:3]}), good[:3], rtol=1e-3)  # each by itself
        assert len(rule.fingerprint) == 64
    with pytest.raises(ConfigurationError, match="`neighbours`"):
        Realism(HistogramFeatures(), real, neighbours=80)


def test_a_varied_selection_covers_all_clusters():
    class Clusters:
        fields, fingerprint = SOURCE.fields, "f"

        def __len__(self):
            return 60

        def read(self, positions):
            level = torch.from_numpy(positions // 50 * 7 + positions % 50 // 49 * 2).float()
            return {"image": (0.1 + level / 12).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).clone()}

        ids = seeds = column = None

    class Mean:
        name, sha256, standardize = "mean", "0", False

        def __call__(self, images):
            return images.flatten(1).mean(1, keepdim=True)

    kept = keep_varied(Clusters(), Mean(), 3)
    levels = Clusters().read(kept.positions)["image"][:, 0, 0, 0]
    assert len(levels.unique()) == 3
    assert keep_varied(Clusters(), Mean(), 60).positions.tolist() == list(range(60))


def test_bad_arguments():
    with pytest.raises(ConfigurationError, match="which scores to keep"):
        keep(SOURCE, brightness)
    with pytest.raises(ConfigurationError, match="must not be given together"):
        keep(SOURCE, brightness, above=0, best=0.5)
    with pytest.raises(ConfigurationError, match=r"fraction in \(0, 1\]"):
        keep(SOURCE, brightness, best=0)
    with pytest.raises(ConfigurationError, match="one finite score"):
        keep(SOURCE, lambda batch: batch["image"], best=0.5)
    with pytest.raises(ConfigurationError, match="one finite score"):
        keep(SOURCE, lambda batch: brightness(batch) * torch.nan, best=0.5)
    with pytest.raises(EmptyDatasetError, match="got none: scores are"):
        keep(SOURCE, brightness, above=1e9)
    with pytest.raises(ConfigurationError, match="a Rule or a function"):
        keep(SOURCE, "best", best=0.5)
    with (
        SyntheticPool(SEQUENCE, 4, batch_size=2) as pool,
        pytest.raises(ConfigurationError, match="same samples in every"),
    ):
        keep(pool, brightness, best=0.5)
    with pytest.raises(ConfigurationError, match="`count` must be an integer"):
        keep_varied(SOURCE, RadiomicsFeatures(), 41)


@pytest.mark.parametrize("as_loader", [False, True])
def test_scores_stand_in_the_provenance_of_a_mix(as_loader):
    from torch.utils.data import DataLoader

    from torchgenaug import SyntheticMixDataset, SyntheticMixLoader

    source = InMemorySource(SyntheticSequence(AnalyticSynthesizer((8, 8))), 20)
    kept = keep(source, lambda batch: batch["image"].flatten(1).mean(1), best=0.5)
    real = [{"image": torch.rand(1, 8, 8)} for _ in range(12)]
    if as_loader:
        mixed = SyntheticMixLoader(DataLoader(real, 4), kept, 0.5, fields=["image"], provenance=True)
    else:
        mixed = DataLoader(SyntheticMixDataset(real, kept, 0.5, fields=["image"], provenance=True), 4)
    seen = 0
    for batch in mixed:
        origin = batch["provenance"]
        for row, synthetic in enumerate(origin["is_synthetic"].tolist()):
            score = float(origin["score"][row])
            assert np.isnan(score) if not synthetic else score == kept.scores[int(origin["id"][row])]
            rate = float(origin["acceptance_rate"][row])
            assert np.isnan(rate) if not synthetic else rate == kept.acceptance_rate == 0.5
            seen += synthetic
    assert seen


class _Scaled:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, batch):
        return self.factor * brightness(batch)


def _scaled(factor):
    return lambda batch: factor * brightness(batch)


def _times(batch, factor):
    return factor * brightness(batch)


@pytest.mark.parametrize("make", [_Scaled, _scaled, lambda factor: functools.partial(_times, factor=factor)])
def test_scores_of_a_rule_of_the_same_name_with_other_values_are_not_taken_over(make, tmp_path):
    file = tmp_path / "new" / "scores.json"
    keep(SOURCE, make(1.0), best=0.25, progress=file)
    assert (
        keep(SOURCE, make(1.0), best=0.25, progress=file).positions.tolist()
        == keep(SOURCE, make(1.0), best=0.25).positions.tolist()
    )
    with pytest.raises(StateMismatchError, match="of this source and rule"):
        keep(SOURCE, make(-1.0), best=0.25, progress=file)


def _answers(kind):
    """A rule that gives scores for the first batch, and `kind` of them for the next."""
    calls = []

    def rule(batch):
        calls.append(1)
        return brightness(batch) if len(calls) == 1 else kind(brightness(batch))

    return rule


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (_answers(lambda scores: scores > 0.1), "for all batches, or yes and no for all"),
        (_answers(lambda scores: None), "got no numbers"),
        (_answers(lambda scores: scores.to(torch.complex64)), "got no numbers"),
        (_answers(lambda scores: scores[:-1]), r"got shape \(9,\)"),
    ],
)
def test_what_is_no_score_is_refused(rule, text):
    with pytest.raises(ConfigurationError, match=text):
        keep(SOURCE, rule, above=0.0, batch_size=10)


@pytest.mark.parametrize(
    ("conditions", "text"),
    [
        ({"above": math.nan}, "`above` must be a finite number"),
        ({"above": "0.5"}, "`above` must be a finite number"),
        ({"best": "0.5"}, "`best` must be a fraction"),
        ({"best": 0.5, "within": "image"}, r"must name a whole number of each sample \('label'\)"),
        ({"above": 0.5, "within": "label"}, "got 'label' without it"),
    ],
)
def test_conditions_that_no_score_fulfils_are_refused(conditions, text):
    with pytest.raises(ConfigurationError, match=text):
        keep(SOURCE, brightness, **conditions)


def test_yes_and_no_have_no_best():
    with pytest.raises(ConfigurationError, match="one that returns yes and no"):
        keep(SOURCE, lambda batch: brightness(batch) > 0, best=0.5)


@pytest.mark.parametrize("scores", [[0.1] * 41, [math.nan], ["0.1"], None])
def test_saved_scores_that_no_filter_writes_are_refused(scores, tmp_path):
    file = tmp_path / "scores.json"
    keep(SOURCE, brightness, best=0.25, progress=file)
    entries = {name: value for name, value in json.loads(file.read_text()).items() if name != "sha256"}
    file.write_text(json.dumps({**entries, "scores": scores}))
    with pytest.raises(StateMismatchError, match="scores that no filter writes"):
        keep(SOURCE, brightness, best=0.25, progress=file)


class _Counting(_Scaled):
    def __call__(self, batch):
        self.calls = getattr(self, "calls", 0) + 1
        return super().__call__(batch)


def test_a_rule_that_counts_its_calls_stays_the_same_rule():
    rule = _Counting(1.0)
    before = keep(SOURCE, rule, best=0.25)
    assert keep(SOURCE, rule, best=0.25).rule == before.rule
    assert keep(SOURCE, _Counting(2.0), best=0.25).rule != before.rule


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (ClassifierConfidence(brightness_of := lambda x: x.flatten(1).mean(1)), r"\(n, classes\), got \(10,\)"),
        (ClassifierConfidence(lambda x: x.flatten(1)[:, :1]), "logits of 1 classes"),
        (ClassifierConfidence(lambda x: {"logits": x}), "got dict"),
        (ClassifierConfidence(lambda x: x.flatten(1)[:1]), "for 10 images"),
        (ClassifierConfidence(nn.Flatten(), label="stage"), "got 'stage'"),
        (DiscriminatorScore(lambda x: (x, x)), "got tuple"),
        (DiscriminatorScore(brightness_of, field="scan"), "got 'scan'"),
        (SegmentationAgreement(lambda x: x[:, 0], mask="label"), r"\(n, classes, \*spatial\), got \(10, 16, 16\)"),
    ],
)
def test_networks_that_do_not_fit_a_rule_are_named(rule, text):
    with pytest.raises(ConfigurationError, match=text):
        keep(SOURCE, rule, best=0.5, batch_size=10)


def test_classifiers_may_lie_in_a_module_list_and_must_be_callable():
    networks = nn.ModuleList([nn.Flatten(), nn.Flatten()])
    assert len(keep(SOURCE, ClassifierConfidence(networks), best=0.5)) == 20
    with pytest.raises(ConfigurationError, match=r"got 'model\.pt'"):
        ClassifierConfidence("model.pt")
    with pytest.raises(ConfigurationError, match="`real` must hold at least 2 images"):
        Realism(RadiomicsFeatures(), torch.rand(1, 1, 16, 16))


def test_what_a_network_of_a_rule_raises_says_so():
    with pytest.raises(RuntimeError) as caught:
        keep(SOURCE, ClassifierConfidence(nn.Conv2d(3, 3, 1)), best=0.5)
    assert "a network of a rule" in caught.value.__notes__[0]
