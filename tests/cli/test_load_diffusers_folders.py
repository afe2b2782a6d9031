"""Plain folders of diffusers on the command line: which class samples them, and what they need."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from torchgenaug.cli.load import load_sequence
from torchgenaug.errors import ConfigurationError

sys.path.insert(0, str(Path(__file__).parents[1] / "synthesizers"))
import tiny_dit
import tiny_nets
import tiny_prompted


@pytest.fixture
def dit(tmp_path):
    import diffusers

    pipeline = diffusers.DiTPipeline(tiny_dit.transformer(), tiny_nets.autoencoder(), diffusers.DDIMScheduler())
    pipeline.save_pretrained(tmp_path / "dit")
    return str(tmp_path / "dit")


@pytest.fixture
def prompted(tmp_path):
    import diffusers

    folder = tmp_path / "inpaint"
    tiny_prompted.unet(9).save_pretrained(folder / "unet")
    tiny_prompted.vae().save_pretrained(folder / "vae")
    diffusers.DDIMScheduler(clip_sample=False).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionInpaintPipeline"}')
    return str(folder)


def test_a_transformer_gets_its_classes(dit):
    sequence = load_sequence(dit, steps=2)
    assert type(sequence.synthesizer).__name__ == "DiTSynthesizer"
    assert sequence.synthesizer.steps == 2
    assert sequence.batch([0, 1])["label"].max() < 3


def test_a_model_on_prompts_says_what_it_needs(prompted):
    message = (
        r"conditioned on prompt_embeds: .*; source: .*; mask: .* JointConditions\(Prompts.*RealFields\(dataset, \["
    )
    with pytest.raises(ConfigurationError, match=message):
        load_sequence(prompted)


def test_other_steps_for_a_saved_one(tmp_path, dit):
    from torchgenaug import save_synthesizer

    save_synthesizer(load_sequence(dit, steps=2).synthesizer, tmp_path / "saved")
    changed = load_sequence(str(tmp_path / "saved"), steps=3).synthesizer
    assert changed.steps == 3
    assert changed.fingerprint == load_sequence(dit, steps=3).synthesizer.fingerprint


def test_conditions_from_a_factory(tmp_path, monkeypatch, prompted):
    (tmp_path / "inpainting_conditions.py").write_text(
        "import torch\n"
        "from torchgenaug import JointConditions, Prompts, RealFields\n"
        "def make():\n"
        "    real = [{'source': torch.zeros(1, 8, 8), 'mask': torch.ones(1, 8, 8, dtype=torch.int64)}]\n"
        "    prompts = Prompts(['lesion'], torch.zeros(1, 3, 8))\n"
        "    return JointConditions(prompts, RealFields(real, ['source', 'mask']))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    sequence = load_sequence(prompted, conditions="inpainting_conditions:make", steps=2, value_range=(-8.0, 8.0))
    assert sequence.batch([0])["image"].dtype == torch.float32
