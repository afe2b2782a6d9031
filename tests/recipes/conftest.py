from __future__ import annotations

import json

import pytest


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory):
    """A tiny random Stable Diffusion on images of 8 x 8, with a text encoder."""
    pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    folder = tmp_path_factory.mktemp("pipeline")
    blocks = {"block_out_channels": (8, 8), "norm_num_groups": 4}
    down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
    types = {"down_block_types": down, "up_block_types": up, "cross_attention_dim": 8, "attention_head_dim": 4}
    UNet2DConditionModel(4, 4, 4, layers_per_block=1, **types, **blocks).save_pretrained(folder / "unet")
    AutoencoderKL(1, 1, ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2, **blocks).save_pretrained(
        folder / "vae"
    )
    DDIMScheduler(clip_sample=False).save_pretrained(folder / "scheduler")
    pieces = ["a</w>", "n</w>", "a", "n", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: k for k, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=64)
    tokenizer.save_pretrained(folder / "tokenizer")
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": 4, "eos_token_id": 5, "pad_token_id": 5}
    config = transformers.CLIPTextConfig(vocab_size=6, max_position_embeddings=64, **sizes, **ids)
    transformers.CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    return folder
