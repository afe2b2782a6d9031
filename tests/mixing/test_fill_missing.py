from __future__ import annotations

import pickle
from collections import namedtuple

import numpy as np
import pytest
import torch
import torchio as tio
from torch.utils.data import DataLoader, Dataset

from torchgenaug import (
    FieldSpec,
    FillMissing,
    FunctionSynthesizer,
    ShardSource,
    SyntheticMixDataset,
    render_shards,
    seeding,
)
from torchgenaug.errors import ConfigurationError, EmptyDatasetError, FieldMismatchError, SampleIndexError
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource

SHAPE = (1, 6, 5)
WITHOUT = (1, 2, 5)


def image(seed, shape=SHAPE):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def translate(seeds, conditions):
    noise = seeding.normal(seeds, conditions["source"].shape[1:])
    return {"image": (1 - conditions["source"] + 0.01 * noise).clamp(-1, 2)}


def translator(shape=SHAPE):
    return FunctionSynthesizer(translate, {"image": FieldSpec(shape, value_range=(-1, 2))}, fingerprint="t1 to t2")


def dicts(convert=lambda value: value):
    samples = [{"t1": convert(image(k)), "t2": convert(image(100 + k)), "label": k} for k in range(7)]
    for k in WITHOUT:
        del samples[k]["t2"]
    return samples


def filled(real=None, supply=None, **options):
    return FillMissing(real or dicts(), supply or translator(), source="t1", target="t2", **options)


def test_only_what_is_missing_is_filled():
    real = dicts()
    made = filled(real)
    assert made.missing.tolist() == list(WITHOUT)
    assert len(made) == 7
    for index in range(7):
        sample = made[index]
        if index in WITHOUT:
            assert set(sample) == {"t1", "t2", "label"}
            assert sample["t1"] is real[index]["t1"]
            assert (sample["t2"] - (1 - sample["t1"])).abs().max() < 0.1
            assert "t2" not in real[index]
        else:
            assert sample is real[index]
    assert made.is_synthetic().nonzero()[0].tolist() == list(WITHOUT)
    assert made.is_synthetic([1, 3]).tolist() == [True, False]
    assert made[-2]["label"] == 5


def test_a_translation_is_a_function_of_seed_and_index():
    one, two = filled(), filled(seed=1)
    assert torch.equal(one[2]["t2"], filled()[2]["t2"])
    assert not torch.equal(one[2]["t2"], two[2]["t2"])
    copy = pickle.loads(pickle.dumps(one))
    assert torch.equal(copy[2]["t2"], one[2]["t2"])


def test_none_counts_as_missing_and_indices_may_be_given():
    real = [{**sample, "t2": sample.get("t2")} for sample in dicts()]
    assert filled(real).missing.tolist() == list(WITHOUT)

    class Counted(list):
        read = 0

        def __getitem__(self, index):
            self.read += 1
            return super().__getitem__(index)

    counted = Counted(dicts())
    assert torch.equal(filled(counted, missing=WITHOUT)[5]["t2"], filled(real)[5]["t2"])
    assert counted.read < 16


def test_rendered_translations_are_the_same(tmp_path):
    fresh = filled(provenance=True)
    render_shards(fresh.sequence, tmp_path / "t2", len(fresh.missing), batch_size=1, shard_size=2)
    stored = filled(supply=ShardSource(tmp_path / "t2"), provenance=True)
    assert stored.sequence is None
    for index in range(7):
        one, two = fresh[index], stored[index]
        assert torch.equal(one["t2"], two["t2"])
        assert one["provenance"] == two["provenance"]


def test_provenance():
    made = filled(provenance=True)
    origin = made[5]["provenance"]
    assert (origin["is_synthetic"], origin["index"], origin["parent"], origin["id"]) == (True, 5, 5, 2)
    assert origin["seed"] == f"{int(made.sequence.seeds([2])[0]):016x}"
    assert origin["fingerprint"] == made.sequence.fingerprint
    assert made[0]["provenance"]["is_synthetic"] is False
    batch = next(iter(DataLoader(made, batch_size=7)))
    assert batch["provenance"]["is_synthetic"].tolist() == [index in WITHOUT for index in range(7)]


def test_in_workers_and_mixed_on():
    made = filled()
    batch = next(iter(DataLoader(made, batch_size=7, num_workers=2)))
    assert torch.equal(batch["t2"][2], made[2]["t2"])
    synthetic = [{"t1": image(k), "t2": image(k), "label": 0} for k in range(4)]
    mixed = SyntheticMixDataset(made, synthetic, 0.25)
    assert all(set(mixed[index]) == {"t1", "t2", "label"} for index in range(7))


