from __future__ import annotations

import json
import os
import pickle
from functools import reduce

import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("monai")
import tiny_monai as tiny

from torchgenaug import MonaiSynthesizer, load_monai_bundle, load_synthesizer, save_synthesizer
from torchgenaug.errors import SynthesizerLoadError

OPTIONS = {"size": (8, 8, 8), "steps": 2, "value_range": (0.0, 1.0), "scale_factor": 0.5}


def definition(network, package="monai.networks.nets"):
    blueprint = network.blueprint
    return {"_target_": f"{package}.{blueprint['class'].removeprefix('monai:')}", **blueprint["arguments"]}


def config(network, decoder):
    """As in the model zoo: a program, of which three definitions matter."""
    return {
        "imports": ["$import os", "$os.makedirs('evil')"],
        "bundle_root": ".",
        "spatial_dims": 3,
        "latent": {"channels": [2, 3]},
        "device": "$torch.device('cuda:0')",
        "network_def": {**definition(network), "spatial_dims": "@spatial_dims", "in_channels": "@latent#channels#0"},
        "autoencoder_def": {**definition(decoder), "latent_channels": "@latent::channels::0", "use_checkpoint": True},
        "load_diffusion": "$@network_def.load_state_dict(torch.load(@bundle_root + '/models/model.pt'))",
        "noise_scheduler": {
            "_target_": "monai.networks.schedulers.DDIMScheduler",
            "_requires_": ["@load_diffusion"],
            "num_train_timesteps": 20,
            "schedule": "scaled_linear_beta",
            "beta_start": 0.0015,
            "beta_end": 0.0195,
            "clip_sample": False,
        },
        "sampler": {"_target_": "scripts.sampler.Sampler"},
        "run": ["$@sampler(@noise)"],
    }


@pytest.fixture
def networks():
    return tiny.unet(3, channels=2), tiny.autoencoder(3)


@pytest.fixture
def bundle(tmp_path, networks):
    """A folder as the model zoo has them."""
    folder = tmp_path / "bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    write(folder, config(*networks))
    torch.save(networks[0].state_dict(), folder / "models" / "model.pt")
    torch.save(networks[1].state_dict(), folder / "models" / "model_autoencoder.pt")
    return folder


def write(folder, content):
    (folder / "configs" / "inference.json").write_text(json.dumps(content))


def config_of(folder):
    return json.loads((folder / "configs" / "inference.json").read_text())


def changed(folder, key, **changes):
    content = json.loads((folder / "configs" / "inference.json").read_text())
    content[key] = {**content[key], **changes}
    write(folder, content)


