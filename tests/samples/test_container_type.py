from collections import OrderedDict, UserDict, defaultdict
from types import MappingProxyType

import pytest
import torch

from torchgenaug.samples.container_type import mapping_like, tensor_like


class Picky(dict):
    """A dict that is made from something else than a dict, and holds more than its items."""

    def __init__(self, owner):
        super().__init__(owner=1)
        self.owner = owner


class Foreign(UserDict):
    def __init__(self, first, second):
        super().__init__()


@pytest.mark.parametrize(
    "like",
    [
        {"old": 0},
        OrderedDict(old=0),
        defaultdict(int, old=0),
        UserDict(old=0),
        MappingProxyType({"old": 0}),
        Picky("me"),
    ],
)
def test_a_mapping_of_the_same_type(like):
    before = dict(like)
    made = mapping_like(like, {"b": 1, "a": 2})
    assert type(made) is type(like)
    assert list(made.items()) == [("b", 1), ("a", 2)]
    assert dict(like) == before
    assert getattr(made, "owner", None) == getattr(like, "owner", None)
    assert getattr(made, "default_factory", None) is getattr(like, "default_factory", None)


def test_a_mapping_that_cannot_be_made_from_a_dict_becomes_one():
    assert mapping_like(Foreign(1, 2), {"a": 1}) == {"a": 1}
    assert type(mapping_like(Foreign(1, 2), {"a": 1})) is dict


def test_tensors():
    class Other(torch.Tensor):
        pass

    class Flat(torch.Tensor):
        """Made from something else than its values."""

        def __new__(cls, values):
            return torch.zeros(3).as_subclass(cls)

    values = torch.rand(2, 2)
    assert tensor_like(torch.zeros(1), values) is values
    assert tensor_like(torch.nn.Parameter(torch.zeros(1)), values) is values
    assert type(tensor_like(torch.zeros(1).as_subclass(Other), values)) is Other
    assert tensor_like(Flat(0), values) is values


def test_monais_tensors():
    data = pytest.importorskip("monai.data")
    made = tensor_like(data.MetaTensor(torch.zeros(1)), torch.rand(1, 2, 2))
    assert type(made) is data.MetaTensor
    assert made.affine.shape == (4, 4)
