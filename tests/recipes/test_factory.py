"""DATA as package.module:factory: what samples may be, what is found out about them, and what is refused."""

from __future__ import annotations

import pickle
import sys
import types

import numpy as np
import pytest
import torch

from torchgenaug.errors import ConfigurationError, EmptyDatasetError
from torchgenaug.recipes.data import scan
from torchgenaug.recipes.data.load import load_data
from torchgenaug.recipes.data_fingerprint import data_fingerprint


class Listed:
    """A map-style data set over a list, or over a function of the index."""

    def __init__(self, samples, count=None):
        self.samples, self.count = samples, len(samples) if count is None else count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.samples(index) if callable(self.samples) else self.samples[index]


@pytest.fixture
def load(monkeypatch):
    """Loads a list of samples as a factory would give it."""

    def loaded(samples, count=None, size=None):
        module = types.ModuleType("a_module")
        module.make = lambda: Listed(samples, count)
        monkeypatch.setitem(sys.modules, "a_module", module)
        return load_data("a_module:make", size=size)

    return loaded


def image(k=0, shape=(1, 16, 16)):
    return torch.rand(shape, generator=torch.Generator().manual_seed(k)) * 10 - 2


def test_dict_samples(load):
    data = load([{"image": image(k), "label": k % 3, "patient": f"p{k // 2}", "age": 40} for k in range(6)])
    assert data.ids[4] == "a_module:make row 4"
    assert data.patients == ("p0", "p0", "p1", "p1", "p2", "p2")
    assert data.labels().tolist() == [0, 1, 2, 0, 1, 2]
    assert torch.equal(data.samples[3]["image"], image(3))
    everything = torch.stack([image(k) for k in range(6)])
    assert data.fields["image"].value_range == pytest.approx((everything.min().item(), everything.max().item()))
    assert "age" in data.remarks[0]
    assert "labels 3 classes of 2" in repr(data)
    assert "3 patients" in repr(data)


def test_tuples_are_told_by_shape_and_dtype(load):
    assert set(load([(image(k),) for k in range(2)]).fields) == {"image"}
    assert set(load([image(k) for k in range(2)]).fields) == {"image"}
    assert set(load([(image(k), k) for k in range(2)]).fields) == {"image", "label"}
    assert set(load([(image(k), np.array([k])) for k in range(2)]).fields) == {"image", "label"}
    masked = load([(image(k), torch.ones(16, 16, dtype=torch.uint8)) for k in range(2)])
    assert masked.samples[0]["mask"].shape == (1, 16, 16)
    for wrong in ((image(), image()), (image(), 0.5), (image(), 0, 1)):
        with pytest.raises(ConfigurationError, match=r"A tuple must be .* at index 0"):
            load([wrong, wrong])


def test_eight_bits_become_zero_to_one_and_pil_images_are_read(load):
    picture = pytest.importorskip("PIL.Image")
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = load([(picture.fromarray(pixels), k) for k in range(2)])
    assert data.fields["image"].value_range == (0, 1)
    assert torch.equal(data.samples[1]["image"], torch.from_numpy(pixels)[None] / 255)


def test_subjects(load):
    tio = pytest.importorskip("torchio")
    flat = [
        tio.Subject(
            t1=tio.ScalarImage(tensor=image(k, (1, 16, 16, 1))),
            seg=tio.LabelMap(tensor=torch.ones(1, 16, 16, 1, dtype=torch.uint8)),
        )
        for k in range(2)
    ]
    data = load(flat)
    assert data.fields["image"].shape == data.fields["mask"].shape == (1, 16, 16)
    solid = [tio.Subject(image=tio.ScalarImage(tensor=image(k, (1, 8, 16, 8)))) for k in range(2)]
    assert load(solid).fields["image"].shape == (1, 8, 16, 8)


