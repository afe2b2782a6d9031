from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch
from fit_helpers import blobs, tiny

from torchgenaug import load_synthesizer
from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.recipes import FitOptions, checkpoint, fit
from torchgenaug.recipes.build import build_recipe, resolve_condition
from torchgenaug.synthesizers import (
    LabelsToImageSynthesizer,
    StableDiffusionSynthesizer,
    merge_lora,
    save_synthesizer,
)


def options(pipeline, **changes):
    return tiny(**{"width": None, "steps": 2, "start": str(pipeline), "settings": {"rank": 2}} | changes)


def test_trained_saved_and_sampled(tmp_path, pipeline):
    data = blobs(spatial=(8, 8))
    chosen = options(pipeline, condition="label", learning_rate=0.1)
    result = fit("lora", data, tmp_path / "model", recipe=chosen, options=FitOptions(reports=1), device="cpu")
    loaded = load_synthesizer(tmp_path / "model")
    assert loaded.fingerprint == result.synthesizer.fingerprint
    assert (loaded.num_classes, loaded.trained_on) == (2, None)  # nobody knows what the pipeline saw
    batch = loaded.synthesize([1, 2], {"label": torch.tensor([0, 1])})
    assert batch["image"].shape == (2, 1, 8, 8)
    before = StableDiffusionSynthesizer.from_pretrained(pipeline, value_range=(0, 100), steps=2, clip=True)
    embeddings = loaded.embeddings[[0, 1]]
    assert not torch.equal(batch["image"], before.synthesize([1, 2], {"prompt_embeds": embeddings})["image"])
    assert not list((tmp_path / "model").rglob("*.bin"))
    kept = checkpoint.load(tmp_path / "model/training", torch.device("cpu"))
    assert list(kept["networks"]) == ["adapters"]  # the pipeline is not in every checkpoint
    advice = r"text encoder is not kept\. .* from again: torchgenaug fit lora … --from PIPELINE"  # as above
    shutil.copytree(tmp_path / "model", tmp_path / "alone", ignore=shutil.ignore_patterns("training"))
    for folder in (tmp_path / "model", tmp_path / "alone"):
        for family in ("lora", "ddpm"):
            with pytest.raises(ConfigurationError, match=advice):
                fit(family, data, tmp_path / "more", recipe=options(folder), device="cpu")


def test_the_prompt_of_data_without_classes_names_no_folder(pipeline):
    data = dataclasses.replace(blobs(spatial=(8, 8)), name="/home/someone/films")
    assert build_recipe("lora", data, options(pipeline)).texts == ["a medical image of films"]


def test_a_fresh_adapter_changes_nothing_and_one_that_learnt_is_what_training_saw(pipeline):
    recipe = build_recipe("lora", blobs(spatial=(8, 8)), options(pipeline))
    unet = recipe.base.networks["unet"]
    for value in recipe.networks["adapters"].parameters():
        value.data.normal_(generator=torch.Generator().manual_seed(0))
    merged = merge_lora(unet, recipe.networks["adapters"].tensors()).eval()
    noisy, time, prompt = torch.ones(1, 4, 4, 4), torch.tensor([5]), torch.ones(1, 3, 8)
    with torch.no_grad():
        trained, sampled, plain = (
            each(noisy, time, encoder_hidden_states=prompt).sample for each in (recipe.unet.eval(), merged, unet)
        )
    assert torch.allclose(trained, sampled, atol=1e-4)
    assert not torch.allclose(trained, plain, atol=1e-2)


def test_what_cannot_be(tmp_path, pipeline):
    data = blobs(spatial=(8, 8))
    with pytest.raises(ConfigurationError, match="`start` must be the folder of a pretrained pipeline for lora"):
        resolve_condition("lora", data, tiny())
    with pytest.raises(SynthesizerLoadError, match="without unet/"):
        build_recipe("lora", data, options(tmp_path))
    save_synthesizer(LabelsToImageSynthesizer(data.fields["mask"]), tmp_path / "painted")
    with pytest.raises(ConfigurationError, match=r"pipeline for lora, got '.*painted', a synthesizer of the kind 'lab"):
        fit("lora", data, tmp_path / "model", recipe=options(tmp_path / "painted"), device="cpu")
    with pytest.raises(ConfigurationError, match="`width` must be left out for lora"):
        build_recipe("lora", data, options(pipeline, width=8))
    with pytest.raises(ConfigurationError, match=r"`size`|`sample_size`|multiples"):
        build_recipe("lora", blobs(spatial=(9, 9)), options(pipeline))
