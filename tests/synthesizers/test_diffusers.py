from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import diffusers
import pytest
import tiny_nets
import torch

from torchgenaug import seeding
from torchgenaug.conditions import ClassLabels
from torchgenaug.errors import BadSampleError, ConfigurationError
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.synthesizers import DiffusersSynthesizer
from torchgenaug.synthesizers.diffusion.unet import OVERSHOOT
from torchgenaug.testing import SynthesizerConformance


def pixel(net=None, scheduler=None, **options):
    options = {"steps": 3, "value_range": (-1, 1)} | options
    return DiffusersSynthesizer(net or tiny_nets.unet(), scheduler or diffusers.DDIMScheduler(), **options)


def labelled(**options):
    return pixel(tiny_nets.unet(classes=4), **options)


def labels(*values):
    return {"label": torch.tensor(values)}


class TestUnconditional(SynthesizerConformance):
    def make(self):
        return pixel()


class TestStochasticSteps(SynthesizerConformance):
    def make(self):
        return pixel(scheduler=diffusers.DDPMScheduler())


class TestGuidedWithMask(SynthesizerConformance):
    def make(self):
        net = tiny_nets.unet(4, (8, 16), classes=4)
        return pixel(net, guidance_scale=2.0, null_class=3, label_channels=3, value_range=(-1000, 2000))

    def conditions(self, seeds):
        return {"label": torch.tensor([seed % 3 for seed in seeds])}


class TestLatentKL(SynthesizerConformance):
    def make(self):
        return pixel(tiny_nets.unet(2), vae=tiny_nets.autoencoder())


class TestLatentVQ(SynthesizerConformance):
    def make(self):
        return pixel(tiny_nets.unet(2), vae=tiny_nets.vq_model())


class TestBFloat16(SynthesizerConformance):
    tolerance = 0.1  # three decimal digits, several steps

    def make(self):
        return pixel(dtype=torch.bfloat16)


class TestFloat16(SynthesizerConformance):
    tolerance = 0.02

    def make(self):
        return pixel(dtype=torch.float16)


def test_half_precision_computes_nearly_the_same_and_returns_float32():
    exact = pixel().synthesize([1, 2])["image"]
    for dtype, tolerance in ((torch.float16, 0.02), (torch.bfloat16, 0.2)):
        made = pixel(dtype=dtype)
        assert made.unet.dtype == dtype
        image = made.synthesize([1, 2])["image"]
        assert image.dtype == torch.float32
        assert 0 < (image - exact).abs().max() <= tolerance
    assert torch.equal(pixel(tiny_nets.unet().double()).synthesize([1, 2])["image"], exact)


def test_passes_the_checks_of_the_sequence():
    sequence = SyntheticSequence(labelled(clip=True), ClassLabels(4), seed=1)
    batch = sequence.batch(range(6))
    assert batch["image"].shape == (6, 1, 8, 8)
    assert sorted(batch["label"][:4].tolist()) == [0, 1, 2, 3]
    with_mask = SyntheticSequence(pixel(tiny_nets.unet(3), label_channels=2, clip=True))
    assert set(with_mask.batch([0])["mask"].unique().tolist()) <= {0, 1}


def test_samples_are_ordinary_contiguous_tensors():
    net = tiny_nets.unet(3).to(memory_format=torch.channels_last)
    # Heun's steps end in memory that they share.
    heun = pixel(net, diffusers.HeunDiscreteScheduler()).synthesize([1, 2])
    for value in [*pixel(net, label_channels=2).synthesize([1, 2]).values(), heun["image"]]:
        assert value.is_contiguous()
        assert value.untyped_storage().nbytes() == value.nbytes
        assert not value.requires_grad
        assert not value.is_inference()
    image = pixel().synthesize([1])["image"]
    (image * torch.ones(1, requires_grad=True)).sum().backward()


