from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from torchgenaug import (
    ClassLabels,
    EnsembleSynthesizer,
    FieldSpec,
    FunctionSynthesizer,
    ModuleSynthesizer,
    SyntheticMixDataset,
    SyntheticMixLoader,
    SyntheticSequence,
    load_synthesizer,
    render_shards,
    save_synthesizer,
)
from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.synthesizers import build_network
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource, SynthesizerConformance

SPEC = FieldSpec((1, 4, 4), value_range=(0, 1))


def constant(value, spec=SPEC):
    def make(seeds, conditions):
        return {"image": torch.full((len(seeds), *spec.shape), value)}

    return FunctionSynthesizer(make, {"image": spec}, fingerprint=f"constant {value}")


def generator(seed, value_range=(-1, 1)):
    torch.manual_seed(seed)
    net = build_network("torchgenaug:DCGANGenerator", latent_dim=4, shape=[1, 16, 16], width=4)
    return ModuleSynthesizer(net, latent_shape=(4,), value_range=value_range)


class TestEnsemble(SynthesizerConformance):
    def make(self):
        return EnsembleSynthesizer({"old": generator(0), "new": generator(1)}, {"old": 1, "new": 2})


class TestConditional(SynthesizerConformance):
    def make(self):
        one, two = AnalyticSynthesizer((8, 8), num_classes=3), AnalyticSynthesizer((8, 8), num_classes=3)
        return EnsembleSynthesizer({"one": one, "two": two})

    def conditions(self, seeds):
        return {"label": torch.tensor([seed % 3 for seed in seeds])}


def test_shares_follow_the_weights_and_the_field_tells_the_truth():
    members = {"a": constant(0.0), "b": constant(0.5), "c": constant(1.0)}
    made = EnsembleSynthesizer(members, {"a": 1, "b": 2, "c": 5}).synthesize(list(range(4000)))
    shares = made["member"].bincount(minlength=3) / 4000
    assert torch.allclose(shares, torch.tensor([1, 2, 5]) / 8, atol=0.03)
    assert torch.equal(made["image"][:, 0, 0, 0] * 2, made["member"].float())


def test_a_sample_is_that_of_its_member():
    members = {"old": generator(0), "new": generator(1)}
    both = EnsembleSynthesizer(members)
    seeds = list(range(20, 30))
    batch = both.synthesize(seeds)
    assert set(both.chosen(seeds)) == {0, 1}
    for row, seed in enumerate(seeds):
        alone = members[both.names[batch["member"][row]]].synthesize([seed])["image"][0]
        assert torch.allclose(batch["image"][row], alone, atol=1e-5)


def test_conditions_go_with_their_rows():
    def echo(seeds, conditions):
        return {"image": conditions["label"].reshape(-1, 1, 1, 1).expand(-1, 1, 4, 4).float()}

    spec = FieldSpec((1, 4, 4))
    member = FunctionSynthesizer(echo, {"image": spec}, fingerprint="echo")
    batch = EnsembleSynthesizer({"a": member, "b": member})
    batch = SyntheticSequence(batch, ClassLabels(5), screens=()).batch(range(25))
    assert torch.equal(batch["image"][:, 0, 0, 0].long(), batch["label"])


def test_provenance_says_which(tmp_path):
    members = {"dark": constant(0.0), "bright": constant(1.0)}
    sequence = SyntheticSequence(EnsembleSynthesizer(members), screens=())
    real = [{"image": torch.full((1, 4, 4), k / 10)} for k in range(10)]
    source = render_shards(sequence, tmp_path / "shards", 20, batch_size=4, shard_size=10)
    mixed = SyntheticMixDataset(real, source, 0.5, provenance=True)
    seen = set()
    for index in range(10):
        sample = mixed[index]
        assert set(sample) == {"image", "provenance"}
        if sample["provenance"]["is_synthetic"]:
            seen.add((sample["provenance"]["member"], float(sample["image"][0, 0, 0])))
        else:
            assert sample["provenance"]["member"] == -1
    assert seen == {(0, 0.0), (1, 1.0)}


def test_provenance_in_batches():
    members = {"dark": constant(0.0), "bright": constant(1.0)}
    source = InMemorySource(SyntheticSequence(EnsembleSynthesizer(members), screens=()), 20)
    torch.manual_seed(0)
    real = DataLoader([{"image": torch.rand(1, 4, 4)} for _ in range(20)], batch_size=10)
    for batch in SyntheticMixLoader(real, source, 0.5, provenance=True):
        assert set(batch) == {"image", "provenance"}
        expected = torch.where(batch["provenance"]["is_synthetic"], batch["image"][:, 0, 0, 0], -1)
        assert torch.equal(batch["provenance"]["member"].float(), expected)


