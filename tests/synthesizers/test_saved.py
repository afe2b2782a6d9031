from __future__ import annotations

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import diffusers
import pytest
import tiny_nets
import torch

from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.synthesizers import DiffusersSynthesizer, FunctionSynthesizer, load_synthesizer, save_synthesizer
from torchgenaug.synthesizers.saving import folder as saved
from torchgenaug.synthesizers.saving import load as loading
from torchgenaug.types import FieldSpec


def plain(**options):
    options = {"steps": 2, "value_range": (0, 1)} | options
    return DiffusersSynthesizer(tiny_nets.unet(), diffusers.DDIMScheduler(), **options)


def full():
    made = DiffusersSynthesizer(
        tiny_nets.unet(2, classes=4),
        diffusers.DDPMScheduler(variance_type="fixed_large"),
        vae=tiny_nets.autoencoder(),
        steps=2,
        guidance_scale=2.0,
        value_range=(-1000, 2000),
        clip=True,
        null_class=3,
        dtype=torch.bfloat16,
    )
    made.trained_on = {"patients": ["a", "b"]}
    return made


@pytest.fixture
def folder(tmp_path):
    save_synthesizer(plain(), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("make", [plain, full, lambda: plain(dtype=torch.float64)])
def test_round_trip(tmp_path, make):
    made = make()
    save_synthesizer(made, tmp_path / "a" / "model")
    loaded = load_synthesizer(tmp_path / "a" / "model")
    assert loaded.fingerprint == made.fingerprint
    assert loaded.settings == made.settings
    assert loaded.trained_on == made.trained_on
    conditions = None if made.num_classes is None else {"label": torch.tensor([0, 1])}
    assert torch.equal(loaded.synthesize([1, 2], conditions)["image"], made.synthesize([1, 2], conditions)["image"])


@pytest.mark.parametrize("weights_dtype", [torch.float16, torch.bfloat16])
def test_small_weights_round_trip_under_the_fingerprint_of_what_is_stored(tmp_path, weights_dtype):
    made = plain()
    save_synthesizer(made, tmp_path / "full")
    save_synthesizer(made, tmp_path / "small", weights_dtype=weights_dtype)
    file = "unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "small" / file).stat().st_size < 0.6 * (tmp_path / "full" / file).stat().st_size
    loaded = load_synthesizer(tmp_path / "small")
    index = json.loads((tmp_path / "small" / "synthesizer.json").read_text())
    assert loaded.fingerprint == index["fingerprint"] != made.fingerprint
    assert loaded.unet.dtype == torch.float32
    rounding = (loaded.synthesize([1])["image"] - made.synthesize([1])["image"]).abs().max()
    assert 0 < rounding < 0.1
    save_synthesizer(loaded, tmp_path / "again", weights_dtype=weights_dtype)
    assert load_synthesizer(tmp_path / "again").fingerprint == loaded.fingerprint


def test_weights_too_large_for_the_dtype_are_refused(tmp_path):
    net = tiny_nets.unet()
    with torch.no_grad():
        net.conv_in.weight[0] = 1e5
    made = DiffusersSynthesizer(net, diffusers.DDIMScheduler(), value_range=(0, 1))
    with pytest.raises(
        ConfigurationError, match=r"got torch.float16, in which unet.conv_in.weight overflows.*bfloat16"
    ):
        save_synthesizer(made, tmp_path / "model", weights_dtype=torch.float16)
    with pytest.raises(ConfigurationError, match=r"`weights_dtype` must be torch.float16.*got torch.int8"):
        save_synthesizer(made, tmp_path / "model", weights_dtype=torch.int8)
    assert list(tmp_path.iterdir()) == []


def test_the_layout_is_that_of_diffusers_and_says_nothing_about_this_machine(tmp_path):
    tiny_nets.unet().save_pretrained(tmp_path / "origin" / "unet")
    diffusers.DDIMScheduler().save_pretrained(tmp_path / "origin" / "scheduler")
    made = DiffusersSynthesizer.from_pretrained(tmp_path / "origin", steps=2, value_range=(0, 1))
    save_synthesizer(made, tmp_path / "model")
    again = DiffusersSynthesizer.from_pretrained(tmp_path / "model", steps=2, value_range=(0, 1))
    assert again.fingerprint == made.fingerprint
    for file in (tmp_path / "model").rglob("*"):
        assert file.is_dir() or str(tmp_path).encode() not in file.read_bytes()
        assert (
            file.stat().st_mode & 0o077
            == (tmp_path / "origin" / ("unet" if file.is_dir() else "unet/config.json")).stat().st_mode & 0o077
        )


def full_disk(_):
    raise OSError("disk full")


def test_saving_is_all_or_nothing(tmp_path, monkeypatch, folder):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigurationError, match=r"`path` must be a new folder.*exists. Nothing was written"):
        save_synthesizer(plain(), folder)
    with monkeypatch.context() as patch:
        patch.setattr(saved.os, "fsync", full_disk)
        with pytest.raises(OSError, match="disk full"):
            save_synthesizer(plain(), tmp_path / "other")
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    save_synthesizer(plain(), tmp_path / "empty")
    assert load_synthesizer(tmp_path / "empty").fingerprint == load_synthesizer(folder).fingerprint