def test_given_networks_and_scheduler_stay_as_they_are_and_later_training_changes_nothing():
    net, scheduler = tiny_nets.unet().train(), diffusers.DDIMScheduler()
    weights = copy.deepcopy(net.state_dict())
    made = pixel(net, scheduler, dtype=torch.bfloat16)
    expected, fingerprint = made.synthesize([1])["image"], made.fingerprint
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert scheduler.num_inference_steps is None
    with torch.no_grad():
        net.conv_in.weight.zero_()
    assert torch.equal(made.synthesize([1])["image"], expected)
    assert made.fingerprint == fingerprint != pixel(net, scheduler, dtype=torch.bfloat16).fingerprint


def test_training_mode_of_the_given_network_does_not_matter():
    net = tiny_nets.unet(dropout=0.5)
    assert torch.equal(pixel(net.train()).synthesize([1])["image"], pixel(net.eval()).synthesize([1])["image"])


def test_threads_agree_with_serial_calls():
    made = pixel(scheduler=diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"), steps=6)
    seeds = [[k, k + 1] for k in range(8)]
    expected = [made.synthesize(pair)["image"] for pair in seeds]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda pair: made.synthesize(pair)["image"], seeds))
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


# --- classes and guidance


def test_labels_decide_and_guidance_of_one_is_none():
    made = labelled(null_class=3)
    samples = made.synthesize([7, 7, 7], labels(0, 1, 2))["image"]
    assert (samples[0] - samples[1]).abs().max() > 1e-3
    assert made.num_classes == 3
    same = labelled(null_class=3, guidance_scale=1.0).synthesize([7, 7, 7], labels(0, 1, 2))["image"]
    assert torch.equal(same, samples)


def test_guidance_follows_the_formula():
    """Prediction with guidance: e_null + s (e_label - e_null), equation 6 of Ho and Salimans with s = 1 + w."""
    net = tiny_nets.unet(classes=4).eval()
    made = pixel(net, guidance_scale=3.0, null_class=3, steps=1)
    x, time = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor(500)
    with torch.no_grad():
        found = made._predict(made._embedded(torch.tensor([0, 2])), x, time)
        with_label, without = (
            net(x, time, class_labels=torch.tensor(classes), return_dict=False)[0] for classes in ([0, 2], [3, 3])
        )
    assert (with_label - without).abs().max() > 1e-3
    assert (found - (without + 3 * (with_label - without))).abs().max() <= 1e-5
    unconditional = pixel(net, guidance_scale=0.0, null_class=3)
    one, two = unconditional.synthesize([5, 5], labels(0, 1))["image"]
    assert (one - two).abs().max() <= 1e-5


def test_guidance_calls_the_network_once_a_step():
    made = labelled(guidance_scale=2.0, null_class=3)
    sizes = []
    made.unet.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    made.synthesize([1, 2], labels(0, 1))
    assert sizes == [4, 4, 4]


def test_null_class_in_front_leaves_the_other_indices_alone():
    made = labelled(null_class=0)
    assert made.num_classes == 4
    made.synthesize([1], labels(3))
    with pytest.raises(ConfigurationError, match=r"in \[0, 4\) and not be the null class 0, got 0 at position 1"):
        made.synthesize([1, 2], labels(3, 0))


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (None, r"`conditions` must hold 'label', got None.*ClassLabels\(3\)"),
        ({"age": torch.zeros(2)}, r"must hold 'label', got \['age'\]"),
        (labels(0), r"int64 tensor of shape \(2,\), got torch.int64 \(1,\)"),
        ({"label": torch.zeros(2)}, r"got torch.float32 \(2,\).*Convert"),
        ({"label": [0, 1]}, "got list"),
        (labels(0, 3), r"in \[0, 3\) and not be the null class 3, got 3 at position 1"),
        (labels(-1, 0), "got -1 at position 0"),
    ],
)
def test_bad_conditions(conditions, message):
    made = labelled(null_class=3)
    with pytest.raises(ConfigurationError, match=message):
        made.synthesize([1, 2], conditions)


