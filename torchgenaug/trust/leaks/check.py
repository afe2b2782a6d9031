"""`check_leaks`: what a model was trained on, or a mix trains on, against the data that judge it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from torchgenaug.contracts import SyntheticSource, trained_on_of
from torchgenaug.errors import ConfigurationError, FieldMismatchError, LeakError, UnknownOriginWarning
from torchgenaug.pseudonyms import anonymous, is_among, is_pseudonym
from torchgenaug.trust.copies.describe import Described, describe
from torchgenaug.trust.copies.duplicates import overlap_of
from torchgenaug.trust.leaks.real_images import folder_of, folders_of, images_or_view, names_of
from torchgenaug.trust.leaks.validation import validation_only

Kind = Literal["id", "patient", "content", "synthetic content"]
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Leak:
    """One sample of a held-out set that training has seen.

    Attributes:
        held_out: name of the held-out set.
        index: position in it.
        kind: ``"id"`` or ``"patient"`` (a name that the training record holds, too), ``"content"`` (an image of the
            training set) or ``"synthetic content"`` (a synthetic sample repeats it).
        seen_as: the name, or the position of the training or synthetic image.
    """

    held_out: str
    index: int
    kind: Kind
    seen_as: str


@dataclass(frozen=True)
class LeakReport:
    """What `check_leaks` found; true where anything leaks.

    Attributes:
        leaks: each sample and way once.
        not_compared: what could not be compared, and why: a sentence each.
    """

    leaks: tuple[Leak, ...]
    not_compared: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.leaks)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: ``leaks`` and ``not_compared``."""
        return {"leaks": [asdict(leak) for leak in self.leaks], "not_compared": list(self.not_compared)}

    def __str__(self) -> str:
        lines = []
        for name in dict.fromkeys(leak.held_out for leak in self.leaks):
            for kind in dict.fromkeys(leak.kind for leak in self.leaks):
                found = [leak for leak in self.leaks if (leak.held_out, leak.kind) == (name, kind)]
                if found:
                    shown = ", ".join(f"{leak.index} (seen as {leak.seen_as})" for leak in found[:_SHOWN])
                    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
                    lines.append(f"{len(found)} samples of {name!r} overlap by {kind}: index {shown}{more}.")
        return "\n".join([*(lines or ["No overlap found."]), *self.not_compared])


