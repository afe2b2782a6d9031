"""Which mask belongs to which image, by their names and places."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.listing import some
from torchgenaug.recipes.data.naming import (
    Tokens,
    bids_key,
    common_ends,
    image_bases,
    is_mask_word,
    mask_bases,
    mask_kind,
    tokens_of,
)

_SHOWN = 3


@dataclass(frozen=True)
class Named:
    """A file, or the files of several channels, as their names state it.

    Args:
        keys: paths below the folder.
        place: its folders, without the words for roles in their names.
        folders: those of them whose names have no such word.
        role_folder: the folder that names its role, "" where the file's own name does.
        tokens: of its name.
        stem: its name without ending.
    """

    keys: tuple[str, ...]
    place: Tokens
    folders: Tokens
    role_folder: str
    tokens: Tokens
    stem: str

    @property
    def key(self) -> str:
        """The first path."""
        return self.keys[0]


def pair(images: Sequence[Named], masks: Sequence[Named]) -> tuple[dict[str, list[Named]], list[Named]]:
    """Image key → its masks, and the masks of no image."""
    found: dict[str, list[Named]] = defaultdict(list)
    lost = list(masks)
    places: tuple[Callable[[Named], Tokens], ...] = (
        lambda each: each.place,
        lambda each: each.folders,
        lambda each: (),
    )
    by_name = [_by_name(images, place) for place in places]
    for lookup in (*by_name, _by_bids(images), _by_beginning(images), _alone(images)):
        rest = []
        for mask in lost:
            image = lookup.find(mask)
            if image is None:
                rest.append(mask)
            else:
                found[image.key].append(mask)
        lost = rest
    if lost:
        lookup = _by_ends(images, masks)
        matched = [(mask, lookup.find(mask)) for mask in lost]
        for mask, image in matched:
            if image is not None:
                found[image.key].append(mask)
        lost = [mask for mask, image in matched if image is None]
    if lost and not found:
        lookup = _by_numbers(images, lost)
        for mask in lost if all(lookup.find(mask) for mask in lost) else ():
            image = lookup.find(mask)
            if image is not None:
                found[image.key].append(mask)
        lost = [] if found else lost
    return found, lost


class _Lookup:
    """Images by a key; a key of two images is nobody's."""

    def __init__(
        self, entries: Iterable[tuple[object, Named]], keys_of_mask: Callable[[Named], Iterable[object]]
    ) -> None:
        self.found: dict[object, Named | None] = {}
        for key, image in entries:
            known = self.found.get(key, image)
            self.found[key] = image if known is image else None
        self.keys_of_mask = keys_of_mask

    def find(self, mask: Named) -> Named | None:
        """The image of a mask."""
        for key in self.keys_of_mask(mask):
            image = self.found.get(key)
            if image is not None:
                return image
        return None


def _bases(mask: Named) -> list[Tokens]:
    bases = mask_bases(mask.tokens)
    # A mask whose name has no word for masks is one by its folder, or because the user states it.
    own = [mask.tokens] if mask.role_folder or not bases else []
    return list(dict.fromkeys([*own, *bases]))


def _by_name(images: Sequence[Named], place: Callable[[Named], Tokens]) -> _Lookup:
    # The exact name of one image stands before the shortened name of another one.
    exact = {(place(image), image.tokens) for image in images}
    entries = [((place(image), image.tokens), image) for image in images]
    for image in images:
        shorter = ((place(image), base) for base in image_bases(image.tokens)[1:])
        entries += [(key, image) for key in shorter if key not in exact]
    return _Lookup(entries, lambda mask: [(place(mask), base) for base in _bases(mask)])


def _by_bids(images: Sequence[Named]) -> _Lookup:
    entries = ((key, image) for image in images if (key := bids_key(image.stem)))
    return _Lookup(entries, lambda mask: [key] if (key := bids_key(mask.stem)) else [])


def _by_beginning(images: Sequence[Named]) -> _Lookup:
    """In a folder of masks, by the first words: "IDRiD_01_MA" is a mask of "IDRiD_01"."""
    entries = ((image.tokens, image) for image in images)
    return _Lookup(
        entries,
        lambda mask: [mask.tokens[:length] for length in range(len(mask.tokens) - 1, 0, -1) if mask.role_folder],
    )


