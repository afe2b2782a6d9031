"""`SynthesizerConformance`: the tests that every synthesizer passes."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from torchgenaug.contracts import (
    ClassConditional,
    Conditional,
    Placed,
    Storable,
    Synthesizer,
    Trained,
    device_of,
)
from torchgenaug.types import Batch, FieldSpec


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
