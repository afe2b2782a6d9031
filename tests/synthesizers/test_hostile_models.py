"""Model folders built to hang, to fill the memory or to be unpickled: each is a named error, at once."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import struct
import sys
from pathlib import Path

import diffusers
import pytest
import tiny_nets
import torch

from tests import clean_interpreter
from torchgenaug import DiffusersSynthesizer, ModuleSynthesizer, load_synthesizer, save_synthesizer
from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.synthesizers import build_network
from torchgenaug.synthesizers.saving.load import synthesizer_sha256

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@pytest.fixture
def gan(tmp_path):
    """A saved generator."""
    module = build_network("torchgenaug:DCGANGenerator", latent_dim=4, shape=[1, 8, 8], width=4)
    save_synthesizer(ModuleSynthesizer(module, latent_shape=(4,), value_range=(-1, 1)), tmp_path / "gan")
    return tmp_path / "gan"


@pytest.fixture
def ddpm(tmp_path):
    """A saved diffusion model, which is a folder of diffusers too."""
    model = DiffusersSynthesizer(tiny_nets.unet(), diffusers.DDIMScheduler(), steps=2, value_range=(0, 1))
    save_synthesizer(model, tmp_path / "ddpm")
    return tmp_path / "ddpm"


def replaced(path, make):
    path.unlink()
    make(path)


def reindexed(folder, name, content):
    """Replaces a file together with its recorded hash, as someone who writes the whole folder could."""
    (folder / name).write_bytes(content)
    index = json.loads((folder / "synthesizer.json").read_text())
    index["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / "synthesizer.json").write_text(json.dumps(index))


def edited(folder, change):
    path = folder / "synthesizer.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("file", ["synthesizer.json", "networks/module.safetensors"])
@pytest.mark.parametrize(
    ("make", "kind"),
    [(os.mkfifo, "a named pipe"), (lambda path: path.symlink_to("/dev/zero"), "a device"), (Path.mkdir, "a folder")],
)
def test_only_regular_files_are_read(gan, file, make, kind):
    replaced(gan / file, make)
    with pytest.raises(SynthesizerLoadError, match=rf"must be (a regular file, got {kind}|readable)"):
        load_synthesizer(gan)


@pytest.mark.parametrize("file", ["config.json", "diffusion_pytorch_model.safetensors"])
@pytest.mark.parametrize(
    ("make", "kind"), [(os.mkfifo, "a named pipe"), (lambda path: path.symlink_to("/dev/zero"), "a device")]
)
def test_only_regular_files_of_plain_folders_are_read(ddpm, file, make, kind):
    (ddpm / "synthesizer.json").unlink()
    replaced(ddpm / "unet" / file, make)
    with pytest.raises(SynthesizerLoadError, match=f"must be a regular file, got {kind}"):
        DiffusersSynthesizer.from_pretrained(ddpm, value_range=(0, 1))


def test_an_index_of_shards_may_not_name_a_pickle(ddpm):
    (ddpm / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    for shards in ({"a": "diffusion_pytorch_model.bin"}, {"a": "../evil.safetensors"}, {"a": 3}, [1]):
        (ddpm / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": shards})
        )
        with pytest.raises(SynthesizerLoadError, match=r"`weight_map` must name .*Nothing was loaded"):
            DiffusersSynthesizer.from_pretrained(ddpm, value_range=(0, 1))


def sparse(path, size):
    with path.open("wb") as file:
        file.truncate(size)


def claimed(path, shape):
    header = json.dumps({"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))


@pytest.mark.parametrize(
    "make",
    [
        lambda path: sparse(path, 1 << 40),
        lambda path: sparse(path, 1 << 26),
        lambda path: claimed(path, [1 << 60]),
        lambda path: claimed(path, ["x"]),
        lambda path: claimed(path, [[[]]]),
        lambda path: path.write_bytes(struct.pack("<Q", 1 << 62)),
    ],
)
def test_weights_that_claim_more_than_they_hold(gan, ddpm, make):
    make(gan / "networks" / "module.safetensors")
    with pytest.raises(SynthesizerLoadError, match=r"must have (at most|sha256)|fit its configuration"):
        load_synthesizer(gan)
    (ddpm / "synthesizer.json").unlink()
    make(ddpm / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(SynthesizerLoadError, match=r"must have at most|fit its configuration"):
        DiffusersSynthesizer.from_pretrained(ddpm, value_range=(0, 1))


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a":' * 500 + "1" + "}" * 500,
        '{"a":[' + "0," * 2_000_000 + "0]}",
        '{"a": ' + "9" * 100_000 + "}",
        "{" * 1_000_000,
        '{"a": "\\ud800"}' * 2,
    ],
)
def test_json_that_is_deep_or_long(gan, text):
    (gan / "synthesizer.json").write_text(text)
    with pytest.raises(SynthesizerLoadError, match=r"must (be|hold)"):
        load_synthesizer(gan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index["networks"]["module"]["arguments"].update(width=10**9), "at most 1,048,576"),
        (
            lambda index: index["networks"]["module"]["arguments"].update(width=100_000),
            "not be larger than its weights",
        ),
        (lambda index: index["networks"]["module"]["arguments"].update(width=8), "weights that fit its configuration"),
        (lambda index: index["settings"].update(latent_shape=[10**9]), "at most 1,048,576"),
        (lambda index: index["settings"].update(latent_shape=[100_000, 100_000]), "fit|fails|larger|at most"),
        (lambda index: index["settings"].update(num_classes=10**9), "at most 1,048,576"),
        (lambda index: index["files"].update({"parts/a/" * 50 + "tensors.safetensors": "0"}), "`files` and `parts`"),
        (lambda index: index["files"].update({"networks/module.safetensors": 3}), "`files` and `parts`"),
    ],
)
def test_numbers_of_a_configuration_are_bounded(gan, change, message):
    edited(gan, change)
    with pytest.raises(Exception, match=message) as caught:
        load_synthesizer(gan)
    assert type(caught.value).__module__ == "torchgenaug.errors"


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 200_000_000}),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 1e9}),
        ("scheduler/scheduler_config.json", {"trained_betas": [1] * 10, "num_train_timesteps": -(10**12)}),
        ("unet/config.json", {"layers_per_block": 10**7}),
        ("unet/config.json", {"layers_per_block": 100_000}),
        ("unet/config.json", {"block_out_channels": [1 << 20, 1 << 20]}),
        ("unet/config.json", {"num_class_embeds": 1 << 20}),
        ("unet/config.json", {"sample_size": 10**9}),
        ("unet/config.json", {"sample_size": "x"}),
        ("unet/config.json", {"sample_size": {"a": 1}}),
        ("unet/config.json", {"norm_num_groups": "x"}),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": "x"}),
    ],
)
def test_configurations_of_diffusers_are_bounded(ddpm, file, changes):
    content = json.dumps(json.loads((ddpm / file).read_text()) | changes).encode()
    reindexed(ddpm, file, content)
    with pytest.raises(SynthesizerLoadError):
        load_synthesizer(ddpm)
    (ddpm / "synthesizer.json").unlink()
    with pytest.raises(SynthesizerLoadError):
        DiffusersSynthesizer.from_pretrained(ddpm, value_range=(0, 1), steps=2)


_IN_LITTLE_MEMORY = """
import resource, sys
import torch, diffusers
from torchgenaug import load_synthesizer
from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
import torchgenaug.nets.gan, torchgenaug.synthesizers.module.synthesizer
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load_synthesizer(sys.argv[1])
except SynthesizerLoadError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_refusals_take_little_memory(gan):
    index = json.loads((gan / "synthesizer.json").read_text())
    index["networks"]["module"]["arguments"]["width"] = 20_000
    (gan / "synthesizer.json").write_text(json.dumps(index))
    done = clean_interpreter.run(["-c", _IN_LITTLE_MEMORY, gan])
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 200e6
    assert resource.getpagesize()


