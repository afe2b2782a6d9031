from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import torch

pytest.importorskip("monai")
import tiny_monai as tiny
from monai.inferers import ControlNetDiffusionInferer, DiffusionInferer, LatentDiffusionInferer
from monai.networks.nets import DiffusionModelUNet
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, PNDMScheduler, RFlowScheduler

from torchgenaug import (
    ClassLabels,
    FieldSpec,
    MonaiSynthesizer,
    RealFields,
    ShardSource,
    SyntheticMixDataset,
    SyntheticPool,
    SyntheticSequence,
    load_synthesizer,
    render_shards,
    save_synthesizer,
    seeding,
)
from torchgenaug.errors import BadSampleError, ConfigurationError
from torchgenaug.testing import SynthesizerConformance

SIZE, VOLUME = (8, 8), (8, 8, 8)


def ddim(**config):
    return DDIMScheduler(20, clip_sample=True, **config)


def build(network, scheduler=None, **options):
    settings = {"size": SIZE, "steps": 3, "value_range": (0.0, 1.0), **options}
    return MonaiSynthesizer(network, ddim() if scheduler is None else scheduler, **settings)


@cache
def made(case):
    return case.new()


class Saved(SynthesizerConformance):
    """The laws of a synthesizer, and: what is built, or saved and loaded, again is the same.

    One synthesizer serves all laws of a case: building one costs more than sampling it.
    """

    @staticmethod
    def new():
        raise NotImplementedError

    def make(self):
        return made(type(self))

    def test_built_again_it_is_the_same(self):
        synthesizer = self.new()
        assert synthesizer is not self.make()
        assert synthesizer.fingerprint == self.make().fingerprint
        expected = self._samples(self.make(), [8])
        for name, value in self._samples(synthesizer, [8]).items():
            assert torch.equal(value, expected[name])

    def test_saved_and_loaded_it_is_the_same(self, tmp_path):
        synthesizer = self.make()
        synthesizer.trained_on = {"ids": ["a", "b"]}
        save_synthesizer(synthesizer, tmp_path / "saved")
        loaded = load_synthesizer(tmp_path / "saved")
        assert isinstance(loaded, MonaiSynthesizer)
        assert loaded.fingerprint == synthesizer.fingerprint
        assert loaded.fields == synthesizer.fields
        assert loaded.trained_on == {"ids": ["a", "b"]}
        expected = self._samples(synthesizer, [4, 5])
        for name, value in self._samples(loaded, [4, 5]).items():
            assert torch.equal(value, expected[name])


class TestPixel2D(Saved):
    @staticmethod
    def new():
        return build(tiny.unet())


class TestAncestral2D(Saved):
    """DDPM draws noise in its steps."""

    @staticmethod
    def new():
        return build(tiny.unet(), DDPMScheduler(4), steps=4)


class TestPlms2D(Saved):
    @staticmethod
    def new():
        return build(tiny.unet(), PNDMScheduler(20, skip_prk_steps=True), steps=6)


class TestPixel3D(Saved):
    @staticmethod
    def new():
        return build(tiny.unet(3), size=VOLUME)


class TestFlow3D(Saved):
    @staticmethod
    def new():
        flow = RFlowScheduler(20, use_timestep_transform=True, sample_method="logit-normal")
        return build(tiny.unet(3), flow, size=VOLUME)


class TestLatent2D(Saved):
    @staticmethod
    def new():
        return build(tiny.unet(channels=2), autoencoder=tiny.autoencoder(), scale_factor=0.5)


class TestLatent3D(Saved):
    @staticmethod
    def new():
        return build(
            tiny.unet(3, channels=2), RFlowScheduler(20), size=VOLUME, autoencoder=tiny.autoencoder(3), scale_factor=2
        )


class TestVectorQuantized2D(Saved):
    @staticmethod
    def new():
        return build(tiny.unet(channels=2), autoencoder=tiny.vqvae())


class TestClassGuided2D(Saved):
    @staticmethod
    def new():
        return build(tiny.unet(num_class_embeds=4), guidance_scale=2.0, null_class=3)

    def conditions(self, seeds):
        return {"label": torch.tensor([seed % 3 for seed in seeds])}


class TestMask2D(Saved):
    @staticmethod
    def new():
        return build(tiny.unet(extra=3), mask_classes=3)

    def conditions(self, seeds):
        return {"mask": tiny.masks(seeds, SIZE, 3)}


