"""Hugging Face's Trainer goes on to the bit from any place, over shards and pools, in one process and two.

All places: ``pytest -m slow tests/trainers/test_huggingface_resume.py`` (five minutes).
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

import pytest
import torch

from tests import interpreter
from torchgenaug import (
    FieldSpec,
    FunctionSynthesizer,
    ShardSource,
    SyntheticMixDataset,
    SyntheticPool,
    SyntheticSequence,
    render_shards,
)

STEPS = 10  # of an epoch, in all processes together
PLACES = {"in epoch 0": 0.5, "after epoch 0": 1, "in epoch 1": 1.5, "after epoch 1": 2}
FIELDS = {"image": FieldSpec((1, 4, 4), value_range=(0, 1)), "label": FieldSpec((), torch.int64, kind="scalar")}


def generate(seeds, conditions):
    draws = [torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(seed % 2**63)) for seed in seeds]
    return {"image": torch.stack(draws), "label": torch.tensor([seed % 2 for seed in seeds])}


def sequence():
    return SyntheticSequence(FunctionSynthesizer(generate, FIELDS, fingerprint="generate-1"))


class Real:
    def __len__(self):
        return 4 * STEPS

    def __getitem__(self, index):
        image = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(index))
        return {"pixel_values": image, "labels": torch.tensor(index % 2)}


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(16, 2), []

    def forward(self, pixel_values, labels):
        self.seen.append(pixel_values.clone())
        logits = self.layer(pixel_values.flatten(1))
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def train(folder, kind, saved=(), resume=None, *, calls_back, **options):
    from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

    from torchgenaug.trainers.huggingface import SetEpoch

    class Save(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_save = state.global_step in saved
            return control

    set_seed(0)
    source = SyntheticPool(sequence(), 16, batch_size=4) if kind == "pool" else ShardSource(f"{folder}/shards")
    mixed = SyntheticMixDataset(Real(), source, 0.25, fields={"pixel_values": "image", "labels": "label"})
    arguments = TrainingArguments(
        str(folder),
        num_train_epochs=3,
        per_device_train_batch_size=4,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
        logging_strategy="no",
        **options,
    )
    model = Classifier()
    callbacks = [Save(), *([SetEpoch()] if calls_back else [])]
    Trainer(model, arguments, train_dataset=mixed, callbacks=callbacks).train(resume_from_checkpoint=resume)
    if kind == "pool":
        source.close()
    return model


def compare(folder, kind, places, **options):
    """A run without a break, and one from each place: how many samples and weights differ."""
    steps = [round(PLACES[place] * STEPS / int(os.environ.get("WORLD_SIZE", 1))) for place in places]
    whole = train(folder, kind, steps, **options)
    for step in steps:
        again = train(folder, kind, resume=f"{folder}/checkpoint-{step}", **options)
        assert len(whole.seen) == step + len(again.seen), step
        assert all(torch.equal(a, b) for a, b in zip(whole.seen[step:], again.seen, strict=True)), step
        assert torch.equal(whole.layer.weight, again.layer.weight), step


def prepare(folder):
    pytest.importorskip("transformers")
    render_shards(sequence(), folder / "shards", 24, batch_size=4, shard_size=8, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("calls_back", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["shards", "pool"])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_goes_on_from_every_place(tmp_path, processes, kind, workers, calls_back):
    prepare(tmp_path)
    options = {"calls_back": calls_back, "dataloader_num_workers": workers}
    script = [Path(__file__), json.dumps([str(tmp_path), kind, list(PLACES), options])]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if processes == 1:
        ends = [interpreter.run(script, cwd=tmp_path, env=environment)]
    else:
        ends = interpreter.run_ranks(script, processes, cwd=tmp_path, env=environment)
    assert [end.returncode for end in ends] == [0] * processes, "\n".join(end.stderr[-3000:] for end in ends)


if __name__ == "__main__":
    place, source_kind, wanted, given = json.loads(sys.argv[1])
    compare(place, source_kind, wanted, **given)
    if torch.distributed.is_initialized():
        gc.collect()  # a model in a reference cycle that outlives its group can abort the process at its end
        torch.distributed.destroy_process_group()