def test_saved_and_loaded(tmp_path):
    inner = {"old-1": generator(0), "new": generator(1)}
    made = EnsembleSynthesizer(inner, {"new": 3, "old-1": 1})
    save_synthesizer(made, tmp_path / "saved")
    loaded = load_synthesizer(tmp_path / "saved")
    assert loaded.fingerprint == made.fingerprint
    assert loaded.names == ("old-1", "new")
    one, two = made.synthesize([1, 2, 3, 4]), loaded.synthesize([1, 2, 3, 4])
    assert all(torch.equal(one[name], two[name]) for name in one)
    with pytest.raises(ConfigurationError, match="can be saved, got FunctionSynthesizer"):
        save_synthesizer(EnsembleSynthesizer({"f": constant(0.0)}), tmp_path / "other")
    with pytest.raises(ConfigurationError, match="at most 40 letters, digits, '_' or '-' to be saved, got 'a/b'"):
        save_synthesizer(EnsembleSynthesizer({"a/b": inner["new"]}), tmp_path / "other")


def test_fingerprint_knows_names_order_and_weights():
    one, two = constant(0.0), constant(1.0)
    ensembles = [
        EnsembleSynthesizer({"a": one, "b": two}),
        EnsembleSynthesizer({"b": two, "a": one}),
        EnsembleSynthesizer({"a": two, "b": one}),
        EnsembleSynthesizer({"a": one, "b": two}, {"a": 1, "b": 2}),
    ]
    assert len({made.fingerprint for made in ensembles}) == 4


def broken(seeds, conditions):
    raise RuntimeError("out of ideas")


def test_an_error_names_the_member():
    member = FunctionSynthesizer(broken, {"image": SPEC}, fingerprint="broken")
    with pytest.raises(RuntimeError) as caught:
        EnsembleSynthesizer({"bad": member}).synthesize([1])
    assert "in member 'bad' of the ensemble" in caught.value.__notes__


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: EnsembleSynthesizer({}), ConfigurationError, "at least one"),
        (lambda: EnsembleSynthesizer({"a": nn.Identity()}), ConfigurationError, "got 'a': Identity"),
        (lambda: EnsembleSynthesizer({1: constant(0.0)}), ConfigurationError, "got 1: FunctionSynthesizer"),
        (lambda: EnsembleSynthesizer({"a": constant(0.0)}, {"b": 1}), ConfigurationError, r"each of \['a'\]"),
        (lambda: EnsembleSynthesizer({"a": constant(0.0)}, {"a": 0}), ConfigurationError, "positive number"),
        (lambda: EnsembleSynthesizer({"a": constant(0.0)}, {"a": np.nan}), ConfigurationError, "positive number"),
        (
            lambda: EnsembleSynthesizer({"a": constant(0.0), "b": constant(0.0, FieldSpec((1, 5, 5)))}),
            FieldMismatchError,
            r"'image': 'a' intensity \(1, 4, 4\) float32 in \[0, 1\], 'b' intensity \(1, 5, 5\)",
        ),
        (
            lambda: EnsembleSynthesizer({"a": constant(0.0), "b": AnalyticSynthesizer((4, 4))}),
            FieldMismatchError,
            "'mask': 'a' without it, 'b' label_map",
        ),
        (
            lambda: EnsembleSynthesizer({"a": EnsembleSynthesizer({"b": constant(0.0)})}),
            ConfigurationError,
            "inner ensemble",
        ),
    ],
)
def test_bad_members(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_no_seeds():
    with pytest.raises(ConfigurationError, match="at least one seed"):
        EnsembleSynthesizer({"a": constant(0.0)}).synthesize([])


def test_members_without_classes_would_be_handed_out_with_labels_that_they_were_not_made_for():
    with pytest.raises(ConfigurationError, match=r"all have classes, or none of them, got num_classes .*None"):
        EnsembleSynthesizer({"labelled": Labelled(generator(0)), "plain": generator(0)})


class Labelled:
    num_classes, fingerprint = 3, "0" * 64

    def __init__(self, inner):
        self.fields, self.synthesize = inner.fields, inner.synthesize


def test_what_the_members_were_trained_on_is_known_of_the_ensemble(tmp_path):
    members = {"old": generator(0), "new": generator(1)}
    assert EnsembleSynthesizer(members).trained_on is None
    members["old"].trained_on = {"samples": ["a", "b"], "data": "digits"}
    assert EnsembleSynthesizer(members).trained_on is None  # of the other nothing is known
    members["new"].trained_on = {"samples": ["b", "c"]}
    both = EnsembleSynthesizer(members)
    assert both.trained_on["samples"] == ["a", "b", "c"]
    for number, dtype in enumerate((None, torch.float16)):
        save_synthesizer(both, tmp_path / str(number), weights_dtype=dtype)
        loaded = load_synthesizer(tmp_path / str(number))
        assert loaded.trained_on == both.trained_on
        assert loaded.members["old"].trained_on == members["old"].trained_on
    sizes = [sum(file.stat().st_size for file in (tmp_path / name).rglob("*.safetensors")) for name in "01"]
    assert sizes[1] < 0.6 * sizes[0]
