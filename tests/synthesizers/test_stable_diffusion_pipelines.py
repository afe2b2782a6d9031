"""The same samples as diffusers' own pipelines for the same noise, and their folders. diffusers needs transformers."""

from __future__ import annotations

import json
import os

import diffusers
import pytest
import tiny_prompted
import torch

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.synthesizers import DiffusersSynthesizer, StableDiffusionSynthesizer, encode_prompts

SEEDS = [5, 6]
SCHEDULERS = {
    "ddim": lambda: diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing"),
    "dpm++": lambda: diffusers.DPMSolverMultistepScheduler(),
    "euler": lambda: diffusers.EulerDiscreteScheduler(),
    "heun": lambda: diffusers.HeunDiscreteScheduler(),
    # steps_offset: the pipelines set it to 1 in whatever scheduler they are given.
    "pndm": lambda: diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1),
    "unipc": lambda: diffusers.UniPCMultistepScheduler(),
}


def noise():
    return seeding.normal(seeding.derive(SEEDS, seeding.NOISE), (4, 4, 4))


def batch():
    draw = torch.Generator().manual_seed(8)
    mask = torch.zeros((2, 1, 8, 8))
    mask[0, :, 2:6, 2:6] = 1
    mask[1, :, :, 4:] = 1
    return {
        "prompt_embeds": tiny_prompted.embeddings(2),
        "source": torch.rand((2, 1, 8, 8), generator=draw) * 2 - 1,
        "mask": mask,
        "control": torch.rand((2, 3, 8, 8), generator=draw),
    }


def pipeline_images(kind, monkeypatch, unet, scheduler, *, vae, steps=4, controlnet=None, **call):
    """Images of diffusers' pipeline before it clamps, with our noise, and sources encoded to their mean."""
    pytest.importorskip("transformers")
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    cls = getattr(diffusers, kind)
    parts = {"vae": vae, "unet": unet, "scheduler": scheduler, "safety_checker": None, "feature_extractor": None}
    parts |= {"text_encoder": None, "tokenizer": None, "requires_safety_checker": False}
    if controlnet is not None:
        parts["controlnet"] = controlnet
    pipeline = cls(**parts)
    for part in (vae, unet, controlnet):
        if part is not None:
            part.eval()
    pipeline.set_progress_bar_config(disable=True)
    module = __import__(cls.__module__, fromlist=["randn_tensor"])
    monkeypatch.setattr(module, "randn_tensor", lambda shape, **_: noise())
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    # Images that are given as tensors are in [0, 1] for the pipelines.
    latents = pipeline(
        prompt_embeds=tiny_prompted.embeddings(2), num_inference_steps=steps, output_type="latent", **call
    ).images
    with torch.no_grad():
        return vae.decode(latents / vae.config.scaling_factor).sample


def agree(synthesizer, expected):
    got = synthesizer.synthesize(SEEDS, batch())["image"]
    assert expected.std() > 0.01
    assert (got - expected).abs().max() <= 2e-4 * expected.abs().max()


def guided(scale):
    negative = tiny_prompted.NEGATIVE.expand(2, -1, -1)
    return {"guidance_scale": scale, "negative_prompt_embeds": negative if scale > 1 else None}


def made(unet, scheduler, **options):
    options = {"steps": 4, "value_range": (-1, 1), "negative_prompt_embeds": tiny_prompted.NEGATIVE} | options
    return StableDiffusionSynthesizer(unet, scheduler, **options)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_text(monkeypatch, name, scale):
    unet, vae, scheduler = tiny_prompted.unet(), tiny_prompted.vae(), SCHEDULERS[name]()
    expected = pipeline_images("StableDiffusionPipeline", monkeypatch, unet, scheduler, vae=vae, **guided(scale))
    agree(made(unet, SCHEDULERS[name](), vae=vae, guidance_scale=scale), expected)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_image(monkeypatch, name, strength):
    unet, vae = tiny_prompted.unet(), tiny_prompted.vae()
    expected = pipeline_images(
        "StableDiffusionImg2ImgPipeline",
        monkeypatch,
        unet,
        SCHEDULERS[name](),
        vae=vae,
        strength=strength,
        image=batch()["source"] / 2 + 0.5,
        **guided(3.0),
    )
    agree(made(unet, SCHEDULERS[name](), vae=vae, mode="image", strength=strength, guidance_scale=3.0), expected)


