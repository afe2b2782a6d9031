from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from torchgenaug import (
    ClassLabels,
    EnsembleSynthesizer,
    FieldSpec,
    FunctionSynthesizer,
    ModuleSynthesizer,
    SyntheticSequence,
    load_synthesizer,
    save_synthesizer,
    seeding,
)
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers import build_network
from torchgenaug.synthesizers.monai.synthesizer import MonaiSynthesizer
from torchgenaug.synthesizers.two_stage import TwoStageSynthesizer
from torchgenaug.testing import AnalyticSynthesizer, SynthesizerConformance

IMAGE = FieldSpec((1, 16, 16), value_range=(-10, 10))
MASK = AnalyticSynthesizer((16, 16)).fields["mask"]


def paint(seeds, conditions):
    return {"image": conditions["mask"].float() + seeding.normal(seeds, (1, 16, 16)).clamp(-4, 4)}


def refuse(seeds, conditions):
    if int(conditions["mask"].max()) > 0:
        raise ConfigurationError("classes above 0 are unknown")
    return paint(seeds, conditions)


def needs_age(seeds, conditions):
    if "age" not in conditions:
        raise ConfigurationError("`conditions` must hold 'age'")
    return {"image": paint(seeds, conditions)["image"] + conditions["age"].reshape(-1, 1, 1, 1)}


def painter(function=paint, spec=IMAGE):
    return FunctionSynthesizer(function, {"image": spec}, fingerprint=function.__name__)


class TestTwoStages(SynthesizerConformance):
    def make(self):
        return TwoStageSynthesizer(AnalyticSynthesizer((16, 16), num_classes=3), painter())

    def conditions(self, seeds):
        return {"label": torch.tensor([seed % 3 for seed in seeds])}


def test_image_and_mask_belong_together():
    batch = SyntheticSequence(TwoStageSynthesizer(AnalyticSynthesizer((16, 16)), painter())).batch(range(50))
    assert set(batch) == {"image", "mask"}
    inside, outside = batch["image"][batch["mask"] == 1].mean(), batch["image"][batch["mask"] == 0].mean()
    assert inside - outside == pytest.approx(1, abs=0.1)


def test_stages_have_streams_of_their_own():
    class Recorder(AnalyticSynthesizer):
        seen = ()

        def synthesize(self, seeds, conditions=None):
            self.seen = tuple(seeds)
            return super().synthesize(seeds, conditions)

    seen = []

    def record(seeds, conditions):
        seen.append(tuple(seeds))
        return paint(seeds, conditions)

    first = Recorder((16, 16))
    TwoStageSynthesizer(first, painter(record), probe=False).synthesize([5, 2**64 - 1])
    assert len({5, 2**64 - 1, *first.seen, *seen[0]}) == 6


def test_labels_go_where_there_are_classes():
    def labelled(seeds, conditions):
        return {"image": paint(seeds, conditions)["image"] + 5 * conditions["label"].reshape(-1, 1, 1, 1)}

    class Strict(AnalyticSynthesizer):
        num_classes = None

        def synthesize(self, seeds, conditions=None):
            assert conditions is None or "label" not in conditions
            return super().synthesize(seeds, conditions)

    both = TwoStageSynthesizer(Strict((16, 16)), painter(labelled), probe={"label": torch.zeros(1).long()})
    batch = SyntheticSequence(both, ClassLabels(2)).batch(range(20))
    means = [batch["image"][batch["label"] == label].mean() for label in (0, 1)]
    assert means[1] - means[0] == pytest.approx(5, abs=0.5)
    assert TwoStageSynthesizer(AnalyticSynthesizer((16, 16), num_classes=3), painter()).num_classes == 3
    assert both.num_classes is None


def monai_painter(classes=2, size=16):
    torch.manual_seed(0)
    unet = build_network(
        "monai:DiffusionModelUNet",
        spatial_dims=2,
        in_channels=1 + classes,
        out_channels=1,
        channels=[4, 4],
        attention_levels=[False, False],
        num_res_blocks=1,
        norm_num_groups=2,
        num_head_channels=4,
    )
    from monai.networks.schedulers import DDIMScheduler

    return MonaiSynthesizer(
        unet, DDIMScheduler(), size=(size, size), steps=2, mask_classes=classes, value_range=(0, 1), clip=True
    )


class TestNetworksInBothStages(SynthesizerConformance):
    def make(self):
        return TwoStageSynthesizer(_masks(), monai_painter())


def test_saved_and_loaded_with_both_stages(tmp_path):
    outer = TwoStageSynthesizer(_masks(), monai_painter())
    outer.trained_on = {"ids": ["one"]}
    save_synthesizer(outer, tmp_path / "both")
    loaded = load_synthesizer(tmp_path / "both")
    assert loaded.fingerprint == outer.fingerprint
    assert loaded.trained_on == {"ids": ["one"]}
    one, two = outer.synthesize([3, 4]), loaded.synthesize([3, 4])
    assert all(torch.equal(one[name], two[name]) for name in ("image", "mask"))
    assert pickle.loads(pickle.dumps(loaded)).fingerprint == outer.fingerprint


