"""Every error that torchgenaug raises on purpose.

::

    TorchGenAugError
    ├── ConfigurationError (ValueError)          a parameter outside its domain
    ├── EmptyDatasetError (ValueError)           nothing to draw from
    ├── SampleIndexError (IndexError)            an index outside the data set
    ├── FieldMismatchError (ValueError)          synthetic fields that do not fit the real samples
    ├── StateMismatchError (ValueError)          a saved state of another configuration
    ├── MissingExtraError (ImportError)          an optional package is absent
    ├── BadSampleError (ValueError)              a synthesizer returned what it must not return
    ├── SynthesizerLoadError (ValueError)        a checkpoint that cannot be loaded, or not safely
    ├── LeakError (ValueError)                   held-out data that training has seen
    ├── TooFewImagesError (ValueError)           a measure needs more images to be computed
    ├── DivergenceError (ArithmeticError)        training came to weights that are not numbers
    ├── InterruptedTrainingError (RuntimeError)  a signal ended training that others wait for
    ├── PoolError (RuntimeError)                 the background of a pool failed, or the pool is closed
    └── ShardError (RuntimeError)
        ├── ShardNotFoundError (FileNotFoundError)
        ├── ShardIncompleteError                 samples of the plan are not there (yet)
        ├── ShardVersionError                    written by a newer torchgenaug
        ├── ShardCorruptError                    content and checksum disagree, or a malformed file
        └── ShardMismatchError                   a resume that would change the frozen plan

    CollapseWarning (UserWarning)                many synthetic samples look alike
    IntensityMismatchWarning (UserWarning)       real and synthetic images differ grossly in brightness
    RepeatedEpochWarning (UserWarning)           one epoch is read again and again: set_epoch was forgotten
    SmallSampleWarning (UserWarning)             a measure is unreliable at this number of images
    UnknownOriginWarning (UserWarning)           nobody knows what a model was trained on

Each takes one message as its only positional argument, so that it survives pickling and the way in which `DataLoader`
re-raises what a worker raised (an exception class that does not survive hangs the loader).
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Sequence

_TEXT_S = 1.0


class TorchGenAugError(Exception):
    """Base of all errors of this package."""


class ConfigurationError(TorchGenAugError, ValueError):
    """A parameter is outside its domain."""


class EmptyDatasetError(TorchGenAugError, ValueError):
    """A real or synthetic set holds nothing to draw from."""


class SampleIndexError(TorchGenAugError, IndexError):
    """An index is outside the data set."""


class FieldMismatchError(TorchGenAugError, ValueError):
    """Synthetic samples do not have the fields, shapes or dtypes of the real ones."""


class StateMismatchError(TorchGenAugError, ValueError):
    """A saved state belongs to another configuration."""


class MissingExtraError(TorchGenAugError, ImportError):
    """An optional package is not installed."""


class SynthesizerLoadError(TorchGenAugError, ValueError):
    """A checkpoint cannot be loaded, or not safely."""


class BadSampleError(TorchGenAugError, ValueError):
    """A synthesizer returned what it must not return.

    Attributes:
        ids: which samples of the sequence were bad.
        seeds: their seeds, in the same order.
    """

    def __init__(self, message: str, *, ids: Sequence[int] = (), seeds: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.ids = tuple(ids)
        self.seeds = tuple(seeds)


class LeakError(TorchGenAugError, ValueError):
    """Held-out data hold samples that training has seen."""


class TooFewImagesError(TorchGenAugError, ValueError):
    """A measure needs more images to be computed."""


class InterruptedTrainingError(TorchGenAugError, RuntimeError):
    """A signal ended the training of a generator that a larger job needs; its checkpoint is kept."""


class DivergenceError(TorchGenAugError, ArithmeticError):
    """Training came to weights that are not numbers."""


class PoolError(TorchGenAugError, RuntimeError):
    """The background of a pool failed, or the pool is closed."""


class ShardError(TorchGenAugError, RuntimeError):
    """A shard folder cannot be read or written."""


class ShardNotFoundError(ShardError, FileNotFoundError):
    """There is no shard folder at this path."""


class ShardIncompleteError(ShardError):
    """Samples of the plan are not there (yet)."""


class ShardVersionError(ShardError):
    """The folder was written by a newer torchgenaug."""


class ShardCorruptError(ShardError):
    """Content and checksum disagree, or the file is malformed or hostile."""


class ShardMismatchError(ShardError):
    """A resume would change the frozen plan of a folder."""


class CollapseWarning(UserWarning):
    """Many synthetic samples look alike: the model may have collapsed."""


class IntensityMismatchWarning(UserWarning):
    """Real and synthetic images differ grossly in brightness."""


class RepeatedEpochWarning(UserWarning):
    """One epoch is read again and again: `set_epoch` was forgotten."""


class SmallSampleWarning(UserWarning):
    """A measure is unreliable at this number of images."""


def describe_error(error: BaseException) -> str:
    """``Type: text`` of any exception, also of one whose own text cannot be made."""
    try:
        return f"{_class_name(error)}: {_timely(lambda: str(error))}"
    except BaseException as failure:  # its __str__ may raise what it likes
        return f"{_class_name(error)} (its text cannot be made: {_class_name(failure)})"


def _timely(make: Callable[[], str]) -> str:
    """A text that user code makes, which may wait for something: `TimeoutError` after a second."""
    made: list[str] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            made.append(make())
        except BaseException as failure:
            failed.append(failure)

    helper = threading.Thread(target=work, name="torchgenaug-text", daemon=True)
    try:
        helper.start()
    except RuntimeError:  # no thread is to be had: too many, or the interpreter is ending
        return make()
    helper.join(_TEXT_S)
    if failed:
        raise failed[0]
    if not made:
        raise TimeoutError
    return made[0]


def _class_name(error: BaseException) -> str:
    # By the descriptor of `type`: a metaclass may define a `__name__` of its own, which may fail.
    return str(type.__dict__["__name__"].__get__(type(error)))


def describe_traceback(error: BaseException, limit: int | None = None) -> str:
    """The traceback of any exception, as Python prints it; the text of `describe_error` where Python cannot.

    Args:
        error: any.
        limit: see `traceback.format_exception`.
    """
    try:
        return _timely(lambda: "".join(traceback.format_exception(error, limit=limit)))
    except BaseException:  # of its causes, notes or attributes
        return describe_error(error)


class UnknownOriginWarning(UserWarning):
    """Nobody knows what a model was trained on."""


def missing_extra(feature: str, *, package: str, extra: str) -> MissingExtraError:
    """The error for an absent optional package, with the command that installs it."""
    return MissingExtraError(
        f"{feature} needs the package `{package}`, which is not installed. "
        f"Install it with: pip install 'torchgenaug[{extra}]'"
    )
