"""For those who write synthesizers and sources: a synthesizer that needs no network, and conformance suites.

Use a suite by subclassing it in a test module and returning your object from the fixture-like method::

    class TestMySynthesizer(SynthesizerConformance):
        def make(self):
            return MySynthesizer(...)
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from torchgenaug import seeding
from torchgenaug.contracts import (
    Changing,
    ChangingWithinEpoch,
    ClassConditional,
    Conditional,
    Joined,
    Placed,
    Ranked,
    ReadsInto,
    Storable,
    Synthesizer,
    SyntheticSource,
    Trained,
    device_of,
)
from torchgenaug.errors import SampleIndexError
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.sources.in_memory import InMemorySource as InMemorySource
from torchgenaug.types import Batch, FieldSpec


class AnalyticSynthesizer:
    """Bright ellipses on a dark, softly textured background, with their masks: exact, fast, and no network.

    Sample k is bit-equal in every batch. With ``num_classes`` the condition ``label`` (int64, one per sample) sets the
    number of ellipses (label + 1); without, it is drawn from the seed (1 to 3).

    Args:
        spatial: spatial shape, 2D or 3D.
        num_classes: number of classes that the condition ``label`` may take, or None for an unconditional synthesizer.
        channels: channels of the image.
        value_range: smallest and largest intensity.
    """

    def __init__(
        self,
        spatial: tuple[int, ...] = (32, 32),
        *,
        num_classes: int | None = None,
        channels: int = 1,
        value_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.spatial, self.num_classes, self.channels, self.value_range = spatial, num_classes, channels, value_range

    @property
    def fields(self) -> Mapping[str, FieldSpec]:
        """``image``: (channels, *spatial) float32; ``mask``: (1, *spatial) int64, 1 inside an ellipse."""
        return {
            "image": FieldSpec((self.channels, *self.spatial), value_range=self.value_range),
            "mask": FieldSpec((1, *self.spatial), torch.int64, kind="label_map", value_range=(0, 1)),
        }

    @property
    def fingerprint(self) -> str:
        """sha256 over the settings."""
        settings = ("analytic", self.spatial, self.num_classes, self.channels, self.value_range)
        return hashlib.sha256(repr(settings).encode()).hexdigest()

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """See `torchgenaug.contracts.Synthesizer.synthesize`."""
        dims = len(self.spatial)
        draws = seeding.uniform(seeds, 3 * (2 * dims + 1) + 1)
        if conditions is not None and "label" in conditions and self.num_classes is not None:
            counts = conditions["label"].numpy() + 1
        else:
            counts = 1 + (draws[:, -1] * 3).astype(np.int64)
        grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in self.spatial), indexing="ij"))
        inside = np.zeros((len(seeds), *self.spatial), bool)
        bright = np.zeros(inside.shape)
        parameters = draws[:, :-1].reshape(len(seeds), 3, 2 * dims + 1)
        for k in range(max(1, int(counts.max()))):
            ellipse = parameters[:, k % 3]
            shape = (len(seeds), dims, *(1,) * dims)
            center = (0.6 * (2 * ellipse[:, :dims] - 1)).reshape(shape) * (1 if k < 3 else -1)
            radius = (0.15 + 0.25 * ellipse[:, dims : 2 * dims]).reshape(shape)
            hit = (((grid[None] - center) / radius) ** 2).sum(1) <= 1
            hit &= (counts > k).reshape(-1, *(1,) * dims)
            bright = np.where(hit, (0.5 + 0.4 * ellipse[:, -1]).reshape(-1, *(1,) * dims), bright)
            inside |= hit
        texture = 0.02 * seeding.normal(seeds, (self.channels, *self.spatial)).numpy()
        low, high = self.value_range
        image = np.clip(0.1 + bright[:, None] + texture, 0, 1) * (high - low) + low
        return {
            "image": torch.from_numpy(np.clip(image, low, high).astype(np.float32)),
            "mask": torch.from_numpy(inside[:, None].astype(np.int64)),
        }

    def __repr__(self) -> str:
        return f"AnalyticSynthesizer({self.spatial}, num_classes={self.num_classes})"


class SynthesizerConformance:
    """What every synthesizer must do. Override `make`, and `conditions` for a conditional one."""

    tolerance = 1e-4

    def make(self) -> Synthesizer:
        """A new synthesizer; two calls give equal ones."""
        raise NotImplementedError("override make() in your test class")

    def conditions(self, seeds: Sequence[int]) -> Batch | None:
        """Conditions for these seeds, or None."""
        return None

    def _samples(self, synthesizer: Synthesizer, seeds: Sequence[int]) -> Batch:
        return synthesizer.synthesize(list(seeds), self.conditions(seeds))

    def test_fits_the_contract(self) -> None:
        """It has the attributes of the contract, and its batches pass the checks of `SyntheticSequence`."""
        synthesizer = self.make()
        assert isinstance(synthesizer, Synthesizer)
        batch = self._samples(synthesizer, [1, 2, 3])
        for name, spec in synthesizer.fields.items():
            assert tuple(batch[name].shape) == (3, *spec.shape)
            assert batch[name].dtype == spec.dtype

    def test_same_seeds_same_samples_whatever_came_before(self) -> None:
        """Deterministic, with no memory of earlier calls."""
        synthesizer = self.make()
        torch.manual_seed(1)
        first = self._samples(synthesizer, [11, 12])
        self._samples(synthesizer, [99])
        torch.manual_seed(2)
        again = self._samples(synthesizer, [11, 12])
        for name in first:
            assert torch.equal(first[name], again[name])

    def test_sample_does_not_depend_on_its_batch(self) -> None:
        """One by one or all at once: the same to `tolerance`, label maps in all but 0.1 % of the pixels."""
        synthesizer = self.make()
        together = self._samples(synthesizer, [5, 6, 7])
        for row, seed in enumerate([5, 6, 7]):
            alone = self._samples(synthesizer, [seed])
            for name, spec in synthesizer.fields.items():
                a, b = together[name][row].double(), alone[name][0].double()
                if spec.kind == "label_map":
                    assert (a != b).double().mean() <= 1e-3
                else:
                    width = 1.0 if spec.value_range is None else spec.value_range[1] - spec.value_range[0]
                    assert (a - b).abs().max() <= self.tolerance * max(1.0, width)

    def test_different_seeds_different_samples(self) -> None:
        """Seeds matter, the upper 32 bits too."""
        synthesizer = self.make()
        name = next(iter(synthesizer.fields))
        samples = self._samples(synthesizer, [3, 4, 3 + (1 << 32)])[name]
        assert not torch.equal(samples[0], samples[1])
        assert not torch.equal(samples[0], samples[2])

    def test_leaves_global_randomness_alone(self) -> None:
        """Torch's and numpy's global generators are where they were."""
        synthesizer = self.make()
        before, numpy_before = torch.get_rng_state(), pickle.dumps(np.random.get_state())  # noqa: NPY002 (it is checked)
        self._samples(synthesizer, [1])
        assert torch.equal(before, torch.get_rng_state())
        assert numpy_before == pickle.dumps(np.random.get_state())  # noqa: NPY002

    def test_optional_abilities(self) -> None:
        """What it has of `Conditional`, `ClassConditional`, `Placed`, `Trained` and `Storable` does what it must."""
        synthesizer: Any = self.make()
        if isinstance(synthesizer, Conditional):
            assert all(isinstance(spec, FieldSpec) for spec in synthesizer.condition_fields.values())
        if isinstance(synthesizer, ClassConditional):
            assert synthesizer.num_classes is None or synthesizer.num_classes >= 1
        if isinstance(synthesizer, Placed):
            batch = self._samples(self.make(), [1])
            assert all(value.device.type == synthesizer.device.type for value in batch.values())
        if isinstance(synthesizer, Trained):
            assert json.loads(json.dumps(synthesizer.trained_on)) == synthesizer.trained_on
        if isinstance(synthesizer, Storable):
            stored = synthesizer.stored()
            assert json.loads(json.dumps(stored.settings)) == json.loads(json.dumps(dict(stored.settings)))
            again = type(synthesizer).from_stored(stored, device=device_of(synthesizer), dtype=None)
            assert again.fingerprint == synthesizer.fingerprint

    def test_fingerprint_is_stable(self) -> None:
        """Two equal synthesizers agree; it is a sha256 in hexadecimal."""
        one, two = self.make().fingerprint, self.make().fingerprint
        assert one == two
        assert len(one) == 64
        int(one, 16)

    def test_pickles(self) -> None:
        """A copy through pickle makes the same samples."""
        synthesizer = self.make()
        copy = pickle.loads(pickle.dumps(synthesizer))  # noqa: S301 (our own bytes)
        assert copy.fingerprint == synthesizer.fingerprint
        for name, value in self._samples(synthesizer, [21, 22]).items():
            assert torch.equal(value, self._samples(copy, [21, 22])[name])


class SourceConformance:
    """What every source must do. Override `make` and `sequence`."""

    tolerance = 0.0

    def make(self) -> SyntheticSource:
        """A source that is ready to be read."""
        raise NotImplementedError("override make() in your test class")

    def sequence(self) -> SyntheticSequence:
        """The sequence that the source's samples belong to."""
        raise NotImplementedError("override sequence() in your test class")

    def test_reads_the_samples_of_its_sequence(self) -> None:
        """Every position holds the sample that its id names, in any order, repeats included."""
        source, sequence = self.make(), self.sequence()
        assert isinstance(source, SyntheticSource)
        assert source.fingerprint == sequence.fingerprint
        last = len(source) - 1
        positions = np.array([last, 0, last // 2, 0])
        batch, expected = source.read(positions), sequence.batch(source.ids(positions))
        assert list(batch) == list(source.fields)
        for name, value in expected.items():
            assert batch[name].dtype == value.dtype
            assert (batch[name].double() - value.double()).abs().max() <= self.tolerance
        assert (source.seeds(positions) == sequence.seeds(source.ids(positions))).all()

    def test_empty_and_single_reads(self) -> None:
        """Zero positions give zero rows; one gives one."""
        source = self.make()
        for size in (0, 1):
            batch = source.read(np.zeros(size, np.int64))
            assert all(len(value) == size for value in batch.values())

    def test_reads_are_the_callers_own(self) -> None:
        """Writing into what was read does not change the source."""
        source = self.make()
        before = {name: value.clone() for name, value in source.read(np.arange(2)).items()}
        for value in source.read(np.arange(2)).values():
            value.zero_()
        for name, value in source.read(np.arange(2)).items():
            assert torch.equal(value, before[name])

    def test_reads_into_what_is_there(self) -> None:
        """`ReadsInto.read_into`, where a source has it, gives what `read` gives: all fields or some."""
        source = self.make()
        if not isinstance(source, ReadsInto):
            return
        read_into = source.read_into
        positions = np.array([len(source) - 1, 0, 0])
        expected = source.read(positions)
        for names in (list(expected), list(expected)[-1:], []):
            # In the middle of other rows: those are left alone.
            whole = {name: torch.zeros((5, *expected[name].shape[1:]), dtype=expected[name].dtype) for name in names}
            read_into(positions, {name: values[1:4] for name, values in whole.items()})
            for name in names:
                assert torch.equal(whole[name][1:4], expected[name])
                assert not whole[name][[0, 4]].any()

    def test_is_a_data_set(self) -> None:
        """``source[k]`` is sample k as a dict; a `DataLoader` reads it; wrong indices are named, nothing is read."""
        source = self.make()
        last = len(source) - 1
        expected = source.read(np.array([last, 0]))
        for index in (last, -1, np.int64(last), torch.tensor(last)):
            for name, value in source[index].items():  # type: ignore[index]
                assert torch.equal(value, expected[name][0])
        for row, sample in enumerate(source.__getitems__([last, 0])):  # type: ignore[attr-defined]
            for name, value in sample.items():
                assert torch.equal(value, expected[name][row])
        batch = next(iter(torch.utils.data.DataLoader(torch.utils.data.Subset(source, [last, 0]), batch_size=2)))  # type: ignore[arg-type]
        for name, value in expected.items():
            assert torch.equal(batch[name], value)
        for wrong in (len(source), -len(source) - 1, 0.5, "0", slice(0, 2)):
            try:
                source[wrong]  # type: ignore[index]
            except SampleIndexError:
                continue
            raise AssertionError(f"index {wrong!r} was accepted")

    def test_optional_abilities(self) -> None:
        """What it has of `Changing`, `ChangingWithinEpoch`, `Ranked` and `Joined` does what it must."""
        source: Any = self.make()
        if isinstance(source, Joined):
            assert len(source.fingerprints(np.arange(2))) == 2
        if isinstance(source, Ranked):
            assert source.world_size >= 1
        if isinstance(source, Changing) and source.epoch is not None:
            self._check_epochs(self.make())

    def _check_epochs(self, source: Any) -> None:
        before, ids = source.epoch, source.ids(np.arange(len(source)))
        source.set_epoch(before + 1)
        assert source.epoch == before + 1
        source.set_epoch(before)
        assert (source.ids(np.arange(len(source))) == ids).all()
        if isinstance(source, ChangingWithinEpoch):
            last = source.refreshes_per_epoch - 1
            source.set_epoch(before, last)
            assert source.part == last

    def test_columns(self) -> None:
        """`column` gives the scalar fields of all samples."""
        source = self.make()
        for name, spec in source.fields.items():
            if spec.kind == "scalar" and not spec.shape:
                assert torch.equal(source.column(name), source.read(np.arange(len(source)))[name])

    def test_pickles(self) -> None:
        """A copy through pickle reads the same samples."""
        source = self.make()
        copy = pickle.loads(pickle.dumps(source))  # noqa: S301 (our own bytes)
        positions = np.arange(min(3, len(source)))
        for name, value in source.read(positions).items():
            assert torch.equal(value, copy.read(positions)[name])
