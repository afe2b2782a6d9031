"""MONAI's caching data sets as the real set: what they cache stays theirs, and every row is the cache's own."""

from __future__ import annotations

import pickle

import pytest
import torch

from torchgenaug import SyntheticMixDataset

pytest.importorskip("monai")

from monai.data import (
    CacheDataset,
    CacheNTransDataset,
    DataLoader,
    LMDBDataset,
    MetaTensor,
    PersistentDataset,
    SmartCacheDataset,
)
from monai.transforms import Compose, Lambdad

SIZE = 8
ROWS = [{"image": torch.full((1, 4, 4), float(k)), "label": k} for k in range(SIZE)]
SYNTHETIC = [{"image": torch.full((1, 4, 4), 1000.0 + k), "label": 100 + k} for k in range(4)]


def doubled(image):
    return 2 * image


def transform():
    return Compose([Lambdad("image", doubled)])


def lmdb(folder):
    pytest.importorskip("lmdb")
    return LMDBDataset(ROWS, transform(), folder, progress=False)


CACHES = {
    "CacheDataset": lambda folder: CacheDataset(ROWS, transform(), progress=False),
    "PersistentDataset": lambda folder: PersistentDataset(ROWS, transform(), folder),
    "CacheNTransDataset": lambda folder: CacheNTransDataset(ROWS, transform(), 1, folder),
    "SmartCacheDataset": lambda folder: SmartCacheDataset(
        ROWS, transform(), replace_rate=0.5, cache_num=4, progress=False, num_init_workers=1, num_replace_workers=1
    ),
    "LMDBDataset": lmdb,
}


def check(mixed, epoch, **options):
    mixed.set_epoch(epoch)
    batches = list(DataLoader(mixed, batch_size=4, **options))
    images = torch.cat([batch["image"].amax((1, 2, 3)) for batch in batches])
    labels = torch.cat([batch["label"] for batch in batches])
    assert (labels >= 100).tolist() == mixed.is_synthetic().tolist()
    assert torch.equal(torch.as_tensor(images), torch.where(labels >= 100, 900 + labels, 2 * labels).float())


@pytest.mark.parametrize("name", list(CACHES))
def test_every_row_is_that_of_the_cache_in_any_epoch(tmp_path, name):
    mixed = SyntheticMixDataset(CACHES[name](tmp_path), SYNTHETIC, 0.25)
    for epoch in range(3):
        check(mixed, epoch)


@pytest.mark.parametrize("name", list(CACHES))
def test_so_it_is_in_forked_workers(tmp_path, name):
    mixed = SyntheticMixDataset(CACHES[name](tmp_path), SYNTHETIC, 0.25)
    check(mixed, 1, num_workers=2, multiprocessing_context="fork")
    check(mixed, 2, num_workers=1, multiprocessing_context="fork")


@pytest.mark.parametrize("name", list(CACHES))
def test_spawned_workers_get_what_pickle_makes_of_it(tmp_path, name):
    real = CACHES[name](tmp_path)
    try:
        pickle.dumps(real)
    except Exception as error:
        pytest.skip(f"{name} itself cannot be sent to a spawned worker: {error}")
    # Before the first read: LMDBDataset holds an open file afterwards.
    sent = pickle.loads(pickle.dumps(SyntheticMixDataset(real, SYNTHETIC, 0.25)))
    check(sent, 0)
    check(sent, 1)


def test_a_look_does_not_fill_the_cache_on_disk(tmp_path):
    real = PersistentDataset(ROWS, transform(), tmp_path)
    mixed = SyntheticMixDataset(real, SYNTHETIC, 0.25)
    synthetic = [k for k, flag in enumerate(mixed.is_synthetic()) if flag]
    assert isinstance(mixed[synthetic[0]]["image"], MetaTensor)
    assert not list(tmp_path.iterdir())


def test_a_smart_cache_moves_on_under_the_mix():
    real = CACHES["SmartCacheDataset"](None)
    mixed = SyntheticMixDataset(real, SYNTHETIC, 0.25)
    real.start()
    seen = set()
    for epoch in range(4):
        check(mixed, epoch)
        seen |= {int(mixed[k]["label"]) for k in range(len(mixed)) if not mixed.is_synthetic([k])[0]}
        real.update_cache()
    real.shutdown()
    assert seen == set(range(SIZE))
