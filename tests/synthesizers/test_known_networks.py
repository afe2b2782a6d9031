"""Every network class that a saved folder may name is built alone: no connection, no file, no global random state."""

from __future__ import annotations

import inspect
import sys

import pytest
import torch

from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.synthesizers import ModuleSynthesizer, build_network, load_synthesizer, save_synthesizer
from torchgenaug.synthesizers.diffusion.folder import scheduler_from_config
from torchgenaug.synthesizers.monai.schedulers import SCHEDULERS
from torchgenaug.synthesizers.parts.blueprints import _ELSEWHERE, _network_class, _parameters, from_blueprint
from torchgenaug.synthesizers.parts.known_networks import KNOWN_NETWORKS

_D2 = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1}
_NETS = {"channels": [4, 8], "strides": [2, 2]}
_SEQUENCE = {"in_shape": [1, 8, 8], **_NETS}
_ATTENTION = {"channels": [4, 8], "attention_levels": [False, False], "num_res_blocks": 1, "norm_num_groups": 2}
_LATENT = {**_D2, **_ATTENTION, "latent_channels": 2}
_VIT = {"in_channels": 1, "img_size": [16, 16], "hidden_size": 24, "mlp_dim": 24, "num_layers": 1, "num_heads": 2}
_BLOCKS = {"down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"], "block_out_channels": [32]}
_CODER = {"block_out_channels": [32]}
_ARGUMENTS = {
    "monai:AttentionUnet": {**_D2, **_NETS},
    "monai:AutoEncoder": {**_D2, **_NETS},
    "monai:AutoencoderKL": _LATENT,
    "monai:BasicUNet": {**_D2, "features": [4, 4, 4, 4, 4, 4]},
    "monai:BasicUNetPlusPlus": {**_D2, "features": [4, 4, 4, 4, 4, 4]},
    "monai:Classifier": {**_SEQUENCE, "classes": 2},
    "monai:ControlNet": {"spatial_dims": 2, "in_channels": 1, **_ATTENTION},
    "monai:Critic": _SEQUENCE,
    "monai:DenseNet": {**_D2, "block_config": [1, 1]},
    "monai:DiffusionModelUNet": {**_D2, **_ATTENTION},
    "monai:Discriminator": _SEQUENCE,
    "monai:DynUNet": {**_D2, "kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]},
    "monai:FullyConnectedNet": {"in_channels": 2, "out_channels": 2, "hidden_channels": [4]},
    "monai:Generator": {"latent_shape": 3, "start_shape": [4, 4, 4], **_NETS},
    "monai:HighResNet": _D2,
    "monai:MultiScalePatchDiscriminator": {
        "num_d": 1,
        "num_layers_d": 1,
        "channels": 4,
        **_D2,
    },
    "monai:PatchDiscriminator": {"spatial_dims": 2, "in_channels": 1, "channels": 4, "num_layers_d": 1},
    "monai:Regressor": {**_SEQUENCE, "out_shape": [2]},
    "monai:ResNet": {
        "block": "basic",
        "layers": [1, 1, 1, 1],
        "block_inplanes": [4, 4, 4, 4],
        "spatial_dims": 2,
        "n_input_channels": 1,
    },
    "monai:SPADEAutoencoderKL": {**_LATENT, "label_nc": 2},
    "monai:SPADEDiffusionModelUNet": {**_D2, **_ATTENTION, "label_nc": 2},
    "monai:SPADENet": {
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": 1,
        "label_nc": 2,
        "input_shape": [16, 16],
        "channels": [4, 8],
        "z_dim": 4,
        "is_vae": False,
    },
    "monai:SegResNet": {"spatial_dims": 2},
    "monai:SegResNetDS": {"spatial_dims": 2},
    "monai:SegResNetVAE": {"spatial_dims": 2, "input_image_size": [32, 32]},
    "monai:SwinUNETR": {"in_channels": 1, "out_channels": 1, "spatial_dims": 2, "feature_size": 12},
    "monai:UNETR": {
        "in_channels": 1,
        "out_channels": 1,
        "img_size": [32, 32],
        "spatial_dims": 2,
        "hidden_size": 24,
        "mlp_dim": 24,
        "num_heads": 2,
        "feature_size": 4,
    },
    "monai:UNet": {**_D2, "channels": [4, 8], "strides": [2]},
    "monai:VNet": {"spatial_dims": 2},
    "monai:VQVAE": {
        **_D2,
        "channels": [4],
        "num_res_channels": [4],
        "num_res_layers": 1,
        "num_embeddings": 4,
        "embedding_dim": 2,
        "downsample_parameters": [[2, 4, 1, 1]],
        "upsample_parameters": [[2, 4, 1, 1, 0]],
    },
    "monai:VarAutoEncoder": {"spatial_dims": 2, "in_shape": [1, 8, 8], "out_channels": 1, "latent_size": 2, **_NETS},
    "monai:VarFullyConnectedNet": {
        "in_channels": 2,
        "out_channels": 2,
        "latent_size": 2,
        "encode_channels": [4],
        "decode_channels": [4],
    },
    "monai:ViT": {**_VIT, "patch_size": [8, 8], "spatial_dims": 2},
    "monai:ViTAutoEnc": {**_VIT, "patch_size": [4, 4], "spatial_dims": 2},
    "monai:VoxelMorphUNet": {
        "spatial_dims": 2,
        "in_channels": 2,
        "unet_out_channels": 4,
        "channels": [4, 4, 4, 4],
        "final_conv_channels": [4],
    },
    "torchgenaug:DCGANGenerator": {"latent_dim": 4, "shape": [1, 8, 8], "width": 4},
    "torchgenaug:GaussianEncoder": {"latent_dim": 4, "shape": [1, 8, 8], "width": 4},
    "torchgenaug:LatentDecoder": {"latent_dim": 4, "shape": [1, 8, 8], "width": 4},
    "torchgenaug:PGGANCritic": {"shape": [1, 8, 8], "width": 4},
    "torchgenaug:PGGANGenerator": {"latent_dim": 4, "shape": [1, 8, 8], "width": 4},
    "torchgenaug:StyleGAN2Critic": {"shape": [1, 8, 8], "width": 4},
    "torchgenaug:StyleGAN2Generator": {"latent_dim": 4, "shape": [1, 8, 8], "width": 4},
    "torchgenaug:OnePassNetwork": {
        "network": "Generator",
        "arguments": {"latent_shape": 3, "start_shape": [4, 4, 4], **_NETS},
    },
    "diffusers:AsymmetricAutoencoderKL": {
        "norm_num_groups": 8,
        "down_block_out_channels": [32],
        "up_block_out_channels": [32],
    },
    "diffusers:AutoencoderKL": _CODER,
    "diffusers:AutoencoderTiny": {},
    "diffusers:ControlNetModel": {
        "block_out_channels": [32],
        "down_block_types": ["DownBlock2D"],
        "cross_attention_dim": 8,
    },
    "diffusers:DiTTransformer2DModel": {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8},
    "diffusers:Transformer2DModel": {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "in_channels": 4,
        "sample_size": 8,
        "patch_size": 2,
        "num_layers": 1,
        "norm_type": "ada_norm_zero",
        "num_embeds_ada_norm": 10,
    },
    "diffusers:UNet1DModel": {},
    "diffusers:UNet2DConditionModel": {**_BLOCKS, "cross_attention_dim": 8},
    "diffusers:UNet2DModel": {**_BLOCKS},
    "diffusers:UNet3DConditionModel": {
        "block_out_channels": [32],
        "down_block_types": ["DownBlock3D"],
        "up_block_types": ["UpBlock3D"],
        "cross_attention_dim": 8,
        "attention_head_dim": 8,
    },
    "diffusers:VQModel": {"block_out_channels": [32]},
}


def test_the_guard_notices_a_network_that_fetches_weights(no_network):
    with pytest.raises(OSError, match="no network"):
        torch.hub.load_state_dict_from_url("http://127.0.0.1:9/weights.pth", model_dir="/nonexistent")
    no_network.clear()


def classes():
    return [f"{library}:{name}" for library, names in KNOWN_NETWORKS.items() for name in sorted(names)]


@pytest.mark.parametrize("name", classes())
def test_no_known_class_can_reach_beyond_itself(name):
    library, _, class_name = name.partition(":")
    pytest.importorskip("pythae" if class_name == "PythaeNetwork" else library)
    cls = _network_class(library, class_name)
    assert _parameters(cls)
    assert not any(map(_ELSEWHERE.search, _parameters(cls)))


@pytest.mark.parametrize("name", sorted(_ARGUMENTS))
def test_known_classes_are_built_without_a_network_and_move_no_global_random_state(name, no_network):
    pytest.importorskip("monai" if name == "torchgenaug:OnePassNetwork" else name.partition(":")[0])
    state = torch.get_rng_state()
    network = from_blueprint({"class": name, "arguments": _ARGUMENTS[name]}, "here")
    assert sum(each.numel() for each in network.parameters())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("monai:EfficientNetBN", {"model_name": "efficientnet-b0"}),
        ("monai:ResNetEncoder", {"model_name": "resnet10"}),
        ("monai:ResNetFeatures", {"model_name": "resnet10"}),
        ("monai:FlexibleUNet", {"in_channels": 3, "out_channels": 1, "backbone": "efficientnet-b0"}),
        ("monai:HoVerNet", {}),
        ("os:system", {}),
    ],
)
def test_other_classes_need_consent(name, arguments, no_network):
    pytest.importorskip("monai")
    with pytest.raises(SynthesizerLoadError, match=r"known to be safe.*trust_code=True"):
        from_blueprint({"class": name, "arguments": arguments}, "here")


