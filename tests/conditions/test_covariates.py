from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from torchgenaug import ClassLabels, Covariates, FunctionSynthesizer, JointConditions, RealFields, SyntheticSequence
from torchgenaug.errors import ConfigurationError
from torchgenaug.types import FieldSpec

AGES, SEXES = [31.5, 64.0, 47.0, 80.5, 22.0], [0, 1, 1, 0, 1]


def test_rows_stay_together_and_are_used_equally_often():
    batch = Covariates({"age": AGES, "sex": SEXES})(range(15))
    assert (batch["age"].dtype, batch["sex"].dtype) == (torch.float32, torch.int64)
    pairs = sorted(zip(batch["age"].tolist(), batch["sex"].tolist(), strict=True))
    assert pairs == sorted(list(zip(AGES, SEXES, strict=True)) * 3)


def test_ranges_are_uniform_independent_and_functions_of_the_id():
    made = Covariates(ranges={"age": (20, 90), "dose": (-1.0, 1.0)})
    batch = made(range(4000))
    for name, (low, high) in {"age": (20, 90), "dose": (-1, 1)}.items():
        assert low <= batch[name].min() < batch[name].max() <= high
        at = torch.tensor([0.25, 0.5, 0.75])
        assert torch.allclose((batch[name].quantile(at) - low) / (high - low), at, atol=0.03)
    assert abs(np.corrcoef(batch["age"], batch["dose"])[0, 1]) < 0.05
    assert torch.equal(made([17, 3])["age"], batch["age"][[17, 3]])


def test_the_same_rows_as_real_fields():
    real = [{"mask": torch.full((1, 2, 2), k)} for k in range(5)]
    joint = JointConditions(RealFields(real, "mask", seed=4), Covariates({"subject": np.arange(5)}, seed=4))
    batch = joint(range(23))
    assert torch.equal(batch["mask"][:, 0, 0, 0], batch["subject"])
    assert torch.equal(batch["parent"], batch["subject"])


def echo(seeds, conditions):
    return {"value": conditions["age"] + conditions["label"]}


def test_in_a_sequence_with_classes():
    both = JointConditions(ClassLabels(2), Covariates({"age": AGES}, ranges={"dose": (0, 1)}))
    echoed = FunctionSynthesizer(echo, {"value": FieldSpec((), kind="scalar")}, fingerprint="echo")
    batch = SyntheticSequence(echoed, both).batch([3, 9])
    assert set(batch) == {"value", "age", "dose", "label"}
    assert torch.equal(batch["value"], batch["age"] + batch["label"])


def test_fingerprint_and_pickle():
    made = [
        Covariates({"age": AGES}),
        Covariates({"age": AGES[::-1]}),
        Covariates({"age": AGES}, seed=1),
        Covariates(ranges={"age": (20, 90)}),
        JointConditions(ClassLabels(2), Covariates({"age": AGES})),
        JointConditions(Covariates({"age": AGES}), ClassLabels(2)),
    ]
    assert len({one.fingerprint for one in made}) == len(made)
    for one in made:
        copy = pickle.loads(pickle.dumps(one))
        assert copy.fingerprint == one.fingerprint
        assert all(torch.equal(copy([1, 8])[name], value) for name, value in one([1, 8]).items())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Covariates(), "at least one column"),
        (lambda: Covariates({"age": AGES, "sex": [0]}), "one length"),
        (lambda: Covariates({"age": [1.0, float("nan")]}), "finite numbers.*'age'"),
        (lambda: Covariates({"age": ["old"]}), "finite numbers"),
        (lambda: Covariates({"age": []}), "finite numbers"),
        (lambda: Covariates({"age": AGES}, ranges={"age": (0, 1)}), r"got \['age'\] in both"),
        (lambda: Covariates(ranges={"age": (9, 2)}), "low < high"),
        (lambda: Covariates(ranges={"age": 4}), "low < high"),
        (lambda: Covariates({"age": AGES}, seed=-1), "`seed`"),
        (lambda: JointConditions(), "at least one condition"),
        (lambda: JointConditions(ClassLabels(2), ClassLabels(3)), r"got \['label'\] in two"),
        (lambda: JointConditions(len), "state their fields"),
    ],
)
def test_bad_arguments(build, message):
    with pytest.raises(ConfigurationError, match=message):
        build()