def test_labels_for_an_unconditional_network_are_refused():
    with pytest.raises(ConfigurationError, match=r"must not hold 'label' for a model without classes.*never saw"):
        pixel().synthesize([1], labels(0))
    with pytest.raises(ConfigurationError, match="`seeds` must hold at least one seed"):
        pixel().synthesize([])


# --- output: range, clip, masks


def test_range_is_mapped_linearly_and_never_clamped():
    base = pixel(value_range=(-1, 1)).synthesize([1, 2])["image"]
    assert base.abs().max() < 1 + OVERSHOOT
    for low, high in ((0.0, 1.0), (-1000.0, 2000.0), (5.0, 5.5)):
        made = pixel(value_range=(low, high))
        expected = low + (base + 1) / 2 * (high - low)
        assert (made.synthesize([1, 2])["image"] - expected).abs().max() <= 1e-5 * max(abs(low), high)
        margin = OVERSHOOT * (high - low)
        assert made.fields["image"].value_range == pytest.approx((low - margin, high + margin))


def overshooting(factor):
    """A synthesizer whose network predicts a clean sample of +factor everywhere."""
    net = tiny_nets.unet()
    with torch.no_grad():
        net.conv_out.weight.zero_()
        net.conv_out.bias.fill_(factor)
    return lambda **options: pixel(
        net, diffusers.DDIMScheduler(prediction_type="sample", clip_sample=False), value_range=(0, 1), **options
    )


def test_overshoot_within_the_margin_passes_beyond_it_is_refused_and_clip_is_explicit():
    slight, gross = overshooting(1.4), overshooting(1.6)
    assert SyntheticSequence(slight(), screens=()).batch([0])["image"].max().item() == pytest.approx(1.2, abs=1e-3)
    with pytest.raises(BadSampleError, match=r"must stay in \[-0.25, 1.25\], got"):
        SyntheticSequence(gross()).batch([0])
    clipped = gross(clip=True)
    assert clipped.fields["image"].value_range == (0, 1)
    assert SyntheticSequence(clipped, screens=()).batch([0])["image"].unique().tolist() == [1]


def test_mask_is_the_argmax_of_the_last_channels():
    net = tiny_nets.unet(5)
    whole = pixel(net).synthesize([1, 2])["image"]
    split = pixel(net, label_channels=3)
    batch = split.synthesize([1, 2])
    assert torch.equal(batch["image"], whole[:, :2])
    assert torch.equal(batch["mask"], whole[:, 2:].argmax(1, keepdim=True))
    spec = split.fields["mask"]
    assert (spec.shape, spec.dtype, spec.kind, spec.value_range) == ((1, 8, 8), torch.int64, "label_map", (0, 2))
    assert len(batch["mask"].unique()) > 1


@pytest.mark.parametrize("options", [{"clip": True}, {"label_channels": 2}, {}])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_bad_numbers_never_hide(options, value):
    net = tiny_nets.unet(3)
    with torch.no_grad():
        net.conv_out.bias[2] = value
    scheduler = diffusers.DDIMScheduler(prediction_type="sample", clip_sample=False)
    with pytest.raises(BadSampleError, match="NaN or Inf") as caught:
        SyntheticSequence(pixel(net, scheduler, **options)).batch([0, 1])
    assert caught.value.seeds


# --- autoencoders


def test_kl_latents_are_unscaled_shifted_and_decoded():
    net = tiny_nets.unet(2)
    latents = pixel(net).synthesize([1, 2])["image"]
    for config, decoded_from in (
        ({"scaling_factor": 0.5}, latents / 0.5),
        ({"scaling_factor": 0.5, "shift_factor": 0.3}, latents / 0.5 + 0.3),
        (
            {"scaling_factor": 0.5, "latents_mean": [0.1, 0.2], "latents_std": [2.0, 3.0]},
            latents / 0.5 * torch.tensor([2.0, 3.0]).view(1, 2, 1, 1) + torch.tensor([0.1, 0.2]).view(1, 2, 1, 1),
        ),
    ):
        vae = tiny_nets.autoencoder(**config).eval()
        made = pixel(net, vae=vae)
        with torch.no_grad():
            expected = vae.decode(decoded_from).sample
        assert made.fields["image"].shape == (1, 16, 16)
        assert (made.synthesize([1, 2])["image"] - expected).abs().max() <= 1e-4
        assert expected.std() > 0.01