def check_leaks(
    source: Any,
    held_out: Any,
    *,
    train: Any = None,
    image_field: str | int | None = None,
    max_synthetic: int = 1000,
    strict: bool = False,
) -> LeakReport:
    """Compares what a model has seen with held-out data, by id, by patient and by image content.

    Ids and patients come from the ``trained_on`` record, which `fit` writes and every synthesizer, ensemble, shard
    folder and pool carries, and from `train`. Content is compared up to flip, shift, gain and re-encoding, so that
    the same image under another file name is found; see `torchgenaug.trust.find_overlap`. Two folders may use the same
    file names: where `train` and a held-out set are read from different folders, an id counts with its content only.

    Args:
        source: a synthesizer, sequence, `ShardSource`, pool or other source; None to compare `train` alone.
        held_out: name → data set, for example ``{"validation": validation_set, "test": test_set}``, or a data set
            alone. Ids and patients are read off attributes ``ids`` and ``patients`` or off entries ``id``, ``path``,
            ``patient``, … of dicts.
        train: the real training set, whose names and images are compared, too.
        image_field: the image's name or position in the samples of `train` and `held_out`; None to look for it.
        max_synthetic: how many synthetic samples are compared with held-out images, the first ones; 0 for none.
        strict: raise where something leaks, or where nobody knows what the model was trained on.

    Returns:
        What overlaps, and what could not be compared.

    Raises:
        LeakError: with ``strict=True``.
        ConfigurationError: `held_out` is no data set, and holds none.

    Warns:
        UnknownOriginWarning: the source does not know what its model was trained on, and `strict` is False.

    Example:
        >>> import torch
        >>> class Scans(list):
        ...     ids = ["a.png", "b.png"]
        >>> test = Scans([torch.rand(1, 16, 16), torch.rand(1, 16, 16)])
        >>> from torchgenaug.testing import AnalyticSynthesizer
        >>> model = AnalyticSynthesizer((16, 16))
        >>> model.trained_on = {"samples": ["b.png", "c.png"]}
        >>> print(check_leaks(model, {"test": test}).leaks[0])
        Leak(held_out='test', index=1, kind='id', seen_as='b.png')
    """
    sets = held_out if isinstance(held_out, Mapping) else {"held_out": held_out}
    for name, dataset in sets.items():
        if isinstance(dataset, str) or not hasattr(dataset, "__len__"):
            raise ConfigurationError(
                f"`held_out` must map names to data sets with a length, got {type(dataset).__name__} for {name!r}. "
                "Nothing was compared. For example check_leaks(model, {'test': test_set})."
            )
    record = trained_on_of(source)
    notes: list[str] = []
    if source is not None and record is None:
        text = (
            f"`source` must know what its model was trained on to be compared by id and patient, got "
            f"{type(source).__name__} without a record. State it: synthesizer.trained_on = "
            "{'samples': [...], 'patients': [...]}."
        )
        if strict:
            raise LeakError(text)
        warnings.warn(text, UnknownOriginWarning, stacklevel=2)
        notes.append("Ids and patients of the model were not compared: nobody knows what it was trained on.")
    stated = {key: _stated(record, key) for key in ("samples", "patients")}
    if record is not None and not any(stated.values()):
        notes.append("Ids and patients of the model were not compared: its record names none.")
    seen = {
        "id": stated["samples"] | {*_names(train, "ids")},
        "patient": stated["patients"] | {*_names(train, "patients")},
    }
    searched: dict[Kind, Described] = {}
    if train is not None:
        searched["content"] = describe(images_or_view(train, image_field), name="train")
    else:
        notes.append("Content of the training images was not compared: give train=.")
    synthetic = _first_images(source, max_synthetic)
    if synthetic is not None:
        searched["synthetic content"] = synthetic
    leaks: list[Leak] = []
    for name, dataset in sets.items():
        named = _by_name(name, dataset, seen, notes)
        looked_up = describe(images_or_view(dataset, image_field), name=name) if searched else None
        alike: list[Leak] = []
        is_compared = False
        for kind, described in searched.items():
            if looked_up is None:
                continue
            try:
                names = ("train" if kind == "content" else "synthetic", name)
                pairs = overlap_of(described, looked_up, names, synthetic=None if kind == "content" else "searched")
            except FieldMismatchError as error:
                notes.append(f"{kind.capitalize()} was not compared with {name!r}: {error}")
                continue
            is_compared |= kind == "content"
            alike += [Leak(name, pair.second, kind, f"index {pair.first}") for pair in pairs]
        if is_compared:
            named = _with_content(named, alike, train, dataset, notes)
        notes += _doubts(named, train, dataset)
        leaks += [*named, *alike]
    report = LeakReport(tuple(leaks), tuple(notes))
    if strict and report:
        raise LeakError(refusal(report))
    return report


def check_mix(real: Any, source: Any, held_out: Any) -> None:
    """Refuses a mix that trains on what judges it; `SyntheticMixDataset` explains the arguments.

    Raises:
        LeakError: an overlap by id, by patient or by image content.
        ConfigurationError: `held_out` holds synthetic samples itself.

    Warns:
        UnknownOriginWarning: nobody knows what the generator was trained on.
    """
    for dataset in held_out.values() if isinstance(held_out, Mapping) else [held_out]:
        validation_only(dataset)
    report = check_leaks(source, held_out, train=real, max_synthetic=0)
    if report:
        raise LeakError(refusal(report))


def refusal(report: LeakReport) -> str:
    """The text of a `LeakError`."""
    return (
        f"`held_out` must hold nothing that training has seen, got:\n{report}\nA score on it would prove nothing. "
        "Leave these samples out of it: torch.utils.data.Subset(held_out, kept)."
    )


