"""`DiffusersSynthesizer.from_pretrained`: what is loaded, and what never is."""

from __future__ import annotations

import json
import pickle
import re
import shutil

import diffusers
import huggingface_hub
import pytest
import tiny_nets
import torch
from safetensors.torch import load_file, save_file

from torchgenaug.errors import SynthesizerLoadError
from torchgenaug.synthesizers import DiffusersSynthesizer


def load(path, **options):
    return DiffusersSynthesizer.from_pretrained(path, steps=2, value_range=(0, 1), **options)


@pytest.fixture
def folder(tmp_path):
    diffusers.DDPMPipeline(tiny_nets.unet(), diffusers.DDPMScheduler()).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_pipeline_folder_is_the_same_as_its_components(folder):
    expected = DiffusersSynthesizer(tiny_nets.unet(), diffusers.DDPMScheduler(), steps=2, value_range=(0, 1))
    made = load(folder)
    assert made.fingerprint == expected.fingerprint
    assert torch.equal(made.synthesize([1])["image"], expected.synthesize([1])["image"])
    (folder / "model_index.json").unlink()
    assert load(str(folder)).fingerprint == expected.fingerprint


def test_all_settings_arrive(tmp_path):
    tiny_nets.unet(3, classes=4).save_pretrained(tmp_path / "unet")
    diffusers.DDIMScheduler().save_pretrained(tmp_path / "scheduler")
    options = {"guidance_scale": 2.0, "label_channels": 2, "clip": True, "null_class": 3, "dtype": torch.bfloat16}
    made = load(tmp_path, **options, device="cpu")
    expected = {"steps": 2, "value_range": [0.0, 1.0], **options, "dtype": "bfloat16"}
    assert made.settings == expected


@pytest.mark.parametrize("name", ["vae", "vqvae"])
def test_latent_diffusion(tmp_path, name):
    vae = tiny_nets.autoencoder() if name == "vae" else tiny_nets.vq_model()
    tiny_nets.unet(2).save_pretrained(tmp_path / "unet")
    diffusers.DDIMScheduler().save_pretrained(tmp_path / "scheduler")
    vae.save_pretrained(tmp_path / name)
    expected = DiffusersSynthesizer(tiny_nets.unet(2), diffusers.DDIMScheduler(), vae=vae, steps=2, value_range=(0, 1))
    assert torch.equal(load(tmp_path).synthesize([1])["image"], expected.synthesize([1])["image"])
    tiny_nets.autoencoder().save_pretrained(tmp_path / ("vqvae" if name == "vae" else "vae"))
    with pytest.raises(SynthesizerLoadError, match=r"vae/ or vqvae/, got both"):
        load(tmp_path)


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_half_precision_weights_compute_in_float32(folder, variant):
    shutil.rmtree(folder / "unet")
    half = tiny_nets.unet()
    torch.nn.Module.half(half).save_pretrained(folder / "unet", variant=variant)
    made = load(folder)
    assert made.unet.dtype == torch.float32
    assert (made.unet.conv_in.weight == half.conv_in.weight.float()).all()


def test_sharded_weights(folder):
    shutil.rmtree(folder / "unet")
    tiny_nets.unet().save_pretrained(folder / "unet", max_shard_size="20KB")
    assert len(list((folder / "unet").glob("*.safetensors"))) > 1
    assert (load(folder).unet.conv_in.weight == tiny_nets.unet().conv_in.weight).all()


def test_pickled_weights_are_never_opened(folder, monkeypatch):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    (weights.parent / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))
    with pytest.raises(
        SynthesizerLoadError, match=r"got \['diffusion_pytorch_model.bin'\]. Pickled.*use_safetensors=Fal"
    ):
        load(folder)


def test_weights_that_do_not_fit(folder):
    edit(folder / "unet" / "config.json", block_out_channels=[8, 16])
    with pytest.raises(
        SynthesizerLoadError,
        match=r"got 2 missing .*68 of another shape",
    ):
        load(folder)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        (
            "model_index.json",
            {"_class_name": ["my_pipeline", "MyPipeline"]},
            r"a pipeline of diffusers itself, got \['my",
        ),
        ("model_index.json", {"_class_name": "EvilPipeline"}, "got 'EvilPipeline'.*never run"),
        ("model_index.json", {"unet": ["my_module", "UNet2DModel"]}, "'unet' = .*my_module.*FunctionSynthesizer"),
        ("model_index.json", {"text_encoder": ["transformers", "CLIPTextModel"]}, "'text_encoder'"),
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "must be UNet2DModel of diffusers itself"),
        ("unet/config.json", {"_class_name": "os.system"}, "got 'os.system'"),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "Evil"},
            "must be a scheduler of diffusers itself, got 'Evil'",
        ),
        ("scheduler/scheduler_config.json", {"_class_name": "MyScheduler"}, "got 'MyScheduler'"),
        ("scheduler/scheduler_config.json", {"_class_name": None}, "got None"),
    ],
)
def test_foreign_classes_are_refused(folder, file, changes, message):
    edit(folder / file, **changes)
    with pytest.raises(SynthesizerLoadError, match=message):
        load(folder)


def test_incomplete_or_unreadable_folders(folder, tmp_path):
    (folder / "unet" / "config.json").write_text("{")
    with pytest.raises(SynthesizerLoadError, match=r"config.json must be a JSON file"):
        load(folder)
    (folder / "unet" / "config.json").write_text("[1]")
    with pytest.raises(SynthesizerLoadError, match=r"must hold a JSON object, got \[1\]"):
        load(folder)
    (folder / "unet" / "config.json").unlink()
    with pytest.raises(SynthesizerLoadError, match=r"`path` must hold config.json"):
        load(folder)
    shutil.rmtree(folder / "scheduler")
    with pytest.raises(
        SynthesizerLoadError, match=r"without scheduler/. Save a pipeline with pipeline.save_pretrained"
    ):
        load(folder)


def test_the_hub_needs_a_pinned_commit_and_only_data_files_are_fetched(folder, monkeypatch):
    fetched = {}

    def download(hub_id, **options):
        fetched[hub_id] = options
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    for revision in (None, "main", "a" * 39, "A" * 40):
        with pytest.raises(SynthesizerLoadError, match=r"`revision` must be a commit of 40 hexadecimal digits"):
            load("owner/name", revision=revision)
    for path in ("nowhere", "/no/such/folder", "../owner/name"):
        with pytest.raises(SynthesizerLoadError, match=r"`path` must be a folder"):
            load(path, revision="a" * 40)
    assert not fetched
    load("owner/name", revision="a" * 40)
    options = fetched["owner/name"]
    assert options["revision"] == "a" * 40
    assert all(pattern.endswith((".json", ".safetensors")) for pattern in options["allow_patterns"])


def test_weights_that_do_not_fit_the_network_are_no_noise(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    held = load_file(weights)
    name = sorted(held)[0]
    save_file({key: value for key, value in held.items() if key != name}, weights)
    with pytest.raises(SynthesizerLoadError, match=rf"got 1 missing \({re.escape(name)} …\). It would sample"):
        load(folder)
    save_file(held | {"another": torch.zeros(1)}, weights)
    with pytest.raises(SynthesizerLoadError, match=r"got 1 unexpected \(another …\)"):
        load(folder)


def test_a_scheduler_with_settings_that_it_does_not_know(folder):
    place = folder / "scheduler" / "scheduler_config.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"beta_schedule": "nonsense"}))
    with pytest.raises(SynthesizerLoadError, match=r"must hold settings that \w+Scheduler knows, got .*nonsense"):
        load(folder)