class TestMaskLatent3D(Saved):
    @staticmethod
    def new():
        return build(tiny.unet(3, channels=2, extra=3), size=VOLUME, autoencoder=tiny.autoencoder(3), mask_classes=3)

    def conditions(self, seeds):
        return {"mask": tiny.masks(seeds, VOLUME, 3)}


class TestSource3D(Saved):
    @staticmethod
    def new():
        return build(tiny.unet(3, extra=2), size=VOLUME, source=FieldSpec((2, *VOLUME), value_range=(0, 1)))

    def conditions(self, seeds):
        return {"source": tiny.images(seeds, (2, *VOLUME))}


class TestSourceLatent2D(Saved):
    @staticmethod
    def new():
        return build(
            tiny.unet(channels=2, extra=2),
            autoencoder=tiny.autoencoder(),
            source=FieldSpec((1, *SIZE), value_range=(0, 1)),
        )

    def conditions(self, seeds):
        return {"source": tiny.images(seeds, (1, *SIZE))}


class TestControlNet2D(Saved):
    @staticmethod
    def new():
        return build(tiny.unet(), controlnet=tiny.controlnet(control=3), mask_classes=3)

    def conditions(self, seeds):
        return {"mask": tiny.masks(seeds, SIZE, 3)}


class TestControlNetLatent3D(Saved):
    """The control is an image of the full size; the embedding halves it once."""

    @staticmethod
    def new():
        return build(
            tiny.unet(3, channels=2),
            size=VOLUME,
            autoencoder=tiny.autoencoder(3),
            controlnet=tiny.controlnet(3, channels=2, levels=2),
            source=FieldSpec((1, *VOLUME), value_range=(0, 1)),
        )

    def conditions(self, seeds):
        return {"source": tiny.images(seeds, (1, *VOLUME))}


class TestSpade2D(Saved):
    @staticmethod
    def new():
        return build(tiny.spade_unet(), mask_classes=3)

    def conditions(self, seeds):
        return {"mask": tiny.masks(seeds, SIZE, 3)}


class TestSpadeLatent3D(Saved):
    """Both networks read the mask."""

    @staticmethod
    def new():
        decoder = tiny.autoencoder(3, kind="SPADEAutoencoderKL", label_nc=3, spade_intermediate_channels=4)
        return build(tiny.spade_unet(3, channels=2), size=VOLUME, autoencoder=decoder, mask_classes=3)

    def conditions(self, seeds):
        return {"mask": tiny.masks(seeds, VOLUME, 3)}


class TestCovariates2D(Saved):
    """As in the brain model of the zoo: context vector and constant channels."""

    @staticmethod
    def new():
        attention = {"with_conditioning": True, "cross_attention_dim": 2, "attention_levels": [False, True]}
        return build(tiny.unet(extra=2, **attention), covariates={"age": (0, 100), "sex": (0, 1)})

    def conditions(self, seeds):
        return {"age": torch.tensor([float(seed % 90) for seed in seeds]), "sex": torch.tensor([s % 2 for s in seeds])}


class TestImageAndMask2D(Saved):
    """Both are generated."""

    @staticmethod
    def new():
        return build(tiny.unet(channels=4), label_channels=3, clip=True)


def start_of(synthesizer, seeds):
    return seeding.normal(seeding.derive(seeds, seeding.NOISE), synthesizer.latent_shape)


def to_unit(samples):
    return samples / 2 + 0.5


@pytest.mark.parametrize(
    "make",
    [ddim, lambda: PNDMScheduler(20, skip_prk_steps=True), lambda: RFlowScheduler(20)],
    ids=["ddim", "pndm", "rflow"],
)
@pytest.mark.parametrize("dims", [2, 3])
def test_it_samples_what_monais_inferer_samples(make, dims):
    network, scheduler, size = tiny.unet(dims), make(), (8,) * dims
    synthesizer = build(network, scheduler, size=size, steps=5)
    scheduler.set_timesteps(5)
    expected = DiffusionInferer(scheduler).sample(start_of(synthesizer, [1, 2]), network.eval(), verbose=False)
    assert (synthesizer.synthesize([1, 2])["image"] - to_unit(expected)).abs().max() < 1e-4


