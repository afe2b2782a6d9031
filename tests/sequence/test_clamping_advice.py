from __future__ import annotations

import diffusers
import pytest
import torch

from torchgenaug import DiffusersSynthesizer, FieldSpec, FunctionSynthesizer, SyntheticSequence
from torchgenaug.errors import BadSampleError


def overshooting(**options):
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8,),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    return DiffusersSynthesizer(unet, scheduler, steps=2, value_range=(0, 1), **options)


def test_clip_is_advised_and_helps():
    with torch.random.fork_rng(devices=[]):
        with pytest.raises(BadSampleError, match="clamp them: clip=True"):
            SyntheticSequence(overshooting()).batch([0])
        image = SyntheticSequence(overshooting(clip=True)).batch([0])["image"]
    assert 0 <= image.min() <= image.max() <= 1


def test_models_without_clip_are_clamped_where_they_are_defined():
    def bright(seeds, conditions):
        return {"image": torch.rand(len(seeds), 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 1.2}

    fields = {"image": FieldSpec((1, 4, 4), value_range=(0, 1))}
    with pytest.raises(BadSampleError, match=r"images\.clamp\(low, high\) in the model"):
        SyntheticSequence(FunctionSynthesizer(bright, fields, fingerprint="bright")).batch([0])


def test_masks_are_not_to_be_clamped():
    fields = {"mask": FieldSpec((1, 4, 4), torch.int64, kind="label_map", value_range=(0, 1))}
    model = FunctionSynthesizer(
        lambda seeds, conditions: {"mask": torch.full((len(seeds), 1, 4, 4), 2)}, fields, fingerprint="two"
    )
    with pytest.raises(BadSampleError) as caught:
        SyntheticSequence(model).batch([0])
    assert "clamp" not in str(caught.value)