def test_defaults_that_fetch_weights_are_refused(no_network):
    pytest.importorskip("monai")
    with pytest.raises(ConfigurationError, match=r"`pretrained` must be given .*Pass pretrained=False"):
        build_network("monai:EfficientNetBN", model_name="efficientnet-b0")


def test_unknown_arguments_of_known_classes_are_refused():
    blueprint = {"class": "torchgenaug:DCGANGenerator", "arguments": {"latent_dim": 4, "shape": [1, 8, 8], "hook": 1}}
    with pytest.raises(SynthesizerLoadError, match=r"must be those of its constructor, got hook"):
        from_blueprint(blueprint, "here")


@pytest.fixture
def own_package(tmp_path, monkeypatch):
    """A module of the user's with a network, which notes when it is imported."""
    (tmp_path / "mypackage_models.py").write_text(
        "import torch\n"
        "class Generator(torch.nn.Module):\n"
        "    def __init__(self, latent_dim):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(latent_dim, 64)\n"
        "    def forward(self, latents):\n"
        "        return self.layer(latents).sigmoid().unflatten(1, (1, 8, 8))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "mypackage_models"
    sys.modules.pop("mypackage_models", None)


def test_own_networks_are_saved_and_loaded_with_consent_only(own_package, tmp_path):
    module = build_network(f"{own_package}:Generator", latent_dim=4)
    synthesizer = ModuleSynthesizer(module, latent_shape=(4,), value_range=(0, 1))
    save_synthesizer(synthesizer, tmp_path / "own")
    del sys.modules[own_package]
    with pytest.raises(SynthesizerLoadError, match=r"load_synthesizer\(path, trust_code=True\)"):
        load_synthesizer(tmp_path / "own")
    assert own_package not in sys.modules
    loaded = load_synthesizer(tmp_path / "own", trust_code=True)
    assert torch.equal(loaded.synthesize([3])["image"], synthesizer.synthesize([3])["image"])
    with pytest.raises(SynthesizerLoadError, match="trust_code=True"):  # consent is given per call
        load_synthesizer(tmp_path / "own")


def test_own_networks_that_cannot_be_imported_are_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"a module that can be imported, got nowhere_to_be:Found"):
        build_network("nowhere_to_be:Found")


