"""Every synthesizer class on the device: the CPU's samples, the same again, pickled, in a pool, on disk."""

from __future__ import annotations

import pickle
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu import functions, networks
from benchmarks.gpu.settings import Record, Settings
from torchgenaug import (
    ClassLabels,
    DiffusersSynthesizer,
    DiffusionEditSynthesizer,
    DiTSynthesizer,
    EnsembleSynthesizer,
    FieldSpec,
    JointConditions,
    ModuleSynthesizer,
    MonaiSynthesizer,
    Prompts,
    PythaeSynthesizer,
    RealFields,
    ShardSource,
    StableDiffusionSynthesizer,
    SyntheticPool,
    SyntheticSequence,
    build_network,
    load_synthesizer,
    render_shards,
    save_synthesizer,
)
from torchgenaug.synthesizers import ClassPromptSynthesizer

Case = Callable[[torch.device], tuple[Any, Any]]
"""A device → a synthesizer on it and its conditions, or None."""

_RANGE: dict[str, Any] = {"value_range": (0, 1), "clip": True, "steps": 3}
# Three steps of an untrained network multiply the rounding of its convolutions, here without TF32.
_TOLERANCE, _TOLERANCE_HALF = 0.01, 0.2
EQUAL = ("again", "pickled", "pool", "pool, next epoch", "shards")
"""Samples of the same batch must be equal in every bit, wherever they are kept."""


def measure(settings: Settings, record: Record) -> None:
    """One result per case: differences in units of the images' range of 1, or the traceback.

    Raises:
        RuntimeError: in the end, if any case failed.
    """
    torch.backends.cudnn.allow_tf32 = False
    failed: list[str] = []
    for name, case in cases(settings).items():
        began = time.monotonic()
        try:
            found = check(case, settings, _TOLERANCE_HALF if "half" in name else _TOLERANCE)
        except Exception:
            found = {"failure": traceback.format_exc()}
        failed += [name] if "failure" in found else []
        record(name, found | {"seconds": round(time.monotonic() - began, 2)})
    if failed:
        raise RuntimeError(f"Failed: {', '.join(failed)}.")


def check(case: Case, settings: Settings, tolerance: float) -> dict[str, Any]:
    expected = SyntheticSequence(*case(torch.device("cpu"))).batch(range(4))
    synthesizer, conditions = case(settings.device)
    sequence = SyntheticSequence(synthesizer, conditions)
    batch = sequence.batch(range(4))
    image = batch["image"]
    assert image.device.type in (settings.device.type, "cpu"), image.device
    found: dict[str, Any] = {"device": str(image.device), "difference_from_cpu": distance(image, expected["image"])}
    found["again"] = distance(sequence.batch(range(4))["image"], image)
    found["pickled"] = distance(pickle.loads(pickle.dumps(sequence)).batch(range(4))["image"], image)
    # Two batches of four there, four samples here: half the pool is made in the background.
    with SyntheticPool(sequence, 4, refresh=1.0, batch_size=4, device=settings.device) as pool:
        found["pool"] = distance(pool.read(np.arange(4))["image"], image)
        pool.set_epoch(1)
        later = pool.read(np.arange(4))["image"]
    found["pool, next epoch"] = distance(later, sequence.batch(range(4, 8))["image"])
    with tempfile.TemporaryDirectory() as folder:
        render_shards(sequence, Path(folder) / "shards", 4, batch_size=4)
        found["shards"] = distance(ShardSource(Path(folder) / "shards").read(np.arange(4))["image"], image)
        found["saved_and_loaded"] = saved_and_loaded(synthesizer, Path(folder) / "saved", settings)
    allowed = dict.fromkeys(EQUAL, 0.0) | {"difference_from_cpu": tolerance}
    too_far = {name: found[name]["max"] for name, most in allowed.items() if not found[name]["max"] <= most}
    return found | ({"failure": f"too far apart: {too_far}"} if too_far else {})


def saved_and_loaded(synthesizer: Any, folder: Path, settings: Settings) -> str:
    from torchgenaug.errors import TorchGenAugError

    try:
        save_synthesizer(synthesizer, folder)
    except TorchGenAugError as error:  # functions and transforms are code: they say that they cannot be saved
        return f"not saved: {type(error).__name__}"
    loaded = load_synthesizer(folder, device=settings.device)
    assert loaded.fingerprint == synthesizer.fingerprint, "the loaded synthesizer has another fingerprint"
    return "equal fingerprint"


def distance(one: Tensor, two: Tensor) -> dict[str, float]:
    apart = (one.cpu().double() - two.cpu().double()).abs()
    return {"max": apart.max().item(), "mean": apart.mean().item()}


