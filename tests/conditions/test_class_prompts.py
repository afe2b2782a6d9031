"""A parent and the prompt of its class are drawn together."""

from __future__ import annotations

import pickle

import pytest
import torch

from torchgenaug.conditions import ClassLabels, ClassPrompts, JointConditions, Prompts, RealFields
from torchgenaug.contracts import Conditions
from torchgenaug.errors import ConfigurationError

PARENTS = [{"source": torch.full((1, 4, 4), float(k)), "label": torch.tensor(k % 3)} for k in range(7)]
TEXTS, EMBEDDINGS = ["a", "b", "c"], torch.arange(3.0).reshape(3, 1, 1).expand(3, 2, 4)


def conditions(**options):
    return ClassPrompts(RealFields(PARENTS, ["source", "label"]), TEXTS, EMBEDDINGS, **options)


def test_prompt_parent_and_class_belong_together():
    both = conditions()
    assert isinstance(both, Conditions)
    batch = both(range(14))
    assert set(batch) == set(both.fields) == {"source", "label", "parent", "prompt", "prompt_embeds"}
    for row, parent in enumerate(batch["parent"].tolist()):
        assert batch["prompt"][row] == batch["label"][row] == parent % 3
        assert torch.equal(batch["prompt_embeds"][row], EMBEDDINGS[parent % 3])
        assert torch.equal(batch["source"][row], PARENTS[parent]["source"])
    assert sorted(batch["parent"].tolist()) == sorted(2 * list(range(7)))


def test_a_function_of_ids_that_pickles():
    both, again = conditions(), pickle.loads(pickle.dumps(conditions()))
    assert both.fingerprint == again.fingerprint
    assert torch.equal(both([5])["prompt"], again([3, 5])["prompt"][1:])
    assert both.fingerprint != ClassPrompts(both.conditions, ["a", "b", "d"], EMBEDDINGS).fingerprint
    assert both.fingerprint != ClassPrompts(both.conditions, TEXTS, EMBEDDINGS + 1).fingerprint


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            RealFields(PARENTS, "source"),
            r"must have the class label 'label', .* RealFields\(dataset, \['source', 'label'",
        ),
        (JointConditions(ClassLabels(3), Prompts(TEXTS, EMBEDDINGS)), "must have no prompts of their own"),
    ],
)
def test_refuses(parts, message):
    with pytest.raises(ConfigurationError, match=message):
        ClassPrompts(parts, TEXTS, EMBEDDINGS)


def test_a_class_without_a_prompt():
    with pytest.raises(ConfigurationError, match="must have a prompt for each class, got 2 prompts and class 2 at id"):
        ClassPrompts(RealFields(PARENTS, ["source", "label"]), TEXTS[:2], EMBEDDINGS[:2])(range(7))