def test_other_synthesizers_are_named_as_factories(tmp_path):
    other = FunctionSynthesizer(print, {"image": FieldSpec((1, 2, 2))}, fingerprint="x")
    with pytest.raises(ConfigurationError, match=r"got FunctionSynthesizer.*package.module:factory"):
        save_synthesizer(other, tmp_path / "model")


def test_loaded_once_per_path_dtype_and_content(tmp_path, folder):
    first = load_synthesizer(folder)
    with ThreadPoolExecutor(4) as pool:
        assert all(one is first for one in pool.map(load_synthesizer, [folder, str(folder)] * 4))
    (tmp_path / "link").symlink_to(folder)
    assert load_synthesizer(tmp_path / "link") is first
    half = load_synthesizer(folder, dtype=torch.bfloat16)
    assert half is not first
    assert half.dtype == torch.bfloat16
    assert load_synthesizer(folder, device="cpu") is first
    shutil.rmtree(folder)
    save_synthesizer(plain(steps=3), folder)
    assert load_synthesizer(folder).steps == 3


def test_the_index_is_read_once(folder, monkeypatch):
    """So the sha256 by which a loaded synthesizer is found again is that of what was parsed."""
    read, read_file = [], loading.read_file

    def counting(path, *rest):
        read.append(path.name)
        return read_file(path, *rest)

    monkeypatch.setattr(loading, "read_file", counting)
    load_synthesizer(folder)
    assert read.count("synthesizer.json") == 1


def test_nothing_is_kept_that_nobody_holds(folder):
    before = len(loading._loaded)
    synthesizer = load_synthesizer(folder)
    assert len(loading._loaded) == before + 1
    del synthesizer
    assert len(loading._loaded) == before


@pytest.mark.parametrize("file", ["unet/diffusion_pytorch_model.safetensors", "unet/config.json"])
@pytest.mark.parametrize("place", [0, 40, -1])
def test_one_changed_byte_anywhere_is_noticed(folder, file, place):
    content = bytearray((folder / file).read_bytes())
    content[place] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(SynthesizerLoadError, match=r"must have sha256 .*damaged or exchanged"):
        load_synthesizer(folder)


def test_weights_are_checked_before_they_are_parsed(folder, monkeypatch):
    import safetensors.torch

    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"hostile")
    monkeypatch.setattr(safetensors.torch, "load", lambda *_: pytest.fail("unchecked bytes were parsed"))
    with pytest.raises(SynthesizerLoadError, match="sha256"):
        load_synthesizer(folder)


def test_missing_weights(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(SynthesizerLoadError, match=r"safetensors must be readable"):
        load_synthesizer(folder)


def replace_file(folder, name, content):
    """Changes a file together with its recorded hash, as someone who writes the whole folder could."""
    (folder / name).write_bytes(content)
    index = json.loads((folder / "synthesizer.json").read_text())
    index["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / "synthesizer.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("unet/config.json", b'{"_class_name": "Evil"}', "must be UNet2DModel of diffusers itself, got 'Evil'"),
        ("scheduler/scheduler_config.json", b'{"_class_name": "Evil"}', "a scheduler of diffusers itself"),
        ("unet/diffusion_pytorch_model.safetensors", b"x", "weights that fit its configuration"),
        ("unet/config.json", b"[]", "must hold a JSON object"),
    ],
)
def test_consistent_but_hostile_content(folder, name, content, message):
    replace_file(folder, name, content)
    with pytest.raises(SynthesizerLoadError, match=message):
        load_synthesizer(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, r"version 1 or older, got 2.*pip install -U torchgenaug"),
        ({"version": None}, "format 'torchgenaug.synthesizer' and a version"),
        ({"format": "other"}, "got 'other'"),
        (
            {"family": "crystal ball"},
            "`family` must be one of .*diffusers, .*got 'crystal ball'.*package.module:factory",
        ),
        ({"files": {"../evil.safetensors": "0"}}, "Nothing else is opened: no pickles, no paths outside"),
        ({"files": None}, "`files` must name"),
        ({"settings": {}}, "fit its configuration, got KeyError"),
    ],
)
def test_index_of_another_kind(folder, change, message):
    path = folder / "synthesizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SynthesizerLoadError, match=message):
        load_synthesizer(folder)


@pytest.mark.parametrize(
    "extra", ["unet/diffusion_pytorch_model.bin", "unet/../../evil.safetensors", "vae/config.json"]
)
def test_additional_files_in_the_index(folder, extra):
    path = folder / "synthesizer.json"
    index = json.loads(path.read_text())
    index["files"][extra] = "0"
    path.write_text(json.dumps(index))
    with pytest.raises(SynthesizerLoadError, match="`files` must name"):
        load_synthesizer(folder)


def test_plain_diffusers_folders_are_told_the_way(tmp_path, folder):
    (folder / "synthesizer.json").unlink()
    with pytest.raises(
        SynthesizerLoadError, match=r"DiffusersSynthesizer.from_pretrained\('.*model', value_range=\(0, 1\)\)"
    ):
        load_synthesizer(folder)
    with pytest.raises(SynthesizerLoadError, match=r"Check the path, or write such a folder with save_synthesizer"):
        load_synthesizer(tmp_path / "nowhere")