@pytest.mark.parametrize("kind", ["numpy", "tuple", "list", "namedtuple", "subject 2d", "subject 3d"])
def test_in_the_type_of_the_real_modality(kind):
    shape, fields = SHAPE, None
    if kind == "numpy":
        real = dicts(lambda value: value.numpy().astype(np.float64))
    elif kind.startswith("subject"):
        shape = SHAPE if kind == "subject 2d" else (1, 6, 5, 4)
        affine = np.diag([2.0, 1, 1, 1])

        def scan(seed):
            tensor = image(seed, shape)
            return tio.ScalarImage(tensor=tensor[..., None] if tensor.ndim == 3 else tensor, affine=affine)

        real = [tio.Subject(t1=scan(k), **({} if k in WITHOUT else {"t2": scan(100 + k)}), label=k) for k in range(7)]
    else:
        fields = ("t1", "t2", "label")
        cls = namedtuple("Pair", fields) if kind == "namedtuple" else {"tuple": tuple, "list": list}[kind]
        rows = [[sample["t1"], sample.get("t2"), sample["label"]] for sample in dicts()]
        real = [cls(*row) if kind == "namedtuple" else cls(row) for row in rows]
    made = FillMissing(real, translator(shape), source="t1", target="t2", fields=fields)
    assert made.missing.tolist() == list(WITHOUT)
    here, there = made[2], made[3]
    assert type(here) is type(there)
    get = (lambda sample: sample["t2"]) if isinstance(here, dict) else (lambda sample: sample[1])
    assert type(get(here)) is type(get(there))
    if kind.startswith("subject"):
        assert get(here).shape == get(there).shape
        assert np.array_equal(get(here).affine, affine)
        assert here["label"] == 2
    else:
        assert (get(here).shape, get(here).dtype) == (get(there).shape, get(there).dtype)


def test_the_images_of_a_real_sample_are_read_once_for_its_translation(tmp_path):
    read = []

    def reader(path):
        read.append(path.name)
        return image(int(path.stem))[..., None], np.eye(4)

    def scan(seed):
        (tmp_path / f"{seed}.any").touch()
        return tio.ScalarImage(tmp_path / f"{seed}.any", reader=reader)

    class Patients(Dataset):
        def __len__(self):
            return 7

        def __getitem__(self, k):
            return tio.Subject(t1=scan(k), **({} if k in WITHOUT else {"t2": scan(100 + k)}))

    made = FillMissing(Patients(), translator(), source="t1", target="t2")
    assert made[1]["t2"].data.shape == (*SHAPE, 1)  # what is looked at for the first sample
    read.clear()
    assert made[2]["t2"].data.shape == (*SHAPE, 1)
    assert read == ["2.any"]


def test_where_no_sample_is_complete_the_source_is_the_template():
    real = [{"t1": image(k)} for k in range(3)]
    assert filled(real)[1]["t2"].shape == SHAPE


class Epochs(list):
    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch


def test_set_epoch_is_passed_on():
    real = Epochs(dicts())
    filled(real).set_epoch(4)
    assert real.epoch == 4


def other_samples():
    return InMemorySource(filled([{"t1": image(50 + k)} for k in range(7)]).sequence, 7)


def of_wrong_shape():
    return [{**sample, "t2": image(1, (1, 9, 9))} if "t2" in sample else sample for sample in dicts()]


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: FillMissing([], translator(), source="a", target="b"), EmptyDatasetError, "`real` is empty"),
        (lambda: filled([{"t1": image(0), "t2": image(1)}]), EmptyDatasetError, "nothing to fill"),
        (lambda: filled(supply=torch.nn.Identity()), ConfigurationError, "a synthesizer or a source"),
        (lambda: filled(field="t2"), ConfigurationError, r"one of \['image'\], got 't2'"),
        (lambda: filled([{"t2": None}]), ConfigurationError, "'t1', which sample 0 lacks"),
        (lambda: filled([image(0)]), ConfigurationError, "got tensors"),
        (lambda: filled([(image(0), None)]), ConfigurationError, "`fields` must name the 2 positions"),
        (lambda: filled([(image(0), None)], fields=("a", "t2")), ConfigurationError, r"got \['t1'\]"),
        (lambda: filled(missing=[99]), ConfigurationError, r"in \[0, 7\)"),
        (lambda: filled(missing=[False, True] * 3 + [True]), ConfigurationError, "np.flatnonzero"),
        (lambda: filled(missing=[0.5]), ConfigurationError, "must be indices, whole numbers"),
        (lambda: FillMissing(dicts(), translator(), source=0, target="t2"), ConfigurationError, "`source` must name"),
        (lambda: FillMissing(dicts(), translator(), source="t1", target=1), ConfigurationError, "`target` must name"),
        (lambda: FillMissing(dicts(), translator(), source="t1", target=""), ConfigurationError, "by a text, got ''"),
        (lambda: filled(missing=[0]), ConfigurationError, "every sample without 't2', got not 1"),
        (lambda: filled(of_wrong_shape()), FieldMismatchError, r"\(1, 9, 9\), got \(1, 6, 5\)"),
        (lambda: filled(supply=other_samples()), FieldMismatchError, "another data set or split"),
        (lambda: filled(supply=InMemorySource(filled().sequence, 2)), FieldMismatchError, r"none for \[5\]"),
        (lambda: filled(supply=_without_parents()), ConfigurationError, "hold the field 'parent'"),
    ],
)
def test_bad_input(build, error, message):
    with pytest.raises(error, match=message):
        build()