def test_a_latent_model_samples_what_monais_inferer_samples():
    network, decoder, scheduler = tiny.unet(3, channels=2), tiny.autoencoder(3), ddim()
    synthesizer = build(network, scheduler, size=VOLUME, autoencoder=decoder, scale_factor=1.7, steps=5)
    scheduler.set_timesteps(5)
    inferer = LatentDiffusionInferer(scheduler, scale_factor=1.7)
    expected = inferer.sample(start_of(synthesizer, [1, 2]), decoder.eval(), network.eval(), verbose=False)
    assert (synthesizer.synthesize([1, 2])["image"] - to_unit(expected)).abs().max() < 1e-4


def test_a_control_gives_what_monais_inferer_gives():
    network, control, scheduler = tiny.unet(), tiny.controlnet(), ddim()
    spec = FieldSpec((1, *SIZE), value_range=(0, 1))
    synthesizer = build(network, scheduler, controlnet=control, source=spec, steps=5)
    source = tiny.images([1, 2], (1, *SIZE))
    scheduler.set_timesteps(5)
    expected = ControlNetDiffusionInferer(scheduler).sample(
        start_of(synthesizer, [1, 2]), network.eval(), control.eval(), source * 2 - 1, verbose=False
    )
    got = synthesizer.synthesize([1, 2], {"source": source})["image"]
    assert (got - to_unit(expected)).abs().max() < 1e-4


def test_spade_and_concatenation_give_what_monais_inferer_gives():
    mask, scheduler = tiny.masks([1, 2], SIZE, 3), ddim()
    hot = torch.nn.functional.one_hot(mask[:, 0], 3).movedim(-1, 1).float()
    for network, options in (
        (tiny.spade_unet(), {"seg": hot}),
        (tiny.unet(extra=3), {"conditioning": hot, "mode": "concat"}),
    ):
        synthesizer = build(network, scheduler, mask_classes=3, steps=5)
        scheduler.set_timesteps(5)
        expected = DiffusionInferer(scheduler).sample(
            start_of(synthesizer, [1, 2]), network.eval(), verbose=False, **options
        )
        got = synthesizer.synthesize([1, 2], {"mask": mask})["image"]
        assert (got - to_unit(expected)).abs().max() < 1e-4


CONDITIONED = [TestMask2D, TestSource3D, TestSourceLatent2D, TestControlNet2D, TestControlNetLatent3D, TestSpade2D]


@pytest.mark.parametrize(
    "case", [*CONDITIONED, TestMaskLatent3D, TestSpadeLatent3D, TestCovariates2D, TestClassGuided2D]
)
def test_conditions_matter_and_are_needed(case):
    synthesizer, conditions = made(case), case().conditions([1, 2])
    asked = synthesizer.synthesize([7, 7], conditions)["image"]
    assert not torch.allclose(asked[0], asked[1], atol=1e-4)
    for name in conditions:
        with pytest.raises(ConfigurationError, match=f"`conditions` must hold {name!r}"):
            synthesizer.synthesize([7, 7], {key: value for key, value in conditions.items() if key != name})


class Best(DiffusionModelUNet):
    """The best prediction of the noise for data N(0, 0.5²): no network could do better."""

    def __init__(self, levels):
        super().__init__(2, 1, 1, 1, (8, 8), (False, False), 4, num_head_channels=4)
        self.register_buffer("levels", levels)

    def forward(self, x, timesteps, context=None, class_labels=None):
        level = self.levels[timesteps.long()].reshape(-1, 1, 1, 1)
        return (1 - level).sqrt() * x / (level * 0.25 + 1 - level)


def test_the_noise_of_the_steps_is_new_at_every_step():
    """With one noise for all steps, or a wrong strength of it, the spread would be another one."""
    scheduler = DDPMScheduler(200, beta_end=0.1, clip_sample=False)
    synthesizer = build(Best(scheduler.alphas_cumprod), scheduler, steps=200, size=(32, 32), value_range=(-1, 1))
    image = synthesizer.synthesize([1, 2, 3, 4])["image"]
    assert abs(image.std().item() - 0.5) < 0.03
    assert image[0].flatten().dot(image[1].flatten()).abs() / image[0].square().sum() < 0.15