@pytest.mark.parametrize("channels", [4, 9])
@pytest.mark.parametrize("name", ["ddim", "dpm++", "euler", "pndm", "unipc"])
@pytest.mark.parametrize("strength", [0.75, 1.0])
def test_inpaint(monkeypatch, name, strength, channels):
    unet, vae = tiny_prompted.unet(channels), tiny_prompted.vae()
    expected = pipeline_images(
        "StableDiffusionInpaintPipeline",
        monkeypatch,
        unet,
        SCHEDULERS[name](),
        vae=vae,
        strength=strength,
        image=batch()["source"] / 2 + 0.5,
        mask_image=batch()["mask"],
        height=8,
        width=8,
        **guided(3.0),
    )
    agree(made(unet, SCHEDULERS[name](), vae=vae, mode="inpaint", strength=strength, guidance_scale=3.0), expected)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_controlnet(monkeypatch, scale):
    unet, vae, controlnet = tiny_prompted.unet(), tiny_prompted.vae(), tiny_prompted.controlnet()
    from_images = {"image": batch()["control"], "controlnet_conditioning_scale": 0.7}
    expected = pipeline_images(
        "StableDiffusionControlNetPipeline",
        monkeypatch,
        unet,
        SCHEDULERS["ddim"](),
        vae=vae,
        controlnet=controlnet,
        **from_images,
        **guided(scale),
    )
    options = {"controlnet": controlnet, "control_scale": 0.7, "guidance_scale": scale}
    control = {"control": made(unet, SCHEDULERS["ddim"](), vae=vae, **options).condition_fields["source"]}
    agree(made(unet, SCHEDULERS["ddim"](), vae=vae, control=control, **options), expected)


def test_a_distilled_network(monkeypatch):
    unet, vae = tiny_prompted.unet(time_cond_proj_dim=6), tiny_prompted.vae()
    expected = pipeline_images(
        "StableDiffusionPipeline", monkeypatch, unet, SCHEDULERS["ddim"](), vae=vae, guidance_scale=8.0
    )
    agree(made(unet, SCHEDULERS["ddim"](), vae=vae, guidance_scale=8.0), expected)


@pytest.fixture
def folder(tmp_path):
    """As `save_pretrained` of a pipeline writes it; the class itself would need transformers."""
    tiny_prompted.unet().save_pretrained(tmp_path / "unet")
    tiny_prompted.vae().save_pretrained(tmp_path / "vae")
    SCHEDULERS["ddim"]().save_pretrained(tmp_path / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.42.1",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "requires_safety_checker": True,
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    return tmp_path


def edit(folder, **changes):
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | changes))


def load(folder, **options):
    return StableDiffusionSynthesizer.from_pretrained(folder, steps=4, value_range=(-1, 1), **options)


def test_the_layout_says_the_mode(folder):
    options = {"steps": 4, "value_range": (-1, 1), "vae": tiny_prompted.vae()}
    unet, scheduler = tiny_prompted.unet(), SCHEDULERS["ddim"]()
    kinds = {"Pipeline": "text", "Img2ImgPipeline": "image", "InpaintPipeline": "inpaint"}
    for kind, mode in kinds.items():
        edit(folder, _class_name=f"StableDiffusion{kind}")
        assert load(folder).fingerprint == StableDiffusionSynthesizer(unet, scheduler, mode=mode, **options).fingerprint
    edit(folder, _class_name="StableDiffusionPipeline")
    assert load(folder, mode="image", strength=0.5).mode == "image"