def _alone(images: Sequence[Named]) -> _Lookup:
    """By the folder, where it holds one image only: a folder per image with its masks."""
    entries = ((image.place[:depth], image) for image in images for depth in range(1, len(image.place) + 1))
    return _Lookup(entries, lambda mask: [mask.place[:depth] for depth in range(len(mask.place), 0, -1)])


def _by_ends(images: Sequence[Named], masks: Sequence[Named]) -> _Lookup:
    """By what is left without the first and last words that all share: "21_training" and "21_manual1"."""
    front, back = common_ends(image.tokens for image in images)
    entries = [(image.tokens[front : len(image.tokens) - back], image) for image in images]
    shortened: dict[str, list[Tokens]] = {}
    for option in range(max((len(_bases(mask)) for mask in masks), default=0)):
        bases = {mask.key: _bases(mask)[option] for mask in masks if option < len(_bases(mask))}
        first, last = common_ends(bases.values())
        for key, base in bases.items():
            shortened.setdefault(key, []).extend([base, base[first : len(base) - last]])
    return _Lookup(
        ((key, image) for key, image in entries if key), lambda mask: [key for key in shortened[mask.key] if key]
    )


def _by_numbers(images: Sequence[Named], masks: Sequence[Named]) -> _Lookup:
    """By all numbers in a name, where no other name has them: "0001_NI000_slice004" and "0001_MA000_slice004"."""
    taken = Counter(_numbers(mask) for mask in masks)
    entries = [(numbers, image) for image in images if (numbers := _numbers(image))]
    return _Lookup(entries, lambda mask: [_numbers(mask)] if taken[_numbers(mask)] == 1 and _numbers(mask) else [])


def _numbers(named: Named) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"[0-9]+", named.stem)))


def check_kinds(found: Mapping[str, Sequence[Named]]) -> None:
    """Refuses masks of several kinds for one image.

    Raises:
        ConfigurationError: the kinds, and how to choose one.
    """
    kinds: Counter[tuple[str, Tokens]] = Counter()
    several = False
    # Words that come back at other images name kinds ("liver", "spleen"); names of single cells do not come back.
    uses = Counter(word for image, masks in found.items() for word in {w for m in masks for w in _words(m, image)})
    common = {word for word, count in uses.items() if count > 1}
    for image, masks in found.items():
        own = {_kind(mask, image, common) for mask in masks}
        several |= len(own) > 1
        kinds.update(own)
    if several:
        globs = [glob_of(folder, words) for folder, words in sorted(kinds)]
        shown = [f"--masks '{glob}' ({kinds[kind]})" for glob, kind in zip(globs, sorted(kinds), strict=True)]
        united = f"; or several, united: --masks '{'|'.join(globs[:_SHOWN])}'" if len(set(globs)) > 1 else ""
        raise ConfigurationError(
            f"An image must have masks of one kind, got {len(kinds)} kinds; which of them is meant is not clear. "
            f"Choose: {some(shown)}{united}; or none: --masks none."
        )


def _kind(mask: Named, image: str, common: set[str]) -> tuple[str, Tokens]:
    """The folder that names its role, and the words in its name that its image's name does not have."""
    own, words = set(tokens_of(image.rpartition("/")[2])), _words(mask, image)
    names_kind = set(mask.tokens) & own or (words and set(words) <= common)
    return mask.role_folder, (*(words if mask.role_folder and names_kind else ()), *mask_kind(mask.tokens))


def _words(mask: Named, image: str) -> Tokens:
    """The words in a mask's name that neither its image's name has nor say that it is a mask."""
    own = set(tokens_of(image.rpartition("/")[2]))
    return tuple(token for token in mask.tokens if token.isalpha() and token not in own and not is_mask_word(token))


def glob_of(folder: str, words: Tokens) -> str:
    """A glob of masks in a folder of that name, or with those words in their names."""
    name = f"*{'*'.join(words)}*" if words else "*"
    return f"**/{folder}/**/{name}" if folder else name


__all__ = ["Named", "check_kinds", "glob_of", "pair", "tokens_of"]
