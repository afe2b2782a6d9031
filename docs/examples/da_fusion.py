"""DA-Fusion: variants of real images by image-to-image diffusion, each under the prompt of its class."""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

from torchgenaug import (
    ClassPrompts,
    RealFields,
    ShardSource,
    StableDiffusionSynthesizer,
    SyntheticMixDataset,
    SyntheticSequence,
    render_shards,
)


def networks():  # untrained, tiny; yours: StableDiffusionSynthesizer.from_pretrained(folder, mode="image", ...)
    torch.manual_seed(0)
    blocks = {"block_out_channels": (8, 8), "norm_num_groups": 4}
    vae = AutoencoderKL(1, 1, ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2, **blocks)
    down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
    types = {"down_block_types": down, "up_block_types": up, "cross_attention_dim": 8, "attention_head_dim": 4}
    return UNet2DConditionModel(4, 4, 4, layers_per_block=1, **types, **blocks), DDIMScheduler(clip_sample=False), vae


if __name__ == "__main__":
    unet, scheduler, vae = networks()
    real = [{"image": torch.rand(1, 8, 8) * 2 - 1, "label": torch.tensor(k % 2)} for k in range(12)]
    parents = [{"source": sample["image"], "label": sample["label"]} for sample in real]
    embeddings = torch.randn(2, 3, 8)  # of the texts, by the model's text encoder: encode_prompts(...)

    # The job itself:
    model = StableDiffusionSynthesizer(
        unet, scheduler, vae=vae, mode="image", strength=0.5, steps=4, value_range=(-1, 1)
    )
    conditions = ClassPrompts(RealFields(parents, ["source", "label"]), ["healthy skin", "melanoma"], embeddings)
    render_shards(SyntheticSequence(model, conditions), "variants", count=24, batch_size=4)
    mixed = SyntheticMixDataset(real, ShardSource("variants"), ratio=0.5, match="label", fields=["image", "label"])

    stored = ShardSource("variants").read(torch.arange(24).numpy())
    assert (stored["prompt"] == stored["label"]).all()
    assert all(
        parents[parent]["label"] == label for parent, label in zip(stored["parent"], stored["label"], strict=True)
    )
    assert mixed.counts().synthetic == 6
    print("a variant of each image, under the prompt of its class")
