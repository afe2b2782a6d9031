from __future__ import annotations

import copy
import json

import pytest
import tiny_prompted
import torch

from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.synthesizers import (
    ClassPromptSynthesizer,
    StableDiffusionSynthesizer,
    load_synthesizer,
    merge_lora,
    save_synthesizer,
)


def test_an_adapter_of_another_model_is_refused(tmp_path):
    unet = tiny_prompted.unet()
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    down, up = f"{layer}.lora_A.weight", f"{layer}.lora_B.weight"
    merged = merge_lora(unet, {f"unet.{down}": torch.ones(1, 8), f"unet.{up}": torch.ones(8, 1)}, scale=0.5)
    name = f"{layer}.weight"
    assert torch.allclose(merged.state_dict()[name], unet.state_dict()[name] + 0.5)
    with pytest.raises(ConfigurationError, match=r"layer '.*to_q' of \(8, 8\).* trained for another model"):
        merge_lora(unet, {down: torch.ones(1, 16), up: torch.ones(16, 1)})
    with pytest.raises(ConfigurationError, match=r"layer 'mid.to_q', which the network does not have"):
        merge_lora(unet, {"mid.to_q.lora_A.weight": torch.ones(1, 8), "mid.to_q.lora_B.weight": torch.ones(8, 1)})
    with pytest.raises(ConfigurationError, match="must hold pairs lora_A, lora_B"):
        merge_lora(unet, {"text_encoder.layer.weight": torch.ones(2)})
    (tmp_path / "lora.bin").write_bytes(b"pickle")
    with pytest.raises(SynthesizerLoadError, match="must be a safetensors file"):
        merge_lora(unet, tmp_path / "lora.bin")


def test_a_folder_of_peft_is_merged_as_peft_merges_it(tmp_path):
    peft = pytest.importorskip("peft")
    unet, noisy, prompt = tiny_prompted.unet().eval(), torch.ones(1, 4, 4, 4), torch.ones(1, 3, 8)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["to_q"], init_lora_weights=False)
    adapted = peft.PeftModel(copy.deepcopy(unet), config)
    adapted.save_pretrained(tmp_path / "adapter")
    merged = merge_lora(unet, tmp_path / "adapter")
    with torch.no_grad():
        ours, theirs = (
            each.eval()(noisy, torch.tensor([5]), encoder_hidden_states=prompt).sample
            for each in (merged, adapted.merge_and_unload())
        )
    assert torch.allclose(ours, theirs, atol=1e-5)
    place = tmp_path / "adapter" / "adapter_config.json"
    settings = json.loads(place.read_text()) | {"base_model_name_or_path": "clinic/heads"}
    place.write_text(json.dumps(settings))
    with pytest.raises(ConfigurationError, match=r"adapter' \(trained for 'clinic/heads'\) for Linear, with .*to_q"):
        merge_lora(torch.nn.Linear(4, 4), tmp_path / "adapter")
    for change, got in (({"alpha_pattern": {"to_q": 2}}, "alpha_pattern"), ({"r": 0}, "r=0")):
        place.write_text(json.dumps(settings | change))
        with pytest.raises(SynthesizerLoadError, match=rf"must scale all layers by one number.*{got}"):
            merge_lora(unet, tmp_path / "adapter")
    with pytest.raises(SynthesizerLoadError, match="a folder with one of"):
        merge_lora(unet, tmp_path)


def test_grey_images_of_a_colour_model_without_classes(tmp_path):
    from diffusers import DDIMScheduler

    model = StableDiffusionSynthesizer(
        tiny_prompted.unet(), DDIMScheduler(clip_sample=False), vae=tiny_prompted.vae(3), steps=1, value_range=(0, 1)
    )
    grey = ClassPromptSynthesizer(model, ["a"], tiny_prompted.embeddings(1), classes=False, grey=True)
    colour = model.synthesize([3], {"prompt_embeds": tiny_prompted.embeddings(1)})["image"]
    assert torch.equal(grey.synthesize([3])["image"], colour.mean(1, keepdim=True))
    save_synthesizer(grey, tmp_path / "saved")
    loaded = load_synthesizer(tmp_path / "saved")
    assert loaded.fingerprint == grey.fingerprint
    assert torch.equal(loaded.synthesize([3])["image"], grey.synthesize([3])["image"])
    with pytest.raises(ConfigurationError, match="`model` must be conditioned on 'prompt_embeds' alone"):
        ClassPromptSynthesizer(grey, ["a"], tiny_prompted.embeddings(1))
    with pytest.raises(ConfigurationError, match="`embeddings` must be"):
        ClassPromptSynthesizer(model, ["a", "b"], tiny_prompted.embeddings(1))