def _masks():
    """A diffusion model whose last channels are class scores: image and mask; only the mask is used."""
    torch.manual_seed(1)
    unet = build_network(
        "monai:DiffusionModelUNet",
        spatial_dims=2,
        in_channels=3,
        out_channels=3,
        channels=[4, 4],
        attention_levels=[False, False],
        num_res_blocks=1,
        norm_num_groups=2,
        num_head_channels=4,
    )
    from monai.networks.schedulers import DDIMScheduler

    return MonaiSynthesizer(unet, DDIMScheduler(), size=(16, 16), steps=2, label_channels=2, value_range=(0, 1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TwoStageSynthesizer(nn.Identity(), painter()), "`mask_synthesizer` must be a synthesizer"),
        (lambda: TwoStageSynthesizer(AnalyticSynthesizer((16, 16)), 3), "`image_synthesizer` must be a synthesizer"),
        (lambda: TwoStageSynthesizer(painter(), painter()), "must make 'mask', a label map, got the fields"),
        (lambda: TwoStageSynthesizer(AnalyticSynthesizer(), AnalyticSynthesizer()), "must not make 'mask' itself"),
        (
            lambda: TwoStageSynthesizer(AnalyticSynthesizer((8, 8)), painter()),
            r"masks' shape, \(8, 8\), got \(16, 16\)",
        ),
        (lambda: TwoStageSynthesizer(AnalyticSynthesizer((16, 16)), painter(refuse)), "classes above 0 are unknown"),
        (lambda: TwoStageSynthesizer(AnalyticSynthesizer((16, 16)), painter(needs_age)), "'age'.*as `probe`"),
        (lambda: TwoStageSynthesizer(_masks_of(3), monai_painter(2)), r"must take masks .*\[0, 2\]"),
        (lambda: TwoStageSynthesizer(_always(7), monai_painter(2)), "must take masks"),
        (lambda: TwoStageSynthesizer(_always(0, (-1, 1)), monai_painter(2)), "must take masks"),
        (lambda: TwoStageSynthesizer(AnalyticSynthesizer((16, 16)), _silent()), "must make its fields"),
    ],
)
def test_bad_stages(build, message):
    with pytest.raises(ConfigurationError, match=message):
        build()


def _masks_of(classes):
    spec = FieldSpec((1, 16, 16), torch.int64, kind="label_map", value_range=(0, classes - 1))
    return FunctionSynthesizer(_zeros, {"mask": spec}, fingerprint="zeros")


def _zeros(seeds, conditions):
    return {"mask": torch.zeros(len(seeds), 1, 16, 16, dtype=torch.int64)}


def _always(value, limits=None):
    spec = FieldSpec((1, 16, 16), torch.int64, kind="label_map", value_range=limits)
    return FunctionSynthesizer(
        lambda seeds, conditions: {"mask": torch.full((len(seeds), 1, 16, 16), value)},
        {"mask": spec},
        fingerprint="all",
    )


def _silent():
    return FunctionSynthesizer(lambda seeds, conditions: {}, {"image": IMAGE}, fingerprint="silent")


def test_a_probe_may_be_given_or_left_out():
    first = AnalyticSynthesizer((16, 16))
    TwoStageSynthesizer(first, painter(needs_age), probe={"age": torch.tensor([0.5])})
    late = TwoStageSynthesizer(first, painter(refuse), probe=False)
    with pytest.raises(ConfigurationError, match="unknown"):
        late.synthesize([1])
    with pytest.raises(ConfigurationError, match="must not hold 'mask'"):
        late.synthesize([1], {"mask": torch.zeros(1, 1, 16, 16).long()})


class OfMasks(nn.Module):
    """One-hot masks to images: 0 outside, and tanh of noise inside."""

    def forward(self, latents, masks):
        return (masks[:, 1:] * latents.mean(1)[:, None, None, None]).tanh()


def test_classes_of_masks_are_no_labels():
    second = ModuleSynthesizer(
        OfMasks(), latent_shape=(4,), num_classes=2, condition="mask", condition_spec=MASK, value_range=(-1, 1)
    )
    assert second.num_classes is None
    both = TwoStageSynthesizer(AnalyticSynthesizer((16, 16)), second)
    assert both.num_classes is None
    batch = SyntheticSequence(both).batch(range(8))
    assert set(batch) == {"image", "mask"}
    assert (batch["image"][batch["mask"] == 0] == 0).all()
    assert (batch["image"][batch["mask"] == 1] != 0).any()
    ensemble = EnsembleSynthesizer({"one": second, "other": second})
    masks = batch["mask"][:2]
    assert ensemble.num_classes is None
    assert ensemble.synthesize([0, 1], {"mask": masks})
    with pytest.raises(ConfigurationError, match="must not hold 'label' for a model without classes"):
        ensemble.synthesize([0, 1], {"mask": masks, "label": torch.zeros(2, dtype=torch.int64)})
