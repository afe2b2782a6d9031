"""What networks on prompts are asked, for each mode."""

from __future__ import annotations

import pytest
import tiny_prompted
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.diffusion.prompts.task import PromptedTask
from torchgenaug.synthesizers.diffusion.prompts.wiring import infer_wiring

CPU = torch.device("cpu")
CONDITIONS = {
    "prompt_embeds": tiny_prompted.embeddings(2),
    "source": torch.linspace(0, 1, 128).reshape(2, 1, 8, 8),
    "mask": torch.tensor([0, 1]).repeat_interleave(4).expand(2, 1, 8, 8),
}


def asked(channels=4, *, mode="inpaint", scale=None, negative=None, dtype=torch.float32, **config):
    vae = tiny_prompted.vae().eval()
    unet = tiny_prompted.unet(channels, **config)
    wiring = infer_wiring(unet, vae, None, PromptedTask(mode, negative_prompt_embeds=negative), scale, (0.0, 1.0))
    with torch.no_grad():
        return wiring.inputs(CONDITIONS, 2, vae, CPU, dtype)


def test_a_mode_has_the_conditions_that_it_names():
    vae = tiny_prompted.vae()
    fields = {
        mode: infer_wiring(tiny_prompted.unet(), vae, None, PromptedTask(mode), None, (0, 1)).fields
        for mode in ("text", "image", "inpaint")
    }
    assert [list(value) for value in fields.values()] == [
        ["prompt_embeds"],
        ["prompt_embeds", "source"],
        ["prompt_embeds", "source", "mask"],
    ]
    assert fields["text"]["prompt_embeds"].shape == (77, tiny_prompted.DIM)


def test_text_asks_for_nothing_but_prompts():
    told = asked(mode="text")
    assert torch.equal(told.embeddings, CONDITIONS["prompt_embeds"])
    assert told[1:] == (None,) * 6


def test_a_known_region_is_put_back_or_read_by_the_network():
    back, read = asked(4), asked(9)
    assert back.further is None
    assert back.mask.flatten(2)[0, 0].tolist() == [0, 0, 1, 1] * 4
    assert read.mask is None
    assert read.further.shape == (2, 5, 4, 4)
    assert torch.equal(read.further[:, :1], back.mask)
    assert torch.equal(read.source, back.source)
    latents = torch.zeros(2, 4, 4, 4)
    assert torch.equal(back.joined(latents), latents)
    assert torch.equal(read.joined(latents), torch.cat([latents, read.further], 1))


def test_guidance_doubles_what_the_networks_get_and_halves_what_they_return():
    plain, told = asked(9), asked(9, scale=3.0, negative=tiny_prompted.NEGATIVE, dtype=torch.bfloat16)
    assert told.embeddings.shape == (4, tiny_prompted.TOKENS, tiny_prompted.DIM)
    assert torch.equal(told.embeddings[3], tiny_prompted.NEGATIVE.bfloat16())
    assert torch.equal(told.further, torch.cat([plain.further, plain.further]).bfloat16())
    assert told.source.dtype == torch.float32
    assert told.joined(torch.zeros(2, 4, 4, 4, dtype=torch.bfloat16)).shape == (4, 9, 4, 4)
    output = torch.tensor([1.0, 2.0, 0.0, 0.0]).reshape(4, 1, 1, 1)
    assert told.predicted(output).flatten().tolist() == [3.0, 6.0]
    assert plain.predicted(output) is output


def test_a_distilled_network_is_told_the_scale_and_called_once():
    told = asked(mode="text", scale=7.5, time_cond_proj_dim=6)
    assert told.guidance.shape == (2, 6)
    assert told.scale is None
    with pytest.raises(ConfigurationError, match="`negative_prompt_embeds` must be given"):
        asked(mode="text", scale=7.5)
