from __future__ import annotations

import inspect
import pickle
import traceback

import pytest
from torch.utils.data import DataLoader

from torchgenaug import errors

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, (errors.TorchGenAugError, UserWarning))
]


@pytest.mark.parametrize("error", CLASSES)
def test_survives_pickling(error):
    copy = pickle.loads(pickle.dumps(error("what went wrong")))
    assert type(copy) is error
    assert str(copy) == "what went wrong"


class Nameless(type):
    @property
    def __name__(cls):
        raise ValueError("no name")


class NamelessError(Exception, metaclass=Nameless):
    """Neither its text nor, as it seems, the name of its class can be had."""

    def __str__(self):
        raise NamelessError


def test_an_exception_whose_class_refuses_its_name_is_described():
    text = "NamelessError (its text cannot be made: NamelessError)"
    assert errors.describe_error(NamelessError()) == text


def test_details_survive_pickling():
    copy = pickle.loads(pickle.dumps(errors.BadSampleError("bad", ids=[3], seeds=[1 << 63])))
    assert (copy.ids, copy.seeds) == ((3,), (1 << 63,))


def test_tree_of_the_docstring_is_complete():
    for error in CLASSES:
        assert error.__name__ in str(errors.__doc__)


class Raising:
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise self.error(f"at {index}")


@pytest.mark.parametrize("error", [errors.BadSampleError, errors.ShardNotFoundError, errors.MissingExtraError])
def test_reaches_the_training_loop_from_a_worker(error):
    with pytest.raises(error, match="at 0") as raised:
        next(iter(DataLoader(Raising(error), num_workers=1)))
    traceback.clear_frames(raised.tb)  # collected later, the iterator would wait five seconds for its worker


def test_missing_extra_names_the_command():
    with pytest.raises(ImportError, match=r"Reading lz4 needs the package `hdf5plugin`.*'torchgenaug\[compression\]'"):
        raise errors.missing_extra("Reading lz4", package="hdf5plugin", extra="compression")