def test_vq_latents_are_unscaled_and_decoded():
    net, vae = tiny_nets.unet(2), tiny_nets.vq_model().eval()
    with torch.no_grad():
        expected = vae.decode(pixel(net).synthesize([1, 2])["image"] / vae.config.scaling_factor).sample
    assert (pixel(net, vae=vae).synthesize([1, 2])["image"] - expected).abs().max() <= 1e-4


def test_vae_that_overflows_in_float16_stays_in_float32():
    made = pixel(tiny_nets.unet(2), vae=tiny_nets.autoencoder(force_upcast=True), dtype=torch.float16)
    assert (made.unet.dtype, made.vae.dtype) == (torch.float16, torch.float32)
    made = pixel(tiny_nets.unet(2), vae=tiny_nets.autoencoder(force_upcast=False), dtype=torch.float16)
    assert made.vae.dtype == torch.float16
    assert made.synthesize([1])["image"].dtype == torch.float32


# --- fingerprint


def test_fingerprint_covers_everything_that_changes_samples_and_nothing_else():
    net = tiny_nets.unet(4, classes=4)
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.conv_out.bias[0] += 1e-3
    base = {"null_class": 3, "guidance_scale": 2.0}
    variants = [
        pixel(net, **base),
        pixel(other, **base),
        pixel(net, **base, steps=4),
        pixel(net, null_class=3, guidance_scale=3.0),
        pixel(net, null_class=2, guidance_scale=2.0),
        pixel(net, **base, value_range=(0, 1)),
        pixel(net, **base, label_channels=2),
        pixel(net, **base, clip=True),
        pixel(net, **base, dtype=torch.bfloat16),
        pixel(net, diffusers.DDIMScheduler(clip_sample=False), **base),
        pixel(net, diffusers.DDPMScheduler(), **base),
    ]
    assert len({made.fingerprint for made in variants}) == len(variants)
    again = copy.deepcopy(net)
    again.register_to_config(_name_or_path="elsewhere")
    trained = pixel(
        again, diffusers.DDIMScheduler.from_config({"some_future_option": 1, "_diffusers_version": "9"}), **base
    )
    trained.trained_on = {"split": "train"}
    assert trained.fingerprint == variants[0].fingerprint
    latent = tiny_nets.unet(2)
    assert pixel(latent, vae=tiny_nets.autoencoder()).fingerprint != pixel(latent).fingerprint


def test_stated_attributes():
    made = labelled(null_class=3)
    assert made.trained_on is None
    assert isinstance(made.scheduler, diffusers.DDIMScheduler)
    assert made.scheduler is not made.scheduler
    assert "DDIMScheduler, steps=3, num_classes=3" in repr(made)
    assert pixel().num_classes is None
    noise = seeding.normal(seeding.derive([4], seeding.NOISE), made.latent_shape)
    assert noise.shape == (1, 1, 8, 8)


