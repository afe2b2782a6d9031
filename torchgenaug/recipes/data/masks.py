"""`with_masks`: the masks of the images of a folder, by name, by choice, or refused with what to choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.files import read_image
from torchgenaug.recipes.data.listing import Listing, some
from torchgenaug.recipes.data.naming import folder_role, mask_kind
from torchgenaug.recipes.data.pairing import Named, check_kinds, glob_of, pair
from torchgenaug.recipes.data.roles import Roles
from torchgenaug.recipes.data.selection import NO_MASKS, Glob, Selection
from torchgenaug.recipes.data.suspicion import looks_like_mask

_PEEKED = 5


def with_masks(
    listing: Listing, roles: Roles, images: list[Named], selection: Selection
) -> tuple[list[Named], Mapping[str, list[Named]], tuple[str, ...]]:
    """The images that are used, the masks of each by its key, and what a user should know.

    Raises:
        ConfigurationError: masks of no image, images without a mask, masks of several kinds; with what to choose.
    """
    if selection.masks == NO_MASKS or not roles.masks:
        return images, {}, ()
    found, lost = _pair_chosen(images, roles.masks, selection) or pair(images, roles.masks)
    in_folders = any(folder_role(name) for image in images for name in image.key.split("/")[:-1])
    if not found and selection.masks is None and not in_folders:
        return _only_named_like_masks(listing, roles.masks, images)
    if lost:
        names = [mask.key for mask in lost]
        raise ConfigurationError(
            f"Every file must have a partner of the same name in {listing.folder}: no image for {len(lost)} masks: "
            f"{some(names)}. Add the images, remove these, state which belong together (--images GLOB --masks "
            "GLOB), or leave masks out: --masks none."
        )
    lacking = [image for image in images if image.key not in found]
    remarks: tuple[str, ...] = ()
    if lacking and selection.masks is None:
        mask = next(iter(found.values()))[0]
        raise ConfigurationError(
            f"Every file must have a partner of the same name in {listing.folder}: no mask for {len(lacking)} of "
            f"{len(images)} images: {some([image.key for image in lacking])}. Add the masks, use only images that have "
            f"one (--masks '{_glob_of_masks(mask)}'), or leave masks out: --masks none."
        )
    for image in lacking:
        for key in image.keys:
            listing.put_aside(listing.folder / key, "images without a mask")
    if len(Glob(selection.masks or "").alternatives) == 1:  # else several kinds are wanted, and united
        check_kinds(found)
    several = sum(len(masks) > 1 for masks in found.values())
    if several:
        remarks = (f"{several} images have several masks each, which were united: the highest value holds.",)
    return [image for image in images if image.key in found], found, remarks


def _glob_of_masks(mask: Named) -> str:
    return glob_of(mask.role_folder, () if mask.role_folder else mask_kind(mask.tokens))


def _pair_chosen(
    images: Sequence[Named], masks: Sequence[Named], selection: Selection
) -> tuple[dict[str, list[Named]], list[Named]] | None:
    """By what the stars of the two globs stand for; None where that does not fit every mask."""
    if not selection.images or not selection.masks:
        return None
    by_stars: dict[tuple[str, ...], list[Named]] = {}
    for image in images:
        by_stars.setdefault(Glob(selection.images).captures(image.key) or (), []).append(image)
    if any(len(group) > 1 for group in by_stars.values()):
        return None
    found: dict[str, list[Named]] = {}
    for mask in masks:
        image_of = by_stars.get(Glob(selection.masks).captures(mask.key) or ())
        if image_of is None:
            return None
        found.setdefault(image_of[0].key, []).append(mask)
    return found, []


def _only_named_like_masks(
    listing: Listing, masks: Sequence[Named], images: list[Named]
) -> tuple[list[Named], Mapping[str, list[Named]], tuple[str, ...]]:
    """Files named like masks that belong to no image: pictures are images, few values are in doubt."""
    step = max(1, len(masks) // _PEEKED)
    few = [mask.key for mask in masks[::step] if looks_like_mask(read_image([listing.folder / mask.key]).values)]
    names = [mask.key for mask in masks]
    if few:
        raise ConfigurationError(
            f"It must be clear what files named like masks are, got {len(masks)} that belong to no image: "
            f"{some(names)}. They could be masks: name their images alike, or state both (--images GLOB "
            f"--masks GLOB); or images to train on: --images '**'{'; or be left out: --masks none' if images else ''}."
        )
    remark = (
        f"{len(masks)} files are named like masks ({some(names)}), but hold pictures and belong to no image: they were "
        "read as images."
    )
    return [*images, *(replace(mask, role_folder="as image") for mask in masks)], {}, (remark,)