def test_guidance_is_the_weighted_difference():
    network = tiny.unet(num_class_embeds=4)
    flow, label = RFlowScheduler(20), {"label": torch.tensor([1])}
    options = {"steps": 1, "value_range": (-1.0, 1.0)}
    plain, none = build(network, flow, null_class=3, **options), build(network, flow, **options)
    guided = build(network, flow, null_class=3, guidance_scale=2.5, **options)
    with_label = plain.synthesize([5], label)["image"]
    without = none.synthesize([5], {"label": torch.tensor([3])})["image"]
    expected = without + 2.5 * (with_label - without)
    assert (guided.synthesize([5], label)["image"] - expected).abs().max() < 1e-5
    assert plain.num_classes == 3
    assert none.num_classes == 4


def test_ranges_clip_and_overshoot():
    network = tiny.unet()
    plain = build(network, value_range=(-1000, 2000))
    clipped = build(network, value_range=(-1000, 2000), clip=True)
    unit = build(network, value_range=(0, 1), network_range=(0, 1))
    raw = build(network, value_range=(-1, 1))
    image = raw.synthesize([1])["image"]
    assert (plain.synthesize([1])["image"] - (image * 1500 + 500)).abs().max() < 1e-1
    assert torch.equal(unit.synthesize([1])["image"], image)
    assert clipped.synthesize([1])["image"].amin() >= -1000
    assert plain.fields["image"].value_range == (-1750.0, 2750.0)
    assert clipped.fields["image"].value_range == (-1000.0, 2000.0)


def test_a_generated_mask_is_the_argmax():
    network = tiny.unet(channels=4)
    joint, raw = build(network, label_channels=3), build(network, value_range=(-1, 1))
    both, channels = joint.synthesize([3]), raw.synthesize([3])["image"]
    assert joint.fields["mask"] == FieldSpec((1, *SIZE), torch.int64, kind="label_map", value_range=(0, 2))
    assert torch.equal(both["mask"], channels[:, 1:].argmax(1, keepdim=True))
    assert both["image"].shape == (1, 1, *SIZE)


def test_the_given_networks_and_scheduler_stay_as_they_are():
    network, scheduler = tiny.unet(), ddim()
    synthesizer = build(network, scheduler)
    before = synthesizer.synthesize([1])["image"]
    assert network.training
    assert len(scheduler.timesteps) == 20
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    scheduler.alphas_cumprod.zero_()
    assert torch.equal(synthesizer.synthesize([1])["image"], before)
    assert not any(parameter.requires_grad for parameter in synthesizer.unet.parameters())


def test_the_fingerprint_covers_what_decides_the_samples():
    network = tiny.unet(attention_levels=[False, True])
    heads = tiny.unet(attention_levels=[False, True], num_head_channels=8)  # the same weights, other heads
    one = build(network)
    others = [
        build(network, steps=4),
        build(network, ddim(schedule="cosine")),
        build(network, DDIMScheduler(20, clip_sample=False)),
        build(network, RFlowScheduler(20)),
        build(network, clip=True),
        build(network, network_range=(0, 1)),
        build(network, size=(16, 16)),
        build(network, dtype=torch.bfloat16),
        build(tiny.unet()),
        build(heads),
    ]
    assert network.state_dict().keys() == heads.state_dict().keys()
    assert len({synthesizer.fingerprint for synthesizer in [one, *others]}) == len(others) + 1
    one.synthesize([1])
    assert build(network).fingerprint == one.fingerprint == build(one.unet, one.scheduler).fingerprint


def test_dropout_of_flash_attention_is_off():
    """MONAI passes the dropout rate to it in eval mode, too: samples would be random."""
    network = tiny.unet(
        attention_levels=[False, True],
        use_flash_attention=True,
        dropout_cattn=0.5,
        with_conditioning=True,
        cross_attention_dim=1,
    )
    synthesizer, age = build(network, covariates={"age": (0, 1)}), {"age": torch.tensor([0.5])}
    assert torch.equal(synthesizer.synthesize([1], age)["image"], synthesizer.synthesize([1], age)["image"])


def test_half_precision_and_double():
    network = tiny.unet()
    reference = build(network).synthesize([1])["image"]
    for dtype, tolerance in ((torch.bfloat16, 0.1), (torch.float64, 1e-5)):
        image = build(network, dtype=dtype).synthesize([1])["image"]
        assert image.dtype == torch.float32
        assert (image - reference).abs().max() < tolerance
    latent = build(tiny.unet(channels=2), autoencoder=tiny.vqvae(), dtype=torch.bfloat16)
    assert latent.synthesize([1])["image"].isfinite().all()