# --- errors at construction


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: pixel(torch.nn.Conv2d(1, 1, 1)), "`unet` must be a diffusers.UNet2DModel, got Conv2d.*FunctionSynth"),
        (lambda: pixel(tiny_nets.unet(size=None)), r"got sample_size=None.*register_to_config\(sample_size=64\)"),
        (lambda: pixel(tiny_nets.unet(size=9)), r"multiples of 2 for 2 blocks, got 9\..*sample_size=\(10, 10\)"),
        (lambda: pixel(tiny_nets.unet(size=(8, 10), blocks=3)), r"multiples of 4.*got \(8, 10\).*\(8, 12\)"),
        (lambda: pixel(tiny_nets.unet(out_channels=2)), "out_channels` must be 1 .*got 2.*learned_range"),
        (lambda: pixel(scheduler=torch.optim.SGD), "`scheduler` must be a scheduler of diffusers, got type"),
        (lambda: pixel(steps=1001), r"`steps` must be an integer in \[1, 1000\], got 1001"),
        (lambda: pixel(steps=0), "`steps`.*got 0"),
        (lambda: pixel(steps=2.0), "`steps`.*got 2.0"),
        (lambda: pixel(guidance_scale=2.0), "`unet` must be class-conditional for guidance_scale=2.0.*Leave"),
        (lambda: pixel(null_class=1), "`unet` must be class-conditional for null_class=1"),
        (lambda: labelled(guidance_scale=2.0), "`null_class` must be given with guidance_scale=2.0.*null_class=3"),
        (lambda: labelled(null_class=4), r"`null_class` must be a class index in \[0, 4\), got 4"),
        (lambda: labelled(null_class=3, guidance_scale=-1.0), "`guidance_scale` must be finite and at least 0, got -1"),
        (lambda: labelled(null_class=3, guidance_scale=float("nan")), "`guidance_scale` must be finite.*got nan"),
        (lambda: pixel(tiny_nets.unet(class_embed_type="projection")), "class_embed_type` must be None, 'timestep' or"),
        (lambda: pixel(value_range=(1, 0)), r"`value_range` must be \(low, high\), finite, low < high, got \(1, 0\)"),
        (lambda: pixel(value_range=(0, float("inf"))), "`value_range`.*got .0, inf"),
        (lambda: pixel(value_range=None), "`value_range`.*got None"),
        (lambda: pixel(dtype=torch.int64), "`dtype` must be one of .*got torch.int64"),
        (lambda: pixel(tiny_nets.unet(3), label_channels=3), "less than the 3 channels of a sample, got 3"),
        (lambda: pixel(tiny_nets.unet(3), label_channels=1), "`label_channels` must be 0 or at least 2, got 1"),
        (lambda: pixel(tiny_nets.unet(3), label_channels=-2), "`label_channels` must be 0 or at least 2, got -2"),
        (lambda: pixel(tiny_nets.unet(2), vae=tiny_nets.unet()), "`vae` must be a diffusers.AutoencoderKL or VQModel"),
        (lambda: pixel(tiny_nets.unet(3), vae=tiny_nets.autoencoder()), "decode latents of 3 channels.*one for 2"),
    ],
)
def test_what_cannot_work_is_refused_at_construction(build, message):
    with pytest.raises(ConfigurationError, match=message):
        build()


@pytest.mark.parametrize("scheduler", [diffusers.DDPMScheduler, diffusers.DDIMScheduler])
def test_what_overflows_in_float16_is_not_hidden_by_clipping(scheduler):
    unet = tiny_nets.unet()
    with torch.no_grad():
        unet.conv_out.weight.mul_(1e6)
    made = pixel(unet, scheduler(clip_sample=True), clip=True, dtype=torch.float16)
    with pytest.raises(BadSampleError, match="NaN or Inf"):
        made.synthesize([1, 2])


def test_a_codebook_does_not_hide_what_is_not_a_number():
    unet = tiny_nets.unet(2)
    with torch.no_grad():
        unet.conv_out.weight.fill_(torch.nan)
    codebook = diffusers.VQModel(
        latent_channels=2,
        num_vq_embeddings=8,
        norm_num_groups=4,
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    made = pixel(unet, diffusers.DDIMScheduler(clip_sample=False), vae=codebook)
    assert made.synthesize([1])["image"].isnan().all()


def test_what_no_file_would_tell_is_refused():
    freeu, tiled = tiny_nets.unet(2), tiny_nets.autoencoder()
    freeu.up_blocks[0].s1 = 0.9  # what enable_freeu() of conditional networks does
    tiled.enable_tiling()
    with pytest.raises(ConfigurationError, match=r"without FreeU.*disable_freeu"):
        pixel(freeu)
    with pytest.raises(ConfigurationError, match=r"decode images whole.*disable_tiling"):
        pixel(tiny_nets.unet(2), vae=tiled)