def test_outliers_are_cut_and_reported(load):
    samples = [{"image": image(k, (1, 64, 64))} for k in range(4)]
    samples[2]["image"][0, 3, 3] = 1e6
    data = load(samples)
    low, high = data.fields["image"].value_range
    assert -2.1 < low < -1.9
    assert 7.9 < high < 8.1
    assert data.samples[2]["image"].max() == pytest.approx(high)
    assert "to 1e+06" in "".join(data.remarks)


def test_masks(load):
    def masks(*values):
        mask = torch.zeros(1, 16, 16, dtype=torch.int64)
        mask[0, 0, : len(values)] = torch.tensor(values)
        return [{"image": image(k), "mask": mask} for k in range(2)]

    assert load(masks(5)).num_mask_classes == 6
    binary = load(masks(255))
    assert binary.num_mask_classes == 2
    assert binary.samples[0]["mask"].unique().tolist() == [0, 1]
    ranked = load(masks(40, 200))
    assert ranked.samples[0]["mask"].unique().tolist() == [0, 1, 2]
    assert "0, 40, 200 became classes 0 to 2" in "".join(ranked.remarks)
    with pytest.raises(ConfigurationError, match=r"at most 64 different values, got more by index 1"):
        load(
            [{"image": image(), "mask": torch.arange(256).reshape(1, 16, 16) // (8 if k == 0 else 1)} for k in range(2)]
        )
    with pytest.raises(ConfigurationError, match="another value than 0"):
        load(masks())
    with pytest.raises(ConfigurationError, match="negative"):
        load(masks(-1))
    with pytest.raises(ConfigurationError, match="whole numbers"):
        load([{"image": image(), "mask": torch.full((1, 16, 16), 0.5)}] * 2)


def test_sizes(load):
    assert load([image(k, (1, 13, 16)) for k in range(2)]).image_shape == (1, 16, 16)
    mixed = [image(0, (1, 16, 16)), image(1, (1, 20, 40)), image(2, (1, 16, 16))]
    with pytest.raises(ConfigurationError, match=r"got 1 of another: \(20, 40\) at index 1.*--size 40"):
        load(mixed)
    assert load(mixed, size=24).image_shape == (1, 24, 24)


def test_an_augmenting_data_set_is_read_anew(load):
    data = load(lambda index: {"image": torch.randn(1, 16, 16), "label": index % 2}, count=4)
    assert data.varies
    assert not torch.equal(data.samples[0]["image"], data.samples[0]["image"])
    assert data_fingerprint(data) == data_fingerprint(data)
    assert "augments" in "".join(data.remarks)
    state = torch.random.get_rng_state()
    load(lambda index: torch.randn(1, 16, 16), count=4)
    assert torch.equal(state, torch.random.get_rng_state())


def test_large_data_are_read_when_needed(load, monkeypatch):
    samples = [{"image": image(k, (1, 12, 12)), "label": k % 2} for k in range(6)]
    samples[0]["image"][0, 0, 0] = 9e9
    kept = load(samples)
    monkeypatch.setattr(scan, "MAX_BYTES_IN_MEMORY", 2000)
    lazy = load(samples)
    assert isinstance(lazy.samples, scan.ConformedSamples)
    assert isinstance(pickle.loads(pickle.dumps(lazy.samples.convert)), dict)
    assert lazy.labels().tolist() == kept.labels().tolist()
    for k in range(6):
        assert torch.equal(kept.samples[k]["image"], lazy.samples[k]["image"])
    assert data_fingerprint(lazy) == data_fingerprint(kept)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([{"image": image(), "label": 1}] * 2, r"without gaps, got none of \[0\]"),
        ([{"image": image(), "label": 0}] * 2, "two classes at least"),
        ([{"image": image(), "label": 0.5}] * 2, "one whole number from 0, got 0.5 at index 0"),
        ([{"image": image()}, {"image": image() * torch.nan}], "NaN or infinite values at index 1"),
        (
            [{"image": image()}, {"image": image(0, (3, 16, 16))}],
            r"grey, 2D\), got colour, 2D: \(3, 16, 16\) at index 1",
        ),
        ([{"image": image()}, {"image": image(), "label": 1}], r"got \['image', 'label'\] at index 1"),
        ([{"picture": image()}] * 2, r"field 'image' .* got \['picture'\] at index 0"),
        ([{"image": torch.ones(1, 8, 8)}] * 2, "must not all be constant"),
        ([{"image": image(0, (40, 16, 16))}] * 2, "at most 16 channels"),
        ([{"image": image(), "source": image(0, (1, 8, 8))}] * 2, r"size of its image, \(16, 16\), got \(8, 8\)"),
        ([{"image": "a.png"}] * 2, "tensor, an array or a number, got str at index 0"),
        ([{"image": image(), "patient": "a"}, {"image": image()}], "Every sample or none must have a 'patient'"),
    ],
)
def test_refused_samples(load, samples, message):
    with pytest.raises(ConfigurationError, match=message):
        load(samples)


