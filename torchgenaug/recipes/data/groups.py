"""What the subfolders of a folder of images are: classes, patients, or nothing that matters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.listing import some
from torchgenaug.recipes.data.naming import (
    CONTRASTS,
    folder_role,
    folder_tokens,
    is_fold,
    names_class,
    persons_of,
    read_folder_names,
    split_word,
    without_role,
)
from torchgenaug.recipes.data.pairing import Named
from torchgenaug.recipes.data.selection import Folders

_NO_CLASSES = {"anat", "func", "dwi", "fmap", "perf", "pet", "derivatives", "rawdata", "sourcedata", "tr", "ts", "va"}
_VERSIONS = {
    *("a", "b", "he", "ihc", "raw", "processed", "preprocessed", "enhanced", "denoised", "noisy", "clean", "cropped"),
    *("resized", "original", "augmented", "low", "high", "lr", "hr", "lowres", "highres", "input", "output", "source"),
    *("target", "before", "after", "lowdose", "fulldose", "normalized", "stained", "unstained"),
    *("png", "tif", "tiff", "jpg", "jpeg", "bmp", "dicom", "dcm", "nifti", "nii", "npy", "mhd", "nrrd"),
}
_MANY = 20


@dataclass(frozen=True)
class Groups:
    """Classes and patients by subfolders.

    Args:
        classes: name of each image's class; empty where subfolders are none.
        patients: of each image; empty where subfolders are none.
        remarks: what was recognised, a sentence each.
    """

    classes: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def read_groups(
    images: Sequence[Named], folder: Path, chosen: Folders | None, *, alone: bool, known_classes: bool = False
) -> Groups:
    """What the subfolders are.

    Args:
        images: with their folders.
        folder: for messages.
        chosen: what the user states they are.
        alone: whether images have neither masks nor a table, so that only subfolders could say more of them.
        known_classes: whether a table states the classes, so that subfolders can only be patients.

    Raises:
        ConfigurationError: one class only, or names that could mean several things, with the options that choose.
    """
    places = [_telling(image) for image in images]
    if chosen == "classes" and not all(places):  # "photo" may be the name of a class, too
        places = [tuple(image.key.split("/")[:-1]) for image in images]
    if chosen == "ignore" or not any(places):
        return Groups()
    depth = _first_varying(places)
    level = [place[depth] if depth < len(place) else "" for place in places]
    names = sorted(set(level) - {""})
    if len(names) < 2:
        if alone and depth == 0 and not chosen and names and _is_flat(images, names[0]):
            raise ConfigurationError(
                f"Subfolders are classes, and there must be two at least, got only {names[0]!r} in {folder}. Give "
                f"{folder / names[0]} to train on one class."
            )
        _check_versions(images, level, folder, alone=alone)
        return Groups(remarks=(f"The folder {names[0]} is no class: there is no other.",) if names and alone else ())
    if known_classes and read_folder_names(names) != "patients":
        return Groups(remarks=(f"Subfolders ({some(names)}) were not read as classes: the table states them.",))
    kind = chosen or _kind(images, level, names, folder, alone=alone)
    if kind == "classes" and all(name.lower().startswith("sub-") for name in names):
        above = f", below {places[0][0]!r} only" if depth else ""
        raise ConfigurationError(
            f"`folders` must not be 'classes' where all are named like patients, got {some(names)}{above}. Choose: "
            "--folders patients; or --folders ignore."
        )
    if kind == "patients":
        if "" in level:
            return Groups()
        found = _patients(level, "Subfolders")
        inner = sorted({name for place in places for name in place[depth + 1 :]} - set(names))
        telling = [name for name in inner if sum(sign.isalpha() for sign in name) > 2]
        unused = (f"Folders below those of patients were not used: {some(telling)}.",) if telling and alone else ()
        return Groups(found.classes, found.patients, (*found.remarks, *unused))
    if "" in level:
        loose = [image.key for image, name in zip(images, level, strict=True) if not name]
        raise ConfigurationError(
            f"Images must all lie in subfolders (classes), or no subfolder may be one, got {len(loose)} outside of "
            f"them ({some(loose)}) and the subfolders {some(names)}. Choose: --folders ignore (no classes); or "
            "--images '*/**' (classes, and the others left out)."
        )
    counts = Counter(level)
    shown = ", ".join(f"{name} {counts[name]}" for name in names[:12]) + (", …" if len(names) > 12 else "")
    below = [place[depth + 1] if len(place) > depth + 1 else "" for place in places]
    deeper = sorted({name for place in places for name in place[depth + 1 :]})
    remarks = [f"Subfolders are classes: {shown}."]
    by_class = [sorted({each for each, own in zip(below, level, strict=True) if own == name}) for name in names]
    if "" not in below and all(read_folder_names(each) == "patients" for each in by_class):
        patients = _patients(below, "Folders below those of the classes")
        return Groups(tuple(level), patients.patients, (*remarks, *patients.remarks))
    if deeper:
        remarks.append(f"Folders below those of the classes were not used: {some(deeper)}.")
    return Groups(classes=tuple(level), remarks=tuple(remarks))


def _patients(level: Sequence[str], where: str) -> Groups:
    """The folders of patients; those of several sessions of one patient are one."""
    names = sorted(set(level))
    persons = persons_of(names)
    count = len(set(persons.values()))
    sessions = f", with {len(names)} sessions" if count < len(names) else ""
    remark = f"{where} are patients: {count}{sessions} ({some(names)})."
    return Groups(patients=tuple(persons[name] for name in level), remarks=(remark,))


def _telling(image: Named) -> tuple[str, ...]:
    """The folders of an image that could be classes or patients, as written."""
    telling = []
    for name in image.key.split("/")[:-1]:
        plain = without_role(name) if folder_role(name) in ("image", "maybe image", "source") else name
        if image.role_folder == "as image":
            plain = name
        word = split_word(plain)
        if word:  # "trainA"
            plain = "_".join(token for token in folder_tokens(plain) if token != word)
        if plain != name and not any(sign.isalpha() for sign in plain):
            continue  # "images_001"
        is_session = name.casefold().startswith("ses-")
        if plain and not (is_fold(plain) or plain.casefold() in _NO_CLASSES or is_session):
            telling.append(plain)
    return tuple(telling)


def _first_varying(places: Sequence[tuple[str, ...]]) -> int:
    deepest = max(map(len, places))
    for depth in range(deepest):
        if len({place[depth] if depth < len(place) else "" for place in places}) > 1:
            return depth
    return 0


def _is_flat(images: Sequence[Named], name: str) -> bool:
    """Whether images lie directly in one subfolder of the folder, which has this name."""
    return all(image.key.count("/") == 1 and image.key.startswith(f"{name}/") for image in images)


def _check_versions(images: Sequence[Named], level: Sequence[str], folder: Path, *, alone: bool) -> None:
    """Refuses folders of the same file names of which one is named as a version: "images" and "images_resized"."""
    stems: dict[str, set[str]] = {}
    for image, name in zip(images, level, strict=True):
        stems.setdefault(name, set()).add(image.stem.casefold())
    if alone and len(stems) == 2 and len({frozenset(each) for each in stems.values()}) == 1 < len(stems[""]):
        tops = sorted({image.key.rpartition("/")[0] for image in images})
        raise ConfigurationError(
            f"Subfolders of {folder} must be classes or be left out, got {some(tops)} with the same file names in "
            f"each: they could be versions of the same images. Choose one of them: --images '{tops[0]}/**'."
        )


def _kind(images: Sequence[Named], level: Sequence[str], names: Sequence[str], folder: Path, *, alone: bool) -> str:
    kind = read_folder_names(names)
    lowered = {name.casefold() for name in names}
    by_folder: dict[str, set[str]] = {}
    for image, name in zip(images, level, strict=True):
        by_folder.setdefault(name, set()).add(image.stem.casefold())
    same_names = len({frozenset(stems) for stems in by_folder.values()}) == 1
    if kind != "patients" and same_names and lowered <= CONTRASTS | _VERSIONS:
        first = images[level.index(names[0])].key.rpartition("/")[0]
        raise ConfigurationError(
            f"Subfolders of {folder} must be classes or be left out, got {some(names)} with the same file names in "
            "each: they could be classes, or contrasts or versions of the same images. Choose: --folders classes; or "
            f"one of them: --images '{first}/**'."
        )
    one_each = len(names) == len(images) and not any(map(names_class, names))
    if kind == "classes" and one_each and all(any(sign.isdigit() for sign in name) for name in names):
        return "patients"  # no two images would be of one class
    if kind == "classes" and not alone and all(name.isdigit() for name in names):
        kind = "unclear"  # numbered folders of images with masks are cases as often as classes
    if all(name.isdigit() for name in names) and len(names) == len(images):
        kind = "unclear" if alone else "patients"  # a number each: no two images would be of one class
    if kind == "classes" and len(names) > _MANY and len(names) > len(images) / 3:
        kind = "unclear"
    if kind == "unclear":
        raise ConfigurationError(
            f"Subfolders of {folder} must be classes or patients, got {len(names)} that could be either: "
            f"{some(names)}. Choose: --folders classes, --folders patients or --folders ignore."
        )
    return kind