def test_a_model_that_could_not_be_loaded_again_is_not_saved(gan, tmp_path):
    synthesizer = load_synthesizer(gan)
    for samples in (["x"] * 1_000_001, ["x" * 40_000_000]):
        synthesizer.trained_on = {"samples": samples}
        with pytest.raises(ConfigurationError, match=r"short enough to be read again.*Nothing was written"):
            save_synthesizer(synthesizer, tmp_path / "other")
        assert not (tmp_path / "other").exists()
    synthesizer.trained_on = None


def test_a_pin_from_outside(gan):
    pin = synthesizer_sha256(gan)
    assert load_synthesizer(gan, sha256=pin) is load_synthesizer(gan, sha256=pin.upper())
    edited(gan, lambda index: index.update(trained_on={"samples": ["another"]}))
    with pytest.raises(SynthesizerLoadError, match=r"must have the sha256 that was given.*nothing of it was used"):
        load_synthesizer(gan, sha256=pin)
    with pytest.raises(SynthesizerLoadError, match=r"damaged, or edited.*remove its entry \"sha256\""):
        load_synthesizer(gan)
    assert load_synthesizer(gan, sha256=synthesizer_sha256(gan)).trained_on == {"samples": ["another"]}
    edited(gan, lambda index: index.pop("sha256"))
    assert load_synthesizer(gan).trained_on == {"samples": ["another"]}


def test_the_index_is_read_once(gan, monkeypatch):
    from torchgenaug.synthesizers.saving import load

    read = []

    def counting(path, max_bytes, original=load.read_file):
        read.append(path)
        return original(path, max_bytes)

    monkeypatch.setattr(load, "read_file", counting)
    load_synthesizer(gan)
    assert len(read) == 1


def _lora(note):
    from safetensors.torch import save

    pair = {"0.lora_A.weight": torch.ones(2, 4), "0.lora_B.weight": torch.ones(4, 2)}
    return lambda path: path.write_bytes(save(pair, metadata={"lora_adapter_metadata": note}))


@pytest.mark.parametrize(
    "make",
    [
        *(os.mkfifo, lambda path: path.symlink_to("/dev/zero")),
        *map(_lora, ("[]", '{"r": 0, "lora_alpha": 1}', '{"r": "x", "lora_alpha": 1}', '{"r": 1, "lora_alpha": NaN}')),
    ],
)
def test_a_hostile_adapter_is_refused(tmp_path, make):
    from torchgenaug.synthesizers.diffusion.lora import merge_lora

    make(tmp_path / "lora.safetensors")
    with pytest.raises(SynthesizerLoadError, match=r"`lora` must (be a safetensors file|scale all layers)"):
        merge_lora(torch.nn.Sequential(torch.nn.Linear(4, 4)), tmp_path / "lora.safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_far_larger_than_their_network_are_not_read(tmp_path, suffix):
    from torchgenaug.metrics.features.weights import checked_state_dict

    with (tmp_path / f"file{suffix}").open("wb") as file:
        file.truncate(1 << 40)  # of holes: to hash it takes hours
    with pytest.raises(SynthesizerLoadError, match=r"at most .* bytes, got 1,099,511,627,776. Nothing of it was read"):
        checked_state_dict(tmp_path / f"file{suffix}", torch.nn.Linear(4, 4))