def test_refused_factories(load, monkeypatch):
    with pytest.raises(EmptyDatasetError, match="got none"):
        load([])
    with pytest.raises(ConfigurationError, match="No module named"):
        load_data("no_such_module:make")
    load([image(), image(1)])
    with pytest.raises(ConfigurationError, match=r"'nothing', which it does not have\. It has: make"):
        load_data("a_module:nothing")
    sys.modules["a_module"].make = lambda: iter([])
    with pytest.raises(ConfigurationError, match="map-style"):
        load_data("a_module:make")
    with pytest.raises(ConfigurationError, match="'train' for data of your own"):
        load_data("a_module:make", split="held_out")


def test_an_error_of_the_data_set_says_where(load):
    def read(index):
        if index == 2:
            raise OSError("disk")
        return image(index)

    with pytest.raises(OSError, match="disk") as caught:
        load(read, count=3)
    assert caught.value.__notes__ == ["while sample 2 of the data set was read"]


def test_the_working_directory_is_importable_for_the_call_only(tmp_path, monkeypatch):
    (tmp_path / "my_data_of_this_test.py").write_text(
        "import torch\ndef make():\n    import my_helper_of_this_test\n    return my_helper_of_this_test.SAMPLES\n"
    )
    (tmp_path / "my_helper_of_this_test.py").write_text(
        "import torch\nSAMPLES = [{'image': torch.rand(1, 16, 16)} for _ in range(4)]\n"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert len(load_data("my_data_of_this_test:make")) == 4
    assert sys.path == before


class OpensAtFirstRead:
    """The pattern that everybody recommends for zip, tar, h5py, LMDB: one file, opened by whoever reads."""

    def __init__(self, path, count):
        self.path, self.count, self.file = path, count, None

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if self.file is None:
            self.file = open(self.path, "rb")  # noqa: SIM115 (kept open, as such sets do)
        self.file.seek(index * 256)
        values = np.frombuffer(self.file.read(256), np.uint8).copy()
        return {"image": torch.from_numpy(values.reshape(1, 16, 16)).float() / 255}

    def __del__(self):
        if self.file is not None:
            self.file.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_set_that_opens_its_file_is_scanned_through_a_copy(tmp_path, monkeypatch, workers):
    draw = np.random.default_rng(0)
    (tmp_path / "images").write_bytes(draw.integers(0, 256, (600, 256), np.uint8).tobytes())
    real = OpensAtFirstRead(tmp_path / "images", 600)
    module = types.ModuleType("a_lazy_module")
    module.make = lambda: real
    monkeypatch.setitem(sys.modules, "a_lazy_module", module)
    data = load_data("a_lazy_module:make")
    assert real.file is None
    loader = torch.utils.data.DataLoader(data.samples, batch_size=20, num_workers=workers)
    expected = torch.stack([real[index]["image"] for index in range(600)])
    found = torch.cat([batch["image"] for batch in loader])
    assert torch.equal(found, expected)