def test_threads_may_share_it():
    synthesizer = made(TestControlNet2D)
    conditions = [{"mask": tiny.masks([seed], SIZE, 3)} for seed in range(6)]
    expected = [synthesizer.synthesize([seed], conditions[seed])["image"] for seed in range(6)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda seed: synthesizer.synthesize([seed], conditions[seed])["image"], range(6)))
    assert all(torch.equal(got, wanted) for got, wanted in zip(together, expected, strict=True))


def test_nan_is_not_hidden():
    network = tiny.unet()
    with torch.no_grad():
        network.conv_in.conv.weight.fill_(float("nan"))
    with pytest.raises(BadSampleError, match=r"NaN or Inf in 2 of 2 samples: seeds \[1, 2\]"):
        build(network, clip=True).synthesize([1, 2])
    with pytest.raises(ConfigurationError, match="at least one seed"):
        build(network).synthesize([])


def test_repr_and_size():
    assert repr(build(tiny.unet(num_class_embeds=3))) == (
        "MonaiSynthesizer((1, 8, 8), DDIMScheduler, steps=3, num_classes=3, cpu)"
    )
    assert build(tiny.unet(), size=[8, 16]).fields["image"].shape == (1, 8, 16)


def test_a_network_without_a_blueprint_cannot_be_saved(tmp_path):
    network = DiffusionModelUNet(2, 1, 1, 1, (8, 8), (False, False), 4, num_head_channels=4)
    with pytest.raises(
        ConfigurationError, match=r"`unet` must be a network that knows how it was built.*build_network"
    ):
        save_synthesizer(build(network), tmp_path / "saved")


def test_rendered_pooled_and_mixed(tmp_path):
    """A mask-conditioned model on real masks, all the way into a mixed data set."""
    real = [{"image": torch.rand(1, *SIZE), "mask": tiny.masks([k], SIZE, 3)[0]} for k in range(12)]
    # Fresh networks overshoot; clipped, their samples pass the checks.
    sequence = SyntheticSequence(build(tiny.unet(extra=3), mask_classes=3, clip=True), RealFields(real, "mask"))
    render_shards(sequence, tmp_path / "shards", count=6, batch_size=3, shard_size=3)
    shards = ShardSource(tmp_path / "shards")
    with SyntheticPool(sequence, capacity=6, batch_size=3, background=False) as pool:
        positions = np.arange(6)
        order = torch.from_numpy(pool.ids(positions))
        assert torch.equal(pool.read(positions)["image"], shards.read(order.numpy())["image"])
        for source in (pool, shards):
            mixed = SyntheticMixDataset(real, source, ratio=0.5)
            samples = [mixed[index] for index in range(12)]
            assert sum(mixed.is_synthetic(np.arange(12))) == 6
            assert all(sample["image"].shape == (1, *SIZE) and sample["mask"].shape == (1, *SIZE) for sample in samples)


def test_classes_of_a_sequence():
    sequence = SyntheticSequence(build(tiny.unet(num_class_embeds=3), clip=True), ClassLabels(3))
    assert sequence.batch(range(6))["label"].unique().tolist() == [0, 1, 2]


def test_weights_in_half_size(tmp_path):
    save_synthesizer(build(tiny.unet()), tmp_path / "half", weights_dtype=torch.bfloat16)
    loaded = load_synthesizer(tmp_path / "half")
    assert loaded.dtype == torch.float32
    assert pickle.loads(pickle.dumps(loaded)).fingerprint == loaded.fingerprint


@pytest.mark.gpu
def test_on_a_gpu_it_makes_the_same_samples():
    for case in (TestAncestral2D(), TestLatent3D(), TestControlNet2D(), TestCovariates2D()):
        synthesizer = made(type(case))
        there = MonaiSynthesizer.from_stored(synthesizer.stored(), device=torch.device("cuda"), dtype=None)
        assert there.fingerprint == synthesizer.fingerprint
        here, gpu = (s.synthesize([1, 2], case.conditions([1, 2]))["image"] for s in (synthesizer, there))
        assert gpu.device.type == "cuda"
        assert (here - gpu.cpu()).abs().max() < 1e-2
