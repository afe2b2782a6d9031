"""`SourceConformance`: the tests that every source of samples passes."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import torch

from torchgenaug.contracts import Changing, ChangingWithinEpoch, Joined, Ranked, ReadsInto, Scored, SyntheticSource
from torchgenaug.errors import SampleIndexError
from torchgenaug.sequence.sequence import SyntheticSequence


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

    def test_scores_are_one_number_each(self) -> None:
        """`Scored.scores_at`, where a source has it, follows the positions."""
        source = self.make()
        if not isinstance(source, Scored):
            return
        every = source.scores_at(np.arange(len(source)))
        assert every.shape == (len(source),)
        assert np.array_equal(source.scores_at(np.array([len(source) - 1, 0])), every[[-1, 0]])

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
