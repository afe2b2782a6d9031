"""Transfer: a pretrained pipeline fitted to few images by ``lora``, against a model that begins with them.

No pretrained pipeline is small enough for a benchmark, so one is trained here: a Stable-Diffusion-type pipeline of the
digits 0 to 4, 16 x 16 pixels. Then there are ten images of each of the digits 5 to 9. *Distance* is the sliced
Wasserstein distance to held-out digits 5 to 9, over that of the fifty; *wanted* is the share of samples that a
classifier of digits sees as one of them.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.family_quality import _classifier
from benchmarks.harness import publish
from torchgenaug.contracts import Synthesizer
from torchgenaug.recipes import FitOptions, Options, TrainingData, fit, load_data
from torchgenaug.recipes.build import build_recipe, describe_family
from torchgenaug.recipes.data.training_data import Split
from torchgenaug.recipes.report import Judge
from torchgenaug.recipes.settings import checked_settings

SIZE, FIRST_NEW, EACH = 16, 5, 10


def measure(*, quick: bool = False, seconds: float = 60.0, steps: int = 400) -> None:
    """The pipeline as it is, with adapters of two learning rates, and `ddpm` of the fifty images alone."""
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
        for rate in (None, 1e-3):
            began = time.process_time()
            model = _fitted("lora", few, held_out, folder / f"lora {rate}", options, rate)
            taken = time.process_time() - began
            rows.append({"model": f"lora, rate {rate or 'as it is'}", "cpu_s": taken, **_judged(model, judge)})
        began = time.process_time()
        model = _fitted("ddpm", few, held_out, folder / "ddpm", Options(batch_size=8, steps=steps), None)
        rows.append({"model": "ddpm", "cpu_s": time.process_time() - began, **_judged(model, judge)})
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


def _fitted(
    family: str, few: TrainingData, held_out: TrainingData, out: Path, options: Options, rate: float | None
) -> Any:
    options = Options(
        start=options.start,
        settings=options.settings,
        batch_size=options.batch_size,
        steps=options.steps,
        learning_rate=rate,
    )
    return fit(
        family,
        few,
        out,
        held_out=held_out,
        recipe=options,
        options=FitOptions(reports=1),
        device="cpu",
        progress=False,
    ).synthesizer


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