def test_a_controlnet_folder(folder):
    tiny_prompted.controlnet().save_pretrained(folder / "controlnet")
    edit(folder, _class_name="StableDiffusionControlNetPipeline", controlnet=["diffusers", "ControlNetModel"])
    assert list(load(folder).condition_fields) == ["prompt_embeds", "source"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "MyPipeline"}, "Code that comes with a model is never run"),
        ({"_class_name": ["pipeline", "MyPipeline"]}, "Code that comes with a model is never run"),
        ({"_class_name": "StableDiffusionXLPipeline"}, "got 'StableDiffusionXLPipeline'"),
        ({"unet": ["my_unet", "MyUNet"]}, r"'unet' = \['my_unet', 'MyUNet'\]"),
        ({"image_encoder": ["transformers", "CLIPVisionModel"]}, "got 'image_encoder'"),
        ({"_class_name": "DiTPipeline"}, r"Load it with DiTSynthesizer\.from_pretrained"),
    ],
)
def test_foreign_code_and_components_are_refused(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(SynthesizerLoadError, match=message):
        load(folder)


def test_other_classes_say_where_the_folder_belongs(folder):
    with pytest.raises(SynthesizerLoadError, match=r"Load it with StableDiffusionSynthesizer\.from_pretrained"):
        DiffusersSynthesizer.from_pretrained(folder, value_range=(0, 1))


def test_pickled_and_missing_weights_are_refused(folder):
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(SynthesizerLoadError, match="Pickled weights can run"):
        load(folder)
    (folder / "scheduler" / "scheduler_config.json").unlink()
    (folder / "scheduler").rmdir()
    with pytest.raises(SynthesizerLoadError, match="without scheduler/"):
        load(folder)


def test_prompts_without_an_encoder(folder):
    with pytest.raises(SynthesizerLoadError, match="without tokenizer/"):
        encode_prompts(folder, ["a brain"])
    with pytest.raises(ConfigurationError, match="`texts` must be a list of prompts"):
        encode_prompts(folder, "a brain")


@pytest.fixture
def encoder_folder(folder):
    transformers = pytest.importorskip("transformers")
    pieces = ["a</w>", "brain</w>", "b", "r", "ai", "n</w>", "a", "i", "n", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: k for k, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\na i\n")
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=6)
    tokenizer.save_pretrained(folder / "tokenizer")
    config = transformers.CLIPTextConfig(
        vocab_size=11,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=6,
        bos_token_id=9,
        eos_token_id=10,
        pad_token_id=10,
    )
    transformers.CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    return folder


def test_prompts_are_encoded_as_the_pipeline_does(encoder_folder):
    transformers = pytest.importorskip("transformers")
    got = encode_prompts(encoder_folder, ["a", ""], batch_size=1)
    parts = dict.fromkeys(["vae", "unet", "scheduler", "safety_checker", "feature_extractor"])
    pipeline = diffusers.StableDiffusionPipeline(
        **parts | {"unet": tiny_prompted.unet(), "vae": tiny_prompted.vae(), "scheduler": SCHEDULERS["ddim"]()},
        tokenizer=transformers.CLIPTokenizer.from_pretrained(encoder_folder / "tokenizer"),
        text_encoder=transformers.CLIPTextModel.from_pretrained(encoder_folder / "text_encoder"),
        requires_safety_checker=False,
    )
    with torch.no_grad():
        expected, _ = pipeline.encode_prompt(["a", ""], "cpu", 1, False)
    assert got.shape == (2, 6, 8)
    assert torch.allclose(got, expected, atol=1e-6)
    with pytest.raises(ConfigurationError, match="at most 6 tokens each"):
        encode_prompts(encoder_folder, ["a a a a a"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 100_000}, "Nothing was built"),
        ({"vocab_size": 10_000_000}, "Nothing was built"),
        ({"hidden_size": 1 << 40}, "Numbers of a configuration"),
        ({"layer_norm_eps": None}, "got "),
        ({"vocab_size": 5}, "got "),
    ],
)
def test_a_text_encoder_that_its_weights_do_not_fit_is_refused(encoder_folder, changes, message):
    path = encoder_folder / "text_encoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(SynthesizerLoadError, match=message):
        encode_prompts(encoder_folder, ["a"])


@pytest.mark.parametrize("length", [[], "6", 0, None, True, 2.5])
def test_a_tokenizer_without_a_length_is_refused(encoder_folder, length):
    path = encoder_folder / "tokenizer" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": length}))
    with pytest.raises(SynthesizerLoadError, match=r"Save them again with save_pretrained|must hold a tok"):
        encode_prompts(encoder_folder, ["a brain"])


def test_weights_that_are_missing_are_not_made_up(encoder_folder):
    path = encoder_folder / "text_encoder" / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"token_embedding.weight", b"t}ken_embedding.weight", 1))
    with pytest.raises(SynthesizerLoadError, match=r"no weights for '.*token_embedding\.weight'"):
        encode_prompts(encoder_folder, ["a brain"])


def test_a_tokenizer_that_fails_outside_of_python_is_named(encoder_folder, monkeypatch):
    transformers = pytest.importorskip("transformers")

    class PanicException(BaseException):
        """As of pyo3: no Exception."""

    def panic(*arguments, **options):
        raise PanicException("capacity overflow")

    monkeypatch.setattr(transformers.CLIPTokenizer, "from_pretrained", panic)
    with pytest.raises(SynthesizerLoadError, match="capacity overflow"):
        encode_prompts(encoder_folder, ["a brain"])


def test_what_is_no_regular_file_is_not_opened_by_transformers(encoder_folder):
    (encoder_folder / "tokenizer" / "added_tokens.json").unlink(missing_ok=True)
    os.mkfifo(encoder_folder / "tokenizer" / "added_tokens.json")
    with pytest.raises(SynthesizerLoadError, match="a named pipe"):
        encode_prompts(encoder_folder, ["a"])
