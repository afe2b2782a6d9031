"""Transfer: a pretrained model fitted to few images (``lora``, ``fit --from``), against one that begins with them.

No pretrained pipeline is small enough for a benchmark, so one is trained here: a Stable-Diffusion-type pipeline of the
digits 0 to 4, 16 x 16 pixels; and a `ddpm` of them in as much time. Then there are ten images of each of the digits 5
to 9, and every model has as many steps on them. *Distance* is the sliced
Wasserstein distance to held-out digits 5 to 9, over that of the fifty; *wanted* is the share of samples that a
classifier of digits sees as one of them.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.families import seconds_per_step
from benchmarks.family_quality import _classifier
from benchmarks.harness import publish
from torchgenaug import load_synthesizer
from torchgenaug.contracts import Synthesizer
from torchgenaug.recipes import FitOptions, Options, TrainingData, fit, load_data
from torchgenaug.recipes.build import build_recipe, describe_family
from torchgenaug.recipes.data.training_data import Split
from torchgenaug.recipes.report import Judge
from torchgenaug.recipes.settings import checked_settings

SIZE, FIRST_NEW, EACH = 16, 5, 10


def measure(*, quick: bool = False, seconds: float = 150.0, steps: int = 200) -> None:
    """The pipeline as it is and with adapters; a `ddpm` as it is, fitted further, and one of the fifty images alone."""
    if quick:
        seconds, steps = 0.2, 1
    few, held_out = _digits("train", new=True).limit(EACH, 0), _digits("held_out", new=True)
    judge = Judge(few, held_out, None)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pretrain(folder / "pipeline", _digits("train", new=False), seconds)
        settings = dict(checked_settings("lora", describe_family("lora").settings, {}))
        options = Options(start=str(folder / "pipeline"), settings=settings, batch_size=8, steps=steps)
        recipe = build_recipe("lora", few, options)
        rows.append({"model": "pipeline as it is", **_judged(recipe.synthesizer(recipe.networks), judge)})
        for rank, rate in ((8, None), (8, 1e-3), (2, 1e-3), (32, 1e-3))[: 1 if quick else None]:
            arm = replace(options, settings={**settings, "rank": rank}, learning_rate=rate)
            name = f"lora, rank {rank}, rate {rate or 'as it is'}"
            rows.append(_fitted("lora", few, held_out, folder / name, arm, name, judge))
        old = _digits("train", new=False)
        alone = Options(batch_size=8, steps=steps)
        trained = _steps_within("ddpm", old, seconds)
        fit(
            "ddpm",
            old,
            folder / "base",
            recipe=Options(batch_size=8, steps=trained),
            options=FitOptions(reports=1),
            device="cpu",
            progress=False,
        )
        rows.append({"model": "ddpm of other digits, as it is", **_judged(load_synthesizer(folder / "base"), judge)})
        further = replace(alone, start=str(folder / "base"))
        rows.append(_fitted("ddpm", few, held_out, folder / "further", further, "ddpm of other digits, --from", judge))
        rows.append(_fitted("ddpm", few, held_out, folder / "alone", alone, "ddpm", judge))
    publish("pretrained", {"rows": rows, "noise": judge.noise / judge.floor, "steps": steps}, quick=quick)


def pretrain(folder: Path, data: TrainingData, seconds: float) -> None:
    """Trains an autoencoder for a third of the time and a denoiser of its latents, and saves them as a pipeline."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    torch.manual_seed(0)
    images = torch.stack([data.samples[k]["image"] for k in range(len(data))]) * 2 - 1
    blocks: dict[str, Any] = {"norm_num_groups": 8}
    vae: Any = AutoencoderKL(
        1, 1, ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2, block_out_channels=(16, 32), **blocks
    )
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-3)
    began = time.process_time()
    while time.process_time() - began < seconds / 3:
        batch = images[torch.randint(len(images), (16,))]
        latents = vae.encode(batch).latent_dist
        loss = (vae.decode(latents.sample()).sample - batch).abs().mean() + 1e-6 * latents.kl().mean()
        _step(optimizer, loss)
    vae.eval().requires_grad_(False)
    means = torch.cat([vae.encode(part).latent_dist.mean for part in images[:256].split(64)])
    vae.register_to_config(scaling_factor=1 / float(means.std()))
    scheduler: Any = DDIMScheduler(clip_sample=False)
    unet: Any = UNet2DConditionModel(
        SIZE // 2,
        4,
        4,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=8,
        **blocks,
    )
    folder.mkdir(parents=True)
    encoder = _text_parts(folder)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3)
    while time.process_time() - began < seconds:
        batch = images[torch.randint(len(images), (16,))]
        clean = vae.encode(batch).latent_dist.sample() * vae.config.scaling_factor
        times, noise = torch.randint(0, 1000, (len(clean),)), torch.randn_like(clean)
        made = unet(scheduler.add_noise(clean, noise, times), times, encoder.expand(len(clean), -1, -1)).sample
        _step(optimizer, functional.mse_loss(made, noise))
    for name, part in (("unet", unet), ("vae", vae), ("scheduler", scheduler)):
        part.save_pretrained(folder / name)


def _text_parts(folder: Path) -> Tensor:
    """Saves a tokenizer and an untrained text encoder; the embedding of the prompt that ``lora`` uses by default."""
    import transformers

    from torchgenaug.synthesizers import encode_prompts

    pieces = ["a</w>", "i</w>", "a", "i", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: k for k, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=64)
    tokenizer.save_pretrained(folder / "tokenizer")
    config = transformers.CLIPTextConfig(
        vocab_size=len(pieces),
        max_position_embeddings=64,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=4,
        eos_token_id=5,
        pad_token_id=5,
    )
    transformers.CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    return encode_prompts(str(folder), ["a medical image of digits"])[0].unsqueeze(0)


def _steps_within(family: str, data: TrainingData, seconds: float) -> int:
    return max(2, round(seconds / seconds_per_step(family, data, Options(batch_size=8), min(3.0, seconds))))


def _fitted(
    family: str, few: TrainingData, held_out: TrainingData, out: Path, options: Options, name: str, judge: Judge
) -> dict[str, Any]:
    began = time.process_time()
    model: Any = fit(
        family,
        few,
        out,
        held_out=held_out,
        recipe=options,
        options=FitOptions(reports=1),
        device="cpu",
        progress=False,
    ).synthesizer
    return {"model": name, "cpu_s": time.process_time() - began, **_judged(model, judge)}


def _judged(model: Synthesizer, judge: Judge) -> dict[str, float]:
    samples = judge.samples(model)
    classes = _classifier("digits", SIZE)(samples["image"])
    return {
        "distance": judge.distance(samples) / judge.floor,
        "wanted": float((classes >= FIRST_NEW).float().mean()),
        "copied": judge.copied(samples)[0],
    }


def _digits(split: Split, *, new: bool) -> TrainingData:
    data = load_data("digits", split=split, size=SIZE)
    return data.select(np.flatnonzero((data.labels() >= FIRST_NEW) == new).tolist())


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
