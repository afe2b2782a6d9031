"""The speed options: same samples, and everything else that a synthesizer promises still holds with them."""

from __future__ import annotations

import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import diffusers
import pytest
import tiny_nets
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers import DiffusersSynthesizer, ModuleSynthesizer, load_synthesizer, save_synthesizer
from torchgenaug.synthesizers.parts.compute import Caller, Execution, with_layout
from torchgenaug.testing import SynthesizerConformance


def pixel(net=None, **options):
    options = {"steps": 2, "value_range": (-1, 1)} | options
    return DiffusersSynthesizer(net or tiny_nets.unet(2), diffusers.DDIMScheduler(), **options)


def decoder():
    return tiny_nets.seeded(
        lambda: nn.Sequential(nn.Unflatten(1, (2, 3, 3)), nn.Conv2d(2, 4, 3, 1, 1), nn.GELU(), nn.Conv2d(4, 2, 1))
    )


def wrap(**options):
    return ModuleSynthesizer(decoder(), latent_shape=(18,), value_range=(-5, 5), **options)


class TestChannelsLastUNet(SynthesizerConformance):
    def make(self):
        return pixel(channels_last=True)


class TestChannelsFirstUNet(SynthesizerConformance):
    def make(self):
        return pixel(channels_last=False)


class TestChannelsLastHalfUNet(SynthesizerConformance):
    tolerance = 0.02  # float16 keeps three decimal digits

    def make(self):
        return pixel(channels_last=True, dtype=torch.float16)


class TestCompiledModule(SynthesizerConformance):
    def make(self):
        return wrap(compile="aot_eager", channels_last=True)


class TestCompiledHalfModule(SynthesizerConformance):
    tolerance = 0.02

    def make(self):
        return wrap(compile="aot_eager", dtype=torch.bfloat16)


# --- layout


def is_last(weight):
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


def test_layout_is_what_was_asked_for_and_changes_only_last_digits():
    default, last, first = pixel(), pixel(channels_last=True), pixel(channels_last=False)
    assert [is_last(made.unet.conv_in.weight) for made in (default, last, first)] == [True, True, False]
    images = [made.synthesize([1, 2])["image"] for made in (default, last, first)]
    assert torch.equal(images[0], images[1])
    assert (images[0] - images[2]).abs().max() <= 1e-4
    assert not is_last(wrap().module[1].weight)
    assert is_last(wrap(channels_last=True).module[1].weight)
    assert (wrap().synthesize([1])["image"] - wrap(channels_last=True).synthesize([1])["image"]).abs().max() <= 1e-5


def test_layout_of_3d_weights():
    module = with_layout(nn.Conv3d(2, 2, 3), True)
    assert module.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert not module.weight.is_contiguous()
    assert with_layout(module, False).weight.is_contiguous()


# --- torch.compile


def test_a_compiled_unet_gives_the_same_samples_and_keeps_names_and_weights():
    plain, made = pixel(), pixel(compile="eager")
    digest = made.fingerprint
    image = made.synthesize([1, 2])["image"]
    assert (image - plain.synthesize([1, 2])["image"]).abs().max() <= 1e-5
    assert list(made.unet.state_dict()) == list(plain.unet.state_dict())
    assert pixel(compile="eager").fingerprint == digest != plain.fingerprint
    for again in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert again._denoiser._compiled == {}
        assert again.fingerprint == digest


@pytest.fixture
def counter():
    made = CompileCounterWithBackend("eager")
    torch._dynamo.register_backend(made, name="counting")
    yield made
    torch._dynamo.backends.registry._BACKENDS.pop("counting")
    torch._dynamo.backends.registry._COMPILER_FNS.pop("counting")


def test_every_batch_size_is_compiled_once(counter):
    """More of them than torch.compile keeps for one function; what it left uncompiled would be silently slow."""
    made = wrap(compile="counting")
    assert counter.frame_count == 0
    for _ in range(2):
        for size in range(1, 13):
            made.synthesize(list(range(size)))
    assert counter.frame_count == 12
    wrap(compile="counting").synthesize([1])
    assert counter.frame_count == 13


def test_threads_compile_once_and_agree(counter):
    made = wrap(compile="counting")
    expected = wrap().synthesize([1, 2])["image"]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: made.synthesize([1, 2])["image"], range(8)))
    assert all((image - expected).abs().max() <= 1e-6 for image in found)
    assert counter.frame_count == 1


def test_what_fails_to_compile_says_so(counter):
    def fails(*_):
        raise RuntimeError("no compiler")

    counter.backend = fails
    with pytest.raises(Exception, match="no compiler") as caught:
        wrap(compile="counting").synthesize([1])
    assert "first call of Sequential compiled by 'counting'" in caught.value.__notes__[-1]
    assert "Leave `compile` out" in caught.value.__notes__[-1]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")  # inductor's own