_UNET = {"spatial_dims": 2, "in_channels": 2, "out_channels": 1, **_ATTENTION}
_OWN = {
    "latent_dim": 4,
    "shape": [1, 16, 16],
    "width": 4,
    "num_classes": 2,
    "mask_classes": 2,
    "in_channels": 1,
    "plane": [4, 4],
    "num_codes": 4,
    "code_dim": 4,
    "centroids": 2,
    "components": 2,
    "unet": _UNET,
    "config": {"model": "VAE", "input_shape": [1, 8, 8]},
    "model": "VAE",
    "input_shape": [1, 8, 8],
    "network": "Generator",
    "arguments": _ARGUMENTS["monai:Generator"],
}
"""Values of the arguments that the package's own networks need."""
_OWN_OF = {
    "ModalityUNet": {"shape": [2, 16, 16]},
    "FlowLatents": {"config": {"name": "MAFConfig", "input_dim": [4]}},
}


@pytest.mark.parametrize("class_name", sorted(KNOWN_NETWORKS["torchgenaug"]))
def test_own_classes_are_built_alone(class_name, no_network):
    for library in ("monai", "pythae"):
        pytest.importorskip(library)
    needed = [
        each.name
        for each in inspect.signature(_network_class("torchgenaug", class_name).__init__).parameters.values()
        if each.default is each.empty and each.name != "self"
    ]
    values = _OWN | _OWN_OF.get(class_name, {})
    if not set(needed) <= set(values):
        pytest.skip(f"its own tests build it under the same guard; values of {needed} would do so here")
    state = torch.get_rng_state()
    arguments = {name: values[name] for name in needed}
    try:
        from_blueprint({"class": f"torchgenaug:{class_name}", "arguments": arguments}, "here")
    except SynthesizerLoadError as error:
        pytest.skip(f"its own tests build it under the same guard; here {error}")
    assert torch.equal(torch.get_rng_state(), state)


def test_every_scheduler_that_a_folder_may_name_is_built_alone(no_network):
    import diffusers

    names = [name for name in dir(diffusers) if name.endswith("Scheduler")]
    built = []
    for name in names:
        try:
            built.append(type(scheduler_from_config({"_class_name": name}, "here")).__name__)
        except SynthesizerLoadError as error:  # it needs a package that is not here, or has no defaults
            assert "must hold settings" in str(error)  # noqa: PT017
    assert len(built) > len(names) / 2
    pytest.importorskip("monai")
    import monai.networks.schedulers

    for name in SCHEDULERS:
        getattr(monai.networks.schedulers, name)()


def test_every_known_class_of_another_library_is_built_here():
    assert {name for name in classes() if not name.startswith("torchgenaug:")} <= set(_ARGUMENTS)