def _names(train: Any, kind: str) -> Sequence[str]:
    return () if train is None else names_of(train, kind)


def _by_name(name: str, dataset: Any, seen: Mapping[str, set[str]], notes: list[str]) -> list[Leak]:
    leaks = []
    hides = any(map(is_pseudonym, seen["id"] | seen["patient"]))  # then nothing that is written names anybody
    kinds: tuple[tuple[Kind, str], ...] = (("id", "ids"), ("patient", "patients"))
    for kind, attribute in kinds:
        names = names_of(dataset, attribute)
        if not names and seen[kind]:
            notes.append(f"{attribute.capitalize()} of {name!r} were not compared: the data set states none.")
        found = is_among(names, seen[kind])
        leaks += [
            Leak(name, index, kind, anonymous(each) if hides else each)
            for index, each in enumerate(names)
            if found[index]
        ]
    return leaks


def _stated(record: Any, key: str) -> set[str]:
    """Names in a record of training data, and in those of the parts of an ensemble."""
    if not isinstance(record, Mapping):
        return set()
    values, parts = record.get(key), record.get("parts")
    found = set(map(str, values)) if isinstance(values, (list, tuple, set, frozenset)) else set()
    for part in parts.values() if isinstance(parts, Mapping) else ():
        found |= _stated(part, key)
    return found


def _elsewhere(leak: Leak, dataset: Any, train: Any) -> bool:
    """Whether a sample was read from a folder that no training image is of: ids are file names within a folder."""
    folder, others = folder_of(dataset, leak.index), folders_of(train)
    return folder is not None and None not in others and folder not in others


def _doubts(named: list[Leak], train: Any, dataset: Any) -> Iterator[str]:
    """What names of files and patients alone do not say."""
    kinds: list[str] = [leak.kind for leak in named if folder_of(dataset, leak.index) is not None]
    counts = {kind: kinds.count(kind) for kind in ("id", "patient")}
    if counts["id"] and train is None:
        yield (
            f"{counts['id']} images of {named[0].held_out!r} have the file name of a training image. Another image may "
            "have it in another folder: whether they are the same, only their content tells. Give train= to compare it."
        )
    if counts["patient"] and (train is None or any(_elsewhere(leak, dataset, train) for leak in named)):
        yield (
            f"{counts['patient']} images of {named[0].held_out!r} are of patients named as patients of the training "
            "data. Where these are two data sets that number their patients alike, such as sub-01, they are not the "
            "same: give them different names."
        )


def _with_content(named: list[Leak], alike: list[Leak], train: Any, dataset: Any, notes: list[str]) -> list[Leak]:
    """Without the ids whose images differ: train/001.png and test/001.png may well be two images."""
    same = {leak.index for leak in alike if leak.kind == "content"}
    kept = [leak for leak in named if leak.kind != "id" or leak.index in same or not _elsewhere(leak, dataset, train)]
    if len(kept) < len(named):
        count, name = len(named) - len(kept), named[0].held_out
        notes.append(
            f"{count} images of {name!r} have the file name of a training image in another folder, not its content."
        )
    return kept


def _first_images(source: Any, count: int) -> Described | None:
    """Descriptors of the first synthetic images of a source; None where it has none ready."""
    if not isinstance(source, SyntheticSource) or count < 1:
        return None
    images = [field for field, spec in source.fields.items() if spec.kind == "intensity" and len(spec.shape) in (3, 4)]
    if not images:
        return None
    field = "image" if "image" in images else images[0]
    return describe(_Column(source, field, min(count, len(source))), name="synthetic")


class _Column:
    """One field of the first samples of a source, read sample by sample."""

    def __init__(self, source: SyntheticSource, field: str, count: int) -> None:
        self._source, self._field, self._count = source, field, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        return self._source.read(np.array([index], np.int64))[self._field][0]