@pytest.mark.parametrize("make", [wrap, pixel])
def test_inductor_gives_the_same_samples(make):
    plain, made = make(), make(compile=True)
    together = made.synthesize([1, 2])["image"]
    assert (together - plain.synthesize([1, 2])["image"]).abs().max() <= 1e-4
    assert torch.equal(together, made.synthesize([1, 2])["image"])
    assert (together[1:] - made.synthesize([2])["image"]).abs().max() <= 1e-4
    assert torch.equal(together, pickle.loads(pickle.dumps(made)).synthesize([1, 2])["image"])


# --- settings, fingerprints, files


def test_options_at_their_defaults_leave_no_trace():
    """Shards that exist name the fingerprints of synthesizers that knew no options."""
    assert list(pixel().settings) == [
        "steps",
        "guidance_scale",
        "value_range",
        "label_channels",
        "clip",
        "null_class",
        "dtype",
    ]
    assert pixel(channels_last=None, compile=False, cuda_graph=False, solver=None).fingerprint == pixel().fingerprint
    assert sorted(wrap().stored().settings) == ["dtype", "latent_shape", "num_classes", "value_range"]


def test_the_fingerprint_of_the_shipped_weights_is_what_their_file_says():
    from torchgenaug.demo import WEIGHTS

    index = json.loads((WEIGHTS / "synthesizer.json").read_text())
    assert load_synthesizer(WEIGHTS).fingerprint == index["fingerprint"]
    assert index["fingerprint"] == "18ac7cb2d769dbb4b7ef6e62148c5667dd3c0f14d16f965d26572393ed92b052"


@pytest.mark.parametrize("make", [pixel, wrap])
def test_fingerprint_covers_what_changes_last_digits(make):
    variants = [
        make(),
        make(channels_last=True),
        make(channels_last=False),
        make(compile="eager"),
        make(compile="aot_eager"),
    ]
    assert len({made.fingerprint for made in variants}) == len(variants)


def test_saved_and_loaded(tmp_path):
    made = pixel(compile="eager", channels_last=False)
    save_synthesizer(made, tmp_path / "model")
    loaded = load_synthesizer(tmp_path / "model")
    assert loaded.fingerprint == made.fingerprint
    assert loaded.settings == made.settings
    assert loaded.execution == Execution(False, "eager")


def test_a_saved_cuda_graph_is_left_out_where_there_is_none(tmp_path):
    made = pixel()
    made.execution = Execution(cuda_graph=True)
    save_synthesizer(made, tmp_path / "model")
    assert json.loads((tmp_path / "model" / "synthesizer.json").read_text())["settings"]["cuda_graph"] is True
    loaded = load_synthesizer(tmp_path / "model")
    assert loaded.execution == Execution()
    assert loaded.fingerprint == made.fingerprint == pixel().fingerprint


def test_from_pretrained_takes_them_all(tmp_path):
    pipeline = diffusers.DDPMPipeline(tiny_nets.unet(), diffusers.DDPMScheduler())
    pipeline.save_pretrained(tmp_path / "model")
    made = DiffusersSynthesizer.from_pretrained(
        tmp_path / "model",
        value_range=(0, 1),
        steps=4,
        solver="dpm++",
        channels_last=False,
        compile="eager",
        dtype=torch.bfloat16,
    )
    assert made.execution == Execution(False, "eager")
    assert isinstance(made.scheduler, diffusers.DPMSolverMultistepScheduler)
    with pytest.raises(ConfigurationError, match="`cuda_graph` must be False on cpu"):
        DiffusersSynthesizer.from_pretrained(tmp_path / "model", value_range=(0, 1), cuda_graph=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cuda_graph": True}, r"`cuda_graph` must be False on cpu, got True.*device='cuda'"),
        ({"compile": "gcc"}, r"`compile` must be True, False or the name of a backend.*got 'gcc'.*inductor"),
        ({"compile": 3}, r"`compile` must be .*got 3"),
        ({"channels_last": "yes"}, r"`channels_last` must be True, False or None, got 'yes'"),
    ],
)
@pytest.mark.parametrize("make", [pixel, wrap])
def test_what_cannot_work_is_refused_at_construction(make, options, message):
    with pytest.raises(ConfigurationError, match=message):
        make(**options)


def test_a_caller_without_options_only_calls():
    def call(module, values):
        return module(values)

    caller = Caller(call, Execution())
    assert caller(nn.Identity(), torch.ones(2)).tolist() == [1, 1]