def test_a_bundle_is_sampled_saved_and_reloaded(bundle, networks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parts = load_monai_bundle(bundle, allow_pickle=True)
    assert sorted(parts) == ["autoencoder", "controlnet", "scheduler", "unet"]
    synthesizer = MonaiSynthesizer(**parts, **OPTIONS)
    expected = MonaiSynthesizer(networks[0], parts["scheduler"], autoencoder=networks[1], **OPTIONS)
    assert synthesizer.fingerprint == expected.fingerprint
    assert torch.equal(synthesizer.synthesize([1])["image"], expected.synthesize([1])["image"])
    save_synthesizer(synthesizer, tmp_path / "saved")
    assert load_synthesizer(tmp_path / "saved").fingerprint == synthesizer.fingerprint
    assert not os.path.exists("evil")


def test_pickles_are_refused_unless_asked_for(bundle):
    with pytest.raises(
        SynthesizerLoadError, match=r"must be safetensors, got the pickle .*model\.pt.*allow_pickle=True"
    ):
        load_monai_bundle(bundle)


def test_safetensors_need_no_trust_and_come_first(bundle, networks):
    for name, network in zip(("model", "autoencoder"), networks, strict=True):
        save_file(network.state_dict(), bundle / "models" / f"{name}.safetensors")
    (bundle / "models" / "model.pt").write_bytes(b"no weights")
    assert load_monai_bundle(bundle)["autoencoder"] is not None


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def test_a_pickle_that_wants_to_run_code_is_refused(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, bundle / "models" / "model.pt")
    with pytest.raises(SynthesizerLoadError, match="must hold tensors in plain containers"):
        load_monai_bundle(bundle, allow_pickle=True)
    (bundle / "models" / "model.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(SynthesizerLoadError, match="must hold tensors in plain containers"):
        load_monai_bundle(bundle, allow_pickle=True)
    assert not os.path.exists("evil")


def moved(content):
    """The same with its networks in a table."""
    return {"networks": {"a": content["network_def"], "b": content["autoencoder_def"]}} | {
        key: content[key] for key in content if key not in ("network_def", "autoencoder_def")
    }


@pytest.mark.parametrize("layout", ["common and infer", "nested", "named", "two schedulers", "disabled"])
def test_layouts_of_bundles(bundle, networks, layout):
    """As the GenerativeModels package and tutorials have them."""
    content, configs, config = config_of(bundle), bundle / "configs", None
    (configs / "metadata.json").write_text('{"version": "0.1.0"}')
    if layout == "nested":
        write(bundle, moved(content))
    elif layout == "two schedulers":
        other = {**content["noise_scheduler"], "_target_": "monai.networks.schedulers.DDPMScheduler"}
        inferer = {"_target_": "monai.inferers.DiffusionInferer", "scheduler": "@noise_scheduler"}
        write(bundle, {"train_scheduler": other, **content, "inferer": inferer})
    elif layout == "disabled":
        write(bundle, {**content, "old": {**content["network_def"], "_disabled_": True}})
    else:
        (configs / "inference.json").unlink()
        program = {key: content.pop(key) for key in ("sampler", "run", "noise_scheduler")}
        names = ("common.yaml", "infer.yaml") if layout == "common and infer" else ("a.json", "b.json")
        for name, part in zip(names, (content, program), strict=True):
            (configs / name).write_text(json.dumps(part))  # which is YAML, too
        config = None if layout == "common and infer" else [f"configs/{name}" for name in names]
    parts = load_monai_bundle(bundle, allow_pickle=True, config=config)
    assert type(parts["scheduler"]).__name__ == "DDIMScheduler"
    made, expected = (
        MonaiSynthesizer(unet, parts["scheduler"], autoencoder=autoencoder, **OPTIONS)
        for unet, autoencoder in ((parts["unet"], parts["autoencoder"]), networks)
    )
    assert made.fingerprint == expected.fingerprint


@pytest.mark.parametrize("wrap", [lambda s: {"state_dict": s}, lambda s: {"net": s, "epoch": 3}])
def test_checkpoints_of_trainers_are_unwrapped(bundle, networks, wrap):
    state = {f"module.{name}": value for name, value in networks[0].state_dict().items()}
    torch.save(wrap(state), bundle / "models" / "model.pt")
    loaded = load_monai_bundle(bundle, allow_pickle=True)["unet"]
    assert all(torch.equal(value, networks[0].state_dict()[name]) for name, value in loaded.state_dict().items())


def test_networks_of_the_package_before_monai_14_load(bundle, networks):
    """Other names of the package, of an argument, and of weights."""
    old = definition(networks[0], "generative.networks.nets")
    old["num_channels"] = old.pop("channels")
    content = json.loads((bundle / "configs" / "inference.json").read_text())
    write(bundle, {**content, "network_def": old})
    new = networks[0].state_dict()
    renamed = (("postconv", "conv"), (".attn.to_", ".to_"), (".attn.out_proj.", ".proj_attn."))
    state = {reduce(lambda known, pair: known.replace(*pair), renamed, name): value for name, value in new.items()}
    assert set(state) != set(new)
    torch.save(state, bundle / "models" / "model.pt")
    loaded = load_monai_bundle(bundle, allow_pickle=True)["unet"]
    assert all(torch.equal(value, networks[0].state_dict()[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("key", "changes", "message"),
    [
        (
            "network_def",
            {"channels": "$__import__('os').mkdir('evil') or [8, 8]"},
            "must be plain values, got ..__import",
        ),
        ("network_def", {"channels": ["$os", 8]}, "must be plain values"),
        ("network_def", {"channels": "%other.json#channels"}, "must be plain values"),
        (
            "network_def",
            {"channels": "@unknown"},
            "must be plain values, got '@unknown' at .*'network_def', 'channels'",
        ),
        ("network_def", {"channels": "@device"}, "must be plain values, got ..torch.device"),
        ("network_def", {"channels": "@latent#channels#7"}, "must be plain values"),
        ("network_def", {"channels": "@sampler"}, "must be plain values"),
        ("network_def", {"norm_eps": {"_target_": "os.mkdir"}}, "must be plain values"),
        ("network_def", {"channels": "@network_def#channels"}, "go round in a circle"),
        (
            "network_def",
            {"_target_": "scripts.evil.DiffusionModelUNet"},
            "must be a class of monai.networks.nets, got 'scr",
        ),
        ("network_def", {"_target_": "monai.networks.nets.UNet"}, "must define one DiffusionModelUNet"),
        ("network_def", {"no_such": 1}, "must be (what|those of) its constructor"),
        ("network_def", {"norm_num_groups": 3}, "must be (what|those of) its constructor"),
        ("network_def", {"num_head_channels": 4, "channels": [8, 12]}, "Weights must fit the definition"),
        ("noise_scheduler", {"_target_": "evil.DDIMScheduler"}, "must be a class of monai.networks.schedulers"),
        ("noise_scheduler", {"_target_": "torch.optim.Adam"}, "must define one scheduler"),
        ("noise_scheduler", {"schedule": "$evil"}, "must be plain values"),
        ("noise_scheduler", {"schedule": "unknown"}, "must give DDIMScheduler the arguments that it takes"),
        (
            "autoencoder_def",
            {"_target_": "monai.networks.nets.DiffusionModelUNet"},
            "got .'network_def', 'autoencoder_def'",
        ),
    ],
)
def test_nothing_is_evaluated_and_what_does_not_fit_is_named(bundle, key, changes, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changed(bundle, key, **changes)
    with pytest.raises(SynthesizerLoadError, match=message):
        load_monai_bundle(bundle, allow_pickle=True)
    assert not os.path.exists("evil")


def test_missing_and_foreign_files_are_named(bundle, tmp_path):
    with pytest.raises(SynthesizerLoadError, match=r"must hold inference\.json"):
        load_monai_bundle(tmp_path)
    with pytest.raises(SynthesizerLoadError, match=r"must be inside it, got '\.\./model\.pt'"):
        load_monai_bundle(bundle, weights={"unet": "../model.pt"}, allow_pickle=True)
    torch.save([1, 2], bundle / "models" / "list.pt")
    with pytest.raises(SynthesizerLoadError, match="must hold a state_dict, got list"):
        load_monai_bundle(bundle, weights={"unet": "models/list.pt"}, allow_pickle=True)
    (bundle / "models" / "model.pt").unlink()
    with pytest.raises(SynthesizerLoadError, match=r"must hold the weights of the unet, got none of .*weights="):
        load_monai_bundle(bundle, allow_pickle=True)
    outside = tmp_path / "outside.pt"
    torch.save({}, outside)
    (bundle / "models" / "model.pt").symlink_to(outside)
    with pytest.raises(SynthesizerLoadError, match="must be inside it"):
        load_monai_bundle(bundle, allow_pickle=True)


def test_weights_may_be_named(bundle, networks):
    torch.save(networks[0].state_dict(), bundle / "models" / "best.pt")
    (bundle / "models" / "model.pt").unlink()
    assert load_monai_bundle(bundle, weights={"unet": "models/best.pt"}, allow_pickle=True)["unet"] is not None


def to_yaml(folder, text=None):
    import yaml

    path = folder / "configs" / "inference.json"
    (folder / "configs" / "inference.yaml").write_text(
        yaml.safe_dump(json.loads(path.read_text())) if text is None else text
    )
    path.unlink()


def test_a_configuration_in_yaml_is_the_same(bundle):
    first = MonaiSynthesizer(**load_monai_bundle(bundle, allow_pickle=True), **OPTIONS)
    to_yaml(bundle)
    second = MonaiSynthesizer(**load_monai_bundle(bundle, allow_pickle=True), **OPTIONS)
    assert first.fingerprint == second.fingerprint


LAUGHS = "\n".join(
    ["a0: &a0 [1,1,1,1,1,1,1,1,1]"]
    + [f"a{k}: &a{k} [{','.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)]
    + ["network_def: {_target_: DiffusionModelUNet, channels: *a11}", "s: {_target_: DDIMScheduler}"]
)


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 60_000,
        "!!python/object/apply:os.system ['echo evil']",
        "a: &a [*a]\nnetwork_def: {_target_: DiffusionModelUNet, channels: *a}\ns: {_target_: DDIMScheduler}",
        LAUGHS,
        "- 1",
        "a: [1",
        "x" * 100_000,
        "? [1, 2]\n: 3",
        "a: " + "9" * 60_000,
    ],
)
def test_hostile_yaml(bundle, text, monkeypatch):
    monkeypatch.setattr(os, "system", lambda *_: pytest.fail("code was run"))
    to_yaml(bundle, text)
    with pytest.raises(SynthesizerLoadError):
        load_monai_bundle(bundle, allow_pickle=True)


def test_references_that_multiply_are_refused(bundle):
    content = json.loads((bundle / "configs" / "inference.json").read_text())
    content["a0"] = [1] * 9
    for k in range(1, 12):
        content[f"a{k}"] = [f"@a{k - 1}"] * 9
    content["network_def"]["channels"] = "@a11"
    write(bundle, content)
    with pytest.raises(SynthesizerLoadError, match=r"at most 10,000 parts.*Nothing was built"):
        load_monai_bundle(bundle, allow_pickle=True)


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("network_def", {"num_res_blocks": 10**7}),
        ("network_def", {"channels": [10**9, 10**9]}),
        ("network_def", {"channels": [4096, 1 << 20]}),
        ("noise_scheduler", {"num_train_timesteps": 10**9}),
        ("noise_scheduler", {"num_train_timesteps": 2 * 10**8}),
    ],
)
def test_numbers_are_bounded(bundle, key, changes):
    changed(bundle, key, **changes)
    with pytest.raises(SynthesizerLoadError):
        load_monai_bundle(bundle, allow_pickle=True)


def test_weights_are_regular_files_without_compression(bundle, networks):
    import zipfile

    path = bundle / "models" / "model.pt"
    path.unlink()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    with pytest.raises(SynthesizerLoadError, match="uncompressed"):
        load_monai_bundle(bundle, allow_pickle=True)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(SynthesizerLoadError, match="must be a regular file, got a named pipe"):
        load_monai_bundle(bundle, allow_pickle=True)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(SynthesizerLoadError, match="must be inside it"):
        load_monai_bundle(bundle, allow_pickle=True)


def test_loading_moves_no_global_random_state(bundle):
    state = torch.get_rng_state()
    load_monai_bundle(bundle, allow_pickle=True)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_autoencoder_alone_is_named_with_its_way(bundle):
    content = json.loads((bundle / "configs" / "inference.json").read_text())
    write(bundle, {key: content[key] for key in ("autoencoder_def", "latent")} | {"spatial_dims": 3})
    with pytest.raises(SynthesizerLoadError, match=r"got the autoencoder alone.*ModuleSynthesizer\(module"):
        load_monai_bundle(bundle, allow_pickle=True)
