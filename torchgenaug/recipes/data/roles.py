"""`assign_roles`: each file of a folder as an image, a mask, a source, or none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.listing import Listing, some
from torchgenaug.recipes.data.naming import (
    folder_role,
    is_drawn_over,
    is_mask_word,
    mask_bases,
    split_word,
    tokens_of,
    without_role,
)
from torchgenaug.recipes.data.pairing import Named
from torchgenaug.recipes.data.selection import NO_MASKS, Glob, Selection

OUTSIDE = "files outside of the folders of images"
_NNUNET_TEST = {"imagests", "labelsts", "imagesva", "labelsva"}


@dataclass
class Roles:
    """The files of a folder by their roles."""

    images: list[Named] = field(default_factory=list)
    masks: list[Named] = field(default_factory=list)
    sources: list[Named] = field(default_factory=list)


def assign_roles(listing: Listing, files: Sequence[Path], selection: Selection) -> Roles:
    """Roles as names suggest them, or as `selection` states; what has none is put aside in `listing`."""
    roles = Roles()
    unplaced: list[tuple[Path, Named, str]] = []
    wrappers = _num_wrappers([listing.key(path) for path in files])
    by_name = {listing.key(path): _named(listing.key(path), wrappers) for path in files}
    explicit = _explicit(listing, selection, {key: role for key, (_, role) in by_name.items()})
    for path in files:
        key = listing.key(path)
        named, role = by_name[key]
        role = explicit.get(key, role)
        if role == "mask" and key not in explicit and selection.masks is not None:
            listing.put_aside(path, "masks that were not chosen")
        elif role == "mask":
            roles.masks.append(named)
        elif role == "source":
            roles.sources.append(named)
        elif key in explicit:
            roles.images.append(named)
        elif selection.images is not None:
            listing.put_aside(path, "images that were not chosen")
        else:
            unplaced.append((path, named, role))
    if not selection.images:
        _place(listing, roles, unplaced)
    return roles


def _place(listing: Listing, roles: Roles, unplaced: list[tuple[Path, Named, str]]) -> None:
    """Images: those in folders of images where there are such, else everything that is no mask."""
    known = [role for _, _, role in unplaced]
    paired = bool(roles.masks or roles.sources)
    wanted = {"image", "maybe image"} if paired or "image" not in known else {"image"}
    only = wanted if "image" in known or (paired and "maybe image" in known) else None
    stems = {(named.place, named.tokens) for _, named, role in unplaced if role != "drawn over"}
    for path, named, role in unplaced:
        drawn = is_drawn_over(named.tokens) and (named.place, named.tokens[:-1]) in stems
        test = any(folder.casefold() in _NNUNET_TEST for folder in PurePosixPath(named.key).parts[:-1])
        if test and any("imagestr" in other.key.casefold() for _, other, _ in unplaced):
            listing.put_aside(path, "test images")
        elif drawn or (role == "drawn over" and len(stems) > 0):
            listing.put_aside(path, "pictures drawn over others")
        elif only is not None and role not in only:
            listing.put_aside(path, OUTSIDE)
        else:
            roles.images.append(named)
    tests = [mask for mask in roles.masks if any(f.casefold() in _NNUNET_TEST for f in PurePosixPath(mask.key).parts)]
    if tests and len(tests) < len(roles.masks):
        for mask in tests:
            listing.put_aside(listing.folder / mask.key, "masks of test images")
        roles.masks = [mask for mask in roles.masks if mask not in tests]


def _names_masks(pattern: str) -> bool:
    """Whether a glob of images means files whatever they are named: it has a word for masks, or takes everything."""
    parts = pattern.replace("*", " ").replace("?", " ").split("/")
    return pattern == "**" or any(is_mask_word(token) for part in parts for token in tokens_of(part))


def _explicit(listing: Listing, selection: Selection, roles_by_name: Mapping[str, str]) -> dict[str, str]:
    """Roles that the user states."""
    keys = list(roles_by_name)
    explicit: dict[str, str] = {}
    for role, pattern in (("image", selection.images), ("mask", selection.masks)):
        if pattern is None or pattern == NO_MASKS:
            continue
        chosen = Glob(pattern).keep(keys)
        if not chosen:
            raise ConfigurationError(
                f"`{role}s` must match files below {listing.folder}, got {pattern!r}, which matches none of "
                f"{len(keys)}: {some(keys)}. Write it like a path below the folder, with * for what varies: --{role}s "
                f"'{_example(keys)}'."
            )
        if role == "image" and not _names_masks(pattern) and selection.masks != NO_MASKS:
            # "*.png" also matches x_mask.png, which is a mask all the same.
            chosen = {key for key in chosen if roles_by_name[key] != "mask"}
        elif chosen == explicit.keys():
            raise ConfigurationError(
                f"`images` and `masks` must match different files, got both for all: {some(sorted(chosen))}. Narrow "
                "one of the patterns."
            )
        explicit.update(dict.fromkeys(chosen, role))
    return explicit


def _example(keys: Sequence[str]) -> str:
    path = PurePosixPath(keys[0]) if keys else PurePosixPath("images/x.png")
    return str(path.with_name("*" + "".join(path.suffixes)))


def _named(key: str, wrappers: int) -> tuple[Named, str]:
    """A file as its name and folders state it, and its role by them.

    Args:
        key: its path.
        wrappers: how many folders in front hold all files: "Dataset_with_masks" says nothing of the files in it.
    """
    path = PurePosixPath(key)
    folders = path.parts[:-1]
    found = [folder_role(folder) for folder in folders]
    found = ["" if depth < wrappers and role in ("mask", "drawn over") else role for depth, role in enumerate(found)]
    telling = [each for each in reversed(found) if each and each != "maybe image"]
    role = "drawn over" if "drawn over" in found else next(iter(telling), "maybe image" if any(found) else "")
    role_folder = folders[len(found) - 1 - found[::-1].index("mask")] if role == "mask" else ""
    place = [
        without_role(name) if kind in ("mask", "image", "maybe image") else name
        for name, kind in zip(folders, found, strict=True)
        if kind != "source"
    ]
    stem = stem_of_key(path)
    tokens = tokens_of(stem)
    if role in ("", "image", "maybe image"):
        # In a folder of images, names that end like those of masks are masks all the same.
        role = "mask" if mask_bases(tokens) else role
    plain = tuple(name.casefold() for name, kind in zip(folders, found, strict=True) if not kind)
    return Named((key,), tuple(name.casefold() for name in place if name), plain, role_folder, tokens, stem), role


def _num_wrappers(keys: Sequence[str]) -> int:
    """How many folders in front all keys share."""
    folders = [key.split("/")[:-1] for key in keys]
    pairs = zip(min(folders), max(folders), strict=False)
    return next((depth for depth, (a, b) in enumerate(pairs) if a != b), min(map(len, folders)))


def stem_of_key(path: PurePosixPath) -> str:
    """A file's name without its ending."""
    from torchgenaug.recipes.data.files import stem_of

    return stem_of(Path(path.name))


def as_images(named: Named) -> Named:
    """A file that was named like a mask as an image."""
    return replace(named, role_folder="")


def splits_of(keys: Sequence[str]) -> dict[str, list[str]]:
    """Folder that names a part of a split → the keys in it, if there are several such folders at one depth."""
    for depth in range(max((key.count("/") for key in keys), default=0)):
        parts: dict[str, list[str]] = {}
        for key in keys:
            folders = key.split("/")[:-1]
            if depth < len(folders) and split_word(folders[depth]):
                parts.setdefault(folders[depth], []).append(key)
        if len({split_word(part) for part in parts}) > 1:
            return parts
    return {}