def cases(settings: Settings) -> dict[str, Case]:
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

    def unconditional(device: torch.device, **options: Any) -> Any:
        scheduler = options.pop("scheduler", DDIMScheduler())
        return DiffusersSynthesizer(networks.unet(), scheduler, **_RANGE, device=device, **options), None

    def guided(device: torch.device, **options: Any) -> Any:
        given = {"guidance_scale": 2.0, "null_class": 3, **options}
        net = networks.unet(classes=4)
        return DiffusersSynthesizer(net, DDIMScheduler(), **_RANGE, device=device, **given), ClassLabels(3)

    def latent(device: torch.device) -> Any:
        net, decoder = networks.unet(channels=2, side=4), networks.vae(2)
        return DiffusersSynthesizer(net, EulerDiscreteScheduler(), vae=decoder, **_RANGE, device=device), None

    def dit(device: torch.device, **options: Any) -> Any:
        given = {"guidance_scale": 2.0, "device": device, **options}
        return DiTSynthesizer(networks.transformer(), DDIMScheduler(), **_RANGE, **given), ClassLabels(3)

    found: dict[str, Case] = {
        "DiffusersSynthesizer": unconditional,
        "DiffusersSynthesizer, DPM-Solver++": partial(unconditional, scheduler=DPMSolverMultistepScheduler()),
        "DiffusersSynthesizer, classes, guidance": guided,
        "DiffusersSynthesizer, latents": latent,
        "DiffusersSynthesizer, half precision": partial(unconditional, dtype=settings.half),
        "DiffusersSynthesizer, channels last": partial(guided, channels_last=True),
        "DiTSynthesizer": dit,
        "StableDiffusionSynthesizer, prompts": prompted,
        "StableDiffusionSynthesizer, ControlNet": controlled,
        "ClassPromptSynthesizer": class_prompts,
        "DiffusionEditSynthesizer": edit,
        "ModuleSynthesizer": module,
        "MonaiSynthesizer, 2D": monai_2d,
        "MonaiSynthesizer, 3D latents, flow": monai_3d,
        "PythaeSynthesizer": pythae,
        "FunctionSynthesizer": functions.function,
        "EnsembleSynthesizer": ensemble,
        "TransformedSynthesizer": functions.transformed,
        "TwoStageSynthesizer": functions.two_stage,
    }
    if find_spec("torchio"):  # SimpleITK, which it needs, is not in every image
        found["LabelsToImageSynthesizer"] = functions.labels_to_image
    if not settings.tiny:  # torch's compiler takes longer than all the rest
        found["DiffusersSynthesizer, compiled"] = partial(guided, compile="aot_eager")
    if settings.is_cuda:
        found |= {
            "DiffusersSynthesizer, CUDA graph": partial(on_cuda, guided),
            "ModuleSynthesizer, CUDA graph": partial(on_cuda, module),
            "DiTSynthesizer, CUDA graph": partial(on_cuda, dit),
            "StableDiffusionSynthesizer, CUDA graph": partial(on_cuda, prompted),
            "DiffusersSynthesizer, compiled, CUDA graph": partial(on_cuda, guided, compile="aot_eager"),
        }
    return found


def on_cuda(case: Callable[..., Any], device: torch.device, **options: Any) -> Any:
    """`case` with a CUDA graph and more, where there is CUDA."""
    return case(device, cuda_graph=True, **options) if device.type == "cuda" else case(device)


def prompted(device: torch.device, **options: Any) -> Any:
    from diffusers import DDIMScheduler

    net, decoder = networks.prompted_unet(), networks.vae(4)
    made = StableDiffusionSynthesizer(net, DDIMScheduler(), vae=decoder, **_RANGE, device=device, **options)
    return made, Prompts(["one", "two"], networks.embeddings(2))


def controlled(device: torch.device) -> Any:
    spec = FieldSpec((1, 8, 8), torch.int64, kind="label_map", value_range=(0, 1))
    options = {"controlnet": networks.controlnet(), "control": {"mask": spec}}
    made, prompts = prompted(device, **options)
    real = [{"mask": torch.full((1, 8, 8), k % 2)} for k in range(3)]
    return made, JointConditions(prompts, RealFields(real, "mask"))


def class_prompts(device: torch.device) -> Any:
    return ClassPromptSynthesizer(prompted(device)[0], ["one", "two"], networks.embeddings(2)), ClassLabels(2)


def edit(device: torch.device) -> Any:
    """Fills the half of each image that is marked."""
    from diffusers import DDIMScheduler

    model = DiffusersSynthesizer(networks.unet(), DDIMScheduler(), **_RANGE, device=device)
    mark = torch.ones(1, 8, 8).tril()
    real = [{"source": torch.cat([torch.full((1, 8, 8), k / 4), mark])} for k in range(3)]
    return DiffusionEditSynthesizer(model, steps=3, resamples=2, jump=1), RealFields(real, "source")


def module(device: torch.device, **options: Any) -> Any:
    net = networks.generator()
    return ModuleSynthesizer(net, latent_shape=(6,), value_range=(-1, 1), device=device, **options), None


def monai_2d(device: torch.device) -> Any:
    from monai.networks.schedulers import DDIMScheduler

    net = networks.monai_unet(2, num_class_embeds=4)
    options = {"size": (8, 8), "guidance_scale": 2.0, "null_class": 3, "device": device}
    return MonaiSynthesizer(net, DDIMScheduler(20), **options, **_RANGE), ClassLabels(3)


def monai_3d(device: torch.device) -> Any:
    from monai.networks.schedulers import RFlowScheduler

    net, decoder = networks.monai_unet(3, channels=2), networks.monai_autoencoder(3, 2)
    options = {"size": (8, 8, 8), "autoencoder": decoder, "scale_factor": 2.0, "device": device}
    return MonaiSynthesizer(net, RFlowScheduler(20), **options, **_RANGE), None


def pythae(device: torch.device) -> Any:
    options = {"model": "VAE", "input_shape": [1, 8, 8], "latent_dim": 3, "width": 4}
    net = networks.seeded(lambda: build_network("torchgenaug:PythaeNetwork", **options))
    return PythaeSynthesizer(net, device=device), None


def ensemble(device: torch.device) -> Any:
    one, two = module(device)[0], module(device)[0]
    return EnsembleSynthesizer({"one": one, "two": two}), None