def _without_parents():
    from torchgenaug import SyntheticSequence

    return InMemorySource(SyntheticSequence(AnalyticSynthesizer((6, 5))), 7)


def test_sources_of_other_shapes_and_bad_indices():
    real = dicts()
    real[5]["t1"] = image(0, (1, 6, 6))
    made = filled(real)
    with pytest.raises(FieldMismatchError, match=r"of one shape, \(1, 6, 5\).*\(1, 6, 6\) at index 5"):
        made[5]
    with pytest.raises(SampleIndexError, match=r"\[-7, 7\), got 7"):
        made[7]


@pytest.mark.parametrize("convert", [torch.as_tensor, lambda value: value.numpy()])
def test_whole_numbers_are_rounded_and_do_not_wrap_around(convert):
    def shift(seeds, conditions):
        return {"image": conditions["source"] - 3}

    supply = FunctionSynthesizer(shift, {"image": FieldSpec((1, 1, 3))}, fingerprint="shift")
    source = torch.tensor([[[2.0, 200.7, 400.0]]])
    real = [{"t1": source, "t2": convert(torch.ones(1, 1, 3, dtype=torch.uint8))}, {"t1": source}]
    value = torch.as_tensor(filled(real, supply)[1]["t2"])
    assert value.dtype == torch.uint8
    assert value.tolist() == [[[0, 198, 255]]]


def test_sources_that_change_are_refused():
    class Changing:
        def __init__(self):
            self.calls = 0

        def __len__(self):
            return 7

        def __getitem__(self, index):
            self.calls += 1
            return {"t1": image(self.calls)} if index in WITHOUT else {"t1": image(0), "t2": image(1)}

    with pytest.raises(ConfigurationError, match=r"two different 't1' at index 1.*behind"):
        filled(Changing())


MODALITIES = ["t1", "t2", "flair"]


def inverted(seeds, conditions):
    """Every modality is the mean of those that are there; its marks say which."""
    values, marks = conditions["source"].chunk(2, 1)
    there = (marks < 0.5).float()
    mean = (values * there).sum(1, keepdim=True) / there.sum(1, keepdim=True)
    return {"image": mean.expand_as(values).contiguous()}


def any_modality(channels=3):
    spec = FieldSpec((channels, 6, 5), value_range=(0, 1))
    return FunctionSynthesizer(inverted, {"image": spec}, fingerprint="mean of what is there")


def partial_dicts():
    """Sample k lacks modality k, the last one none."""
    samples = [{name: image(10 * k + n) for n, name in enumerate(MODALITIES)} for k in range(4)]
    for k, name in enumerate(MODALITIES):
        del samples[k][name]
    del samples[2]["t2"]  # two are missing here
    return samples


def test_whatever_is_missing_is_filled_from_whatever_is_there():
    real = partial_dicts()
    made = FillMissing(real, any_modality(), source=MODALITIES)
    assert made.missing.tolist() == [0, 1, 2]
    for k in range(3):
        sample, there = made[k], [real[k][name] for name in MODALITIES if name in real[k]]
        assert sorted(sample) == sorted(MODALITIES)
        for name in MODALITIES:
            if name in real[k]:
                assert sample[name] is real[k][name]
            else:
                assert torch.allclose(sample[name], torch.stack(there).mean(0))
    assert made[3] is real[3]
    copy = pickle.loads(pickle.dumps(made))
    assert torch.equal(copy[2]["t2"], made[2]["t2"])


def test_several_modalities_rendered_and_read_back(tmp_path):
    made = FillMissing(partial_dicts(), any_modality(), source=MODALITIES)
    render_shards(made.sequence, tmp_path / "filled", 3, batch_size=2, shard_size=2)
    again = FillMissing(partial_dicts(), ShardSource(tmp_path / "filled"), source=MODALITIES)
    for k in range(3):
        assert all(torch.equal(made[k][name], again[k][name]) for name in MODALITIES)
    mixed = SyntheticMixDataset(
        again, ShardSource(tmp_path / "filled"), 0, fields=MODALITIES
    )  # filled samples are real
    assert all(torch.equal(mixed[k][name], again[k][name]) for k in range(3) for name in MODALITIES)


