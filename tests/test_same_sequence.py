"""Law 4: on the fly and offline give the same samples, and so does a fresh sequence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torchgenaug import ClassLabels, DiffusersSynthesizer, SyntheticPool, SyntheticSequence, render_shards
from torchgenaug.testing import AnalyticSynthesizer

CAPACITY, BATCH = 12, 4


def analytic():
    return SyntheticSequence(AnalyticSynthesizer((9, 7), num_classes=3), ClassLabels(3), seed=5)


def diffusion():
    """A tiny class-conditional UNet whose zero-initialised last layer is made to do something."""
    from diffusers import DDIMScheduler, UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        num_class_embeds=3,
    )
    torch.nn.init.normal_(unet.conv_out.weight, std=0.1)
    synthesizer = DiffusersSynthesizer(unet, DDIMScheduler(), steps=3, value_range=(0, 1), clip=True)
    return SyntheticSequence(synthesizer, ClassLabels(3), seed=5)


@pytest.mark.parametrize("make", [analytic, diffusion])
def test_pool_shards_and_sequence_agree(make, tmp_path):
    sequence = make()
    shards = render_shards(sequence, tmp_path / "shards", 2 * CAPACITY, batch_size=BATCH, shard_size=2 * BATCH)
    everything = shards.read(np.arange(2 * CAPACITY))
    assert shards.fingerprint == sequence.fingerprint
    with SyntheticPool(sequence, CAPACITY, refresh=0.5, batch_size=BATCH) as pool:
        for epoch in (0, 1, 2):
            pool.set_epoch(epoch)
            ids = pool.ids(np.arange(CAPACITY))
            assert ids.tolist() == list(range(6 * epoch, 6 * epoch + CAPACITY))
            for name, values in pool.read(np.arange(CAPACITY)).items():
                assert torch.equal(values, everything[name][ids]), "bit-equal under equal batch boundaries"
    alone = make().batch([17])
    for name, values in alone.items():
        assert (values[0].double() - everything[name][17].double()).abs().max() <= 1e-4
