"""Hugging Face's Trainer: ``torchrun --nproc_per_node 2 huggingface_trainer.py``, or one process with ``python``."""

import gc
import os
import tempfile

import torch
import torch.distributed as dist
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from torchgenaug import FieldSpec, FunctionSynthesizer, SyntheticMixDataset, SyntheticPool, SyntheticSequence
from torchgenaug.trainers.huggingface import SetEpoch


def generate(seeds, conditions):  # stands for a generative model
    draws = [torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(seed % 2**63)) for seed in seeds]
    return {"image": torch.stack(draws), "label": torch.tensor([seed % 2 for seed in seeds])}


FIELDS = {"image": FieldSpec((1, 8, 8), value_range=(0, 1)), "label": FieldSpec((), torch.int64, kind="scalar")}


class Real(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        image = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(index))
        return {"pixel_values": image, "labels": torch.tensor(index % 2)}


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(64, 2), []

    def forward(self, pixel_values, labels):
        if self.training:
            self.seen.append(pixel_values.clone())
        logits = self.layer(pixel_values.flatten(1))
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


class Interrupt(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_save = control.should_training_stop = state.global_step == 7
        return control


def train(folder, callbacks=(), resume=False):
    set_seed(0)
    synthesizer = FunctionSynthesizer(generate, FIELDS, fingerprint="generate-1")
    pool = SyntheticPool(SyntheticSequence(synthesizer), capacity=16, batch_size=4)
    names = {"pixel_values": "image", "labels": "label"}  # the names of the real samples: those of the generated ones
    mixed = SyntheticMixDataset(Real(), pool, ratio=0.25, fields=names)
    arguments = TrainingArguments(
        folder,
        num_train_epochs=3,
        per_device_train_batch_size=4,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
        logging_strategy="no",
    )
    model = Classifier()
    trainer = Trainer(model, arguments, train_dataset=mixed, callbacks=[SetEpoch(close_pools=True), *callbacks])
    trainer.train(resume_from_checkpoint=resume)
    return model, mixed


if __name__ == "__main__":
    folder = os.environ.get("EXAMPLE_FOLDER") or tempfile.mkdtemp()
    whole, mixed = train(folder)
    assert mixed.epoch == 2
    train(folder, [Interrupt()])
    resumed, _ = train(folder, resume=True)
    assert len(whole.seen) == 7 + len(resumed.seen)
    assert all(torch.equal(a, b) for a, b in zip(whole.seen[7:], resumed.seen, strict=True))
    assert torch.equal(whole.layer.weight, resumed.layer.weight)
    if dist.is_initialized():
        gc.collect()  # a model in a reference cycle that outlives its group can abort the process at its end
        dist.destroy_process_group()
    print("resumed to the bit")