def test_one_modality_from_any_of_several_in_tuples():
    rows = [tuple(sample.get(name) for name in MODALITIES) for sample in partial_dicts()]
    made = FillMissing(rows, any_modality(), source=MODALITIES, target="flair", fields=MODALITIES)
    assert made.missing.tolist() == [2]
    assert made[2][1] is None
    assert torch.equal(made[2][2], made[2][0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"source": "t1"}, ConfigurationError, "`target` must be the name"),
        ({"source": ["t1"]}, ConfigurationError, "two or more"),
        ({"source": [0, 1, 2]}, ConfigurationError, "`source` must name a field"),
        ({"source": ["t1", "t1", "t2"]}, ConfigurationError, "different names"),
        ({"source": MODALITIES, "target": "ct"}, ConfigurationError, "`target` must be one of the modalities"),
        ({"source": MODALITIES, "missing": [0]}, ConfigurationError, "`missing` must be left out"),
        ({"source": MODALITIES[:2]}, ConfigurationError, "in the order of its channels"),
    ],
)
def test_modalities_that_do_not_fit(options, error, message):
    with pytest.raises(error, match=message):
        FillMissing(partial_dicts(), any_modality(), **options)


def grey_and_colour():
    """The first sample lacks the colour image, the second the grey one, the third none."""
    grey, colour = torch.rand(3, 1, 6, 5), torch.rand(3, 3, 6, 5)
    return [{"colour": colour[1]}, {"grey": grey[0]}, {"grey": grey[2], "colour": colour[2]}]


def test_modalities_have_channels_of_their_own():
    real = grey_and_colour()
    made = FillMissing(real, any_modality(4), source=["grey", "colour"])
    assert torch.allclose(made[0]["grey"], real[0]["colour"].mean(0, keepdim=True))
    assert torch.allclose(made[1]["colour"], real[1]["grey"].expand(3, 6, 5))
    # What no sample has is what remains of the model's channels.
    subjects = [tio.Subject(grey=tio.ScalarImage(tensor=real[k]["grey"][..., None])) for k in (1, 2)]
    assert FillMissing(subjects, any_modality(4), source=["grey", "colour"])[0]["colour"].shape == (3, 6, 5, 1)


@pytest.mark.parametrize(
    ("channels", "names"), [(3, ("grey", "colour")), (5, ("grey", "colour")), (4, ("grey", "ct", "colour"))]
)
def test_modalities_with_other_channels_than_the_model(channels, names):
    with pytest.raises(ConfigurationError, match=rf"the {channels} channels that the model makes, got .'grey': 1, "):
        FillMissing(grey_and_colour(), any_modality(channels), source=names)


def test_a_modality_whose_channels_change_is_named():
    real = [*grey_and_colour(), {"colour": torch.zeros(1, 6, 5)}]
    with pytest.raises(FieldMismatchError, match=r"'colour': 3.*got .'colour': \(1, 6, 5\). at index 3"):
        FillMissing(real, any_modality(4), source=["grey", "colour"])


def test_a_sample_without_any_modality_is_named():
    real = [*partial_dicts(), {"label": 1}]
    with pytest.raises(ConfigurationError, match=r"none at index 4.*Leave such samples out"):
        FillMissing(real, any_modality(), source=MODALITIES)


def test_several_modalities_of_subjects_and_arrays():
    """TorchIO's 2D images have a last axis of 1; a filled one has the affine of one that is there."""
    affine = np.diag([2.0, 3.0, 1.0, 1.0])
    subjects = [
        tio.Subject({name: tio.ScalarImage(tensor=value[..., None], affine=affine) for name, value in sample.items()})
        for sample in partial_dicts()
    ]
    made = FillMissing(subjects, any_modality(), source=MODALITIES)
    flair = made[2]["flair"]
    assert isinstance(flair, tio.ScalarImage)
    assert flair.shape == (1, 6, 5, 1)
    assert np.array_equal(flair.affine, affine)
    assert torch.allclose(flair.data, subjects[2]["t1"].data)
    arrays = [{name: value.numpy() for name, value in sample.items()} for sample in partial_dicts()]
    filled_arrays = FillMissing(arrays, any_modality(), source=MODALITIES)
    assert filled_arrays[2]["t2"].dtype == np.float32
    assert np.allclose(filled_arrays[2]["t2"], arrays[2]["t1"])
