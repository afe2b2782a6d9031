"""nnU-Net: real and synthetic cases as a raw data set, with synthetic ones in the training folds only."""

import torch

from torchgenaug import FieldSpec, FunctionSynthesizer, ShardSource, SyntheticSequence, render_shards
from torchgenaug.trainers.nnunet import write_nnunet

FIELDS = {
    "image": FieldSpec((1, 16, 16, 16), value_range=(0, 1)),
    "mask": FieldSpec((1, 16, 16, 16), torch.int64, kind="label_map"),
}


def generate(seeds, conditions):  # stands for a generative model of images and masks
    draws = [torch.rand(1, 16, 16, 16, generator=torch.Generator().manual_seed(seed % 2**63)) for seed in seeds]
    images = torch.stack(draws)
    return {"image": images, "mask": (images > 0.7).long()}


if __name__ == "__main__":
    sequence = SyntheticSequence(FunctionSynthesizer(generate, FIELDS, fingerprint="generate-1"))
    render_shards(sequence, "shards", count=4, batch_size=2)
    real = [{name: value[0] for name, value in generate([number], None).items()} for number in range(10)]
    labels = {"background": 0, "lesion": 1}
    splits = write_nnunet("Dataset501_Lesions", real, ShardSource("shards"), 4, labels=labels)
    assert all(len(fold["train"]) == 12 and len(fold["val"]) == 2 for fold in splits)
    assert not any(case.startswith("synthetic") for fold in splits for case in fold["val"])
    print("copy Dataset501_Lesions/splits_final.json to nnUNet_preprocessed/Dataset501_Lesions")
