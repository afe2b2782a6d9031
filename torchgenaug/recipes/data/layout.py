"""`read_layout`: which samples a folder holds, by the names of its files and folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torchgenaug.errors import ConfigurationError, EmptyDatasetError
from torchgenaug.recipes.data.channels import join_channels
from torchgenaug.recipes.data.files import READERS, read_image, suffix_of, unreadable
from torchgenaug.recipes.data.groups import read_groups
from torchgenaug.recipes.data.listing import Listing, list_folder, some
from torchgenaug.recipes.data.members import with_members
from torchgenaug.recipes.data.naming import bids_key, folder_role
from torchgenaug.recipes.data.pairing import Named, check_kinds, pair
from torchgenaug.recipes.data.readers.dicom import look_at_dicom, read_dicom
from torchgenaug.recipes.data.records import FileRecord, Layout
from torchgenaug.recipes.data.roles import Roles, assign_roles, splits_of
from torchgenaug.recipes.data.selection import NO_MASKS, Glob, Selection
from torchgenaug.recipes.data.stacks import read_stacks
from torchgenaug.recipes.data.suspicion import doubt, looks_like_mask
from torchgenaug.recipes.data.tables import TABLE_NAMES, Labels, read_labels

_TABLES = (".csv", ".tsv", ".xlsx")
_PEEKED, _SIBLINGS = 5, 20


def read_layout(folder: Path, selection: Selection | None = None) -> Layout:
    """The samples of a folder in the order of their paths, the names of the classes, and what was recognised.

    Raises:
        EmptyDatasetError: no image that can be read.
        ConfigurationError: files without their partner, a table that does not fit, one class only, or names that
            could mean several things.
    """
    selection = selection or Selection()
    listing = list_folder(folder)
    stacked = read_stacks(listing)
    if stacked is not None:
        return stacked
    patients = _dicom_patients(listing)
    if not listing.files:
        raise EmptyDatasetError(
            f"{listing.folder} must hold images ({', '.join(READERS)}, or DICOM of any name), got none. "
            f"{' '.join(listing.unused()) or 'It is empty.'} Check the path."
        )
    roles = assign_roles(listing, listing.files, selection)
    _check_splits(listing, roles)
    images, channel_remarks = join_channels(roles.images, roles.masks, listing.folder)
    images, masks, mask_remarks = _with_masks(listing, roles, images, selection)
    images.sort(key=lambda image: image.key)
    _check_distinct(images, listing)
    sources = _partners(images, roles.sources)
    table = next((listing.folder / name for name in TABLE_NAMES if (listing.folder / name).is_file()), None)
    labels = None if table is None else _labels(listing, table, images)
    alone = not (masks or labels or sources or selection.images)
    if alone:
        _check_siblings(listing, images)
    groups = read_groups(images, listing.folder, selection.folders, alone=alone, known_classes=labels is not None)
    records = []
    for number, image in enumerate(images):
        own = bids_patient(image.stem, image.key) or patients.get(image.key)
        records.append(
            FileRecord(
                image=tuple(listing.folder / key for key in image.keys),
                key=image.key,
                mask=tuple(listing.folder / mask.key for mask in masks.get(image.key, ())),
                source=(listing.folder / sources[image.key].key,) if sources else (),
                patient=own or (groups.patients[number] if groups.patients else None),
            )
        )
    names: tuple[str, ...] = ()
    group_remarks = groups.remarks
    if selection.masks != NO_MASKS:
        records, member_remarks = with_members(records)
        group_remarks += member_remarks
    if labels is not None:
        given = labels.patients or ("",) * len(records)
        records = [
            replace(each, label=label, patient=patient or each.patient)
            for each, label, patient in zip(records, labels.labels, given, strict=True)
        ]
        names = labels.names
        group_remarks += labels.remarks
    elif groups.classes:
        names = tuple(sorted(set(groups.classes)))
        records = [replace(each, label=names.index(name)) for each, name in zip(records, groups.classes, strict=True)]
    remarks = (_summary(records, roles), *channel_remarks, *mask_remarks, *group_remarks, *listing.unused())
    tables = [name for name in listing.others.get("files of other kinds", []) if name.lower().endswith(_TABLES)]
    if tables and labels is None and not names:
        remarks += (f"A table of classes is used if it is called {TABLE_NAMES[0]}: {some(tables)} was not used.",)
    return Layout(tuple(records), names, remarks)


def bids_patient(stem: str, key: str) -> str | None:
    """``sub-XXX``, where a name or a folder states it."""
    for part in (*key.split("/")[:-1], stem):
        found = bids_key(part)
        if found and found[0].startswith("sub-"):
            return found[0]
    return None


def _summary(records: Sequence[FileRecord], roles: Roles) -> str:
    kinds: dict[str, int] = {}
    for record in records:
        path = record.image[0]
        ending = (suffix_of(path) if isinstance(path, Path) else "") or "DICOM without an ending"
        kinds[ending] = kinds.get(ending, 0) + 1
    text = f"Read as {len(records):,} images ({', '.join(kinds)})"
    if any(record.mask for record in records):
        folders = sorted({mask.role_folder for mask in roles.masks if mask.role_folder})
        example = next(record for record in records if record.mask)
        where = f"in {some(folders)}" if folders else "beside them"
        text += f", each with its mask {where} (first: {example.key} and {Path(str(example.mask[0])).name})"
    if any(record.source for record in records):
        text += ", each with a source to translate from"
    return text + "."


def _with_masks(
    listing: Listing, roles: Roles, images: list[Named], selection: Selection
) -> tuple[list[Named], Mapping[str, list[Named]], tuple[str, ...]]:
    """The images with the masks of each, or with what only was named like masks."""
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
            f"one (--masks '{_glob_beside(mask)}'), or leave masks out: --masks none."
        )
    for image in lacking:
        for key in image.keys:
            listing.put_aside(listing.folder / key, "images without a mask")
    check_kinds(found)
    several = sum(len(masks) > 1 for masks in found.values())
    if several:
        remarks = (f"{several} images have several masks each, which were united: the highest value holds.",)
    return [image for image in images if image.key in found], found, remarks


def _glob_beside(mask: Named) -> str:
    path = Path(mask.key)
    return f"**/*{path.suffix}" if not mask.role_folder else f"**/{mask.role_folder}/**"


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
            "--masks GLOB); or images to train on: --images '**'; or be left out: --masks none."
        )
    remark = (
        f"{len(masks)} files are named like masks ({some(names)}), but hold pictures and belong to no image: they were "
        "read as images."
    )
    return [*images, *(replace(mask, role_folder="as image") for mask in masks)], {}, (remark,)


def _partners(images: Sequence[Named], sources: Sequence[Named]) -> Mapping[str, Named]:
    if not sources:
        return {}
    have = {(image.place, image.tokens): image for image in images}
    partner = {(source.place, source.tokens): source for source in sources}
    missing = [image.key for name, image in have.items() if name not in partner]
    missing += [source.key for name, source in partner.items() if name not in have]
    if missing:
        raise ConfigurationError(
            f"Every file must have a partner of the same name among images and sources, got none for {len(missing)}: "
            f"{some(missing)}. Add them, or remove these."
        )
    return {image.key: partner[name] for name, image in have.items()}


def _check_siblings(listing: Listing, images: Sequence[Named]) -> None:
    """Looks into the first files of each folder: masks of the files of another one are no class."""
    by_folder: dict[str, list[str]] = {}
    for image in images:
        by_folder.setdefault(image.key.rpartition("/")[0], []).append(image.key)
    if not 1 < len(by_folder) <= _SIBLINGS:
        return
    few = {folder: looks_like_mask(read_image([listing.folder / keys[0]]).values) for folder, keys in by_folder.items()}
    suspects = [key for folder, keys in by_folder.items() if few[folder] for key in keys]
    rest = [key for folder, keys in by_folder.items() if not few[folder] for key in keys]
    if suspects and rest and len(suspects) >= min(len(rest), len(images) // 4):
        raise doubt(suspects, rest)


def _labels(listing: Listing, table: Path, images: Sequence[Named]) -> Labels:
    reason = listing.others.get("files of other kinds", [])
    if table.name in reason:
        reason.remove(table.name)
    tops = {f"{image.key.split('/')[0]}/" for image in images if "/" in image.key}
    return read_labels(table, [image.key for image in images], ("", *sorted(tops)))


def _check_splits(listing: Listing, roles: Roles) -> None:
    parts = splits_of([image.key for image in roles.images])
    if not parts:
        return
    names = list(parts)
    first = parts[names[0]][0]
    top = first.split("/")[0] == names[0]
    if top:
        remedy = f"Give {listing.folder / names[0]}"
    else:
        masks = splits_of([mask.key for mask in roles.masks]).get(names[0], [])
        chosen = [
            f"--images '{first.rpartition('/')[0]}/**'",
            *(f"--masks '{key.rpartition('/')[0]}/**'" for key in masks[:1]),
        ]
        remedy = f"Choose one: {' '.join(chosen)}"
    raise ConfigurationError(
        f"DATA must be one part of a split, got {listing.folder}, which holds {', '.join(names)}. {remedy}."
    )


def _check_distinct(images: Sequence[Named], listing: Listing) -> None:
    known: dict[str, str] = {}
    for image in images:
        name = image.key[: len(image.key) - len(suffix_of(Path(image.key)))].casefold()
        if name in known:
            raise ConfigurationError(
                f"Names without their endings must be distinct, got {Path(known[name]).name} and "
                f"{Path(image.key).name} in {(listing.folder / image.key).parent}. Remove one, or choose: --images "
                f"'**/*{suffix_of(Path(image.key))}'."
            )
        known[name] = image.key


def _dicom_patients(listing: Listing) -> dict[str, str]:
    """Pseudonyms of the patients of DICOM files; those that are no images are put aside."""
    patients: dict[str, str] = {}
    images = []
    for path in listing.files:
        if READERS.get(suffix_of(path), read_dicom) is read_dicom:
            try:
                patient, reason = look_at_dicom(path)
            except ImportError:
                raise
            except Exception as error:
                raise unreadable(path, error) from error
            if reason:
                listing.put_aside(path, reason)
                continue
            if patient:
                patients[listing.key(path)] = patient
        images.append(path)
    listing.files[:] = images
    return patients
