"""`read_layout`: which samples a folder holds, by the names of its files and folders."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torchgenaug.errors import ConfigurationError, EmptyDatasetError
from torchgenaug.recipes.data.array_volumes import as_volumes
from torchgenaug.recipes.data.channels import join_channels
from torchgenaug.recipes.data.files import READERS, read_image, stem_of, suffix_of, unreadable
from torchgenaug.recipes.data.groups import read_groups
from torchgenaug.recipes.data.listing import OTHER_KINDS, Listing, list_folder, some
from torchgenaug.recipes.data.masks import with_masks
from torchgenaug.recipes.data.members import with_members
from torchgenaug.recipes.data.naming import bids_key, split_word
from torchgenaug.recipes.data.pairing import Named
from torchgenaug.recipes.data.parts import Planes
from torchgenaug.recipes.data.readers.dicom import read_dicom
from torchgenaug.recipes.data.readers.dicom_header import DicomHeader, look_at_dicom
from torchgenaug.recipes.data.records import FileRecord, Layout
from torchgenaug.recipes.data.roles import OUTSIDE, Roles, assign_roles, splits_of
from torchgenaug.recipes.data.segmentations import chosen_segmentations, with_segmentations
from torchgenaug.recipes.data.selection import NO_MASKS, Selection
from torchgenaug.recipes.data.series import stack_series, unstacked_remark
from torchgenaug.recipes.data.stacks import read_chosen_stacks
from torchgenaug.recipes.data.suspicion import are_masks_of, doubt, looks_like_mask, num_levels
from torchgenaug.recipes.data.table_choice import FoundLabels, find_labels, tables_of
from torchgenaug.recipes.data.unreadable_kinds import remedies

_SIBLINGS = 20
_UNLABELLED = {"unlabelled", "unlabeled"}  # folders of images whose class is not known


def read_layout(folder: Path, selection: Selection | None = None) -> Layout:
    """The samples of a folder in the order of their paths, the names of the classes, and what was recognised.

    Raises:
        EmptyDatasetError: no image that can be read.
        ConfigurationError: files without their partner, a table that does not fit, one class only, or names that
            could mean several things.
    """
    selection = selection or Selection()
    listing = list_folder(folder)
    stacked = read_chosen_stacks(listing, selection)
    if stacked is not None:
        return stacked
    headers = _dicom_headers(listing)
    if not listing.files:
        raise EmptyDatasetError(
            f"{listing.folder} must hold images ({', '.join(READERS)}, or DICOM of any name), got none. "
            f"{' '.join(listing.unused()) or 'It is empty.'} "
            f"{' '.join(remedies(listing.others.get(OTHER_KINDS, []))) or 'Check the path.'}"
        )
    wanted = selection
    if selection.masks is not None and chosen_segmentations(headers, selection):
        selection = replace(selection, masks=NO_MASKS)  # of the other files
    roles = assign_roles(listing, listing.files, selection)
    _check_splits(listing, roles)
    images, channel_remarks = join_channels(roles.images, roles.masks, listing.folder)
    images, masks, mask_remarks = with_masks(listing, roles, images, selection)
    if not images:
        raise EmptyDatasetError(f"{listing.folder} must hold images besides its masks, got none. Leave --masks out.")
    images.sort(key=lambda image: image.key)
    _check_distinct(images, listing)
    sources = _partners(images, roles.sources)
    table = find_labels(listing, images, selection.table)
    labels = table.labels
    alone = not (masks or labels or sources or selection.images or selection.masks)
    if alone:
        _check_siblings(listing, images)
        _check_left_out(listing, images)
    groups = read_groups(images, listing.folder, selection.folders, alone=alone, known_classes=labels is not None)
    if labels is not None and not table.is_certain and selection.folders is None:
        _check_agreement(images, listing, table)
    records = []
    for number, image in enumerate(images):
        own = bids_patient(image.stem, image.key) or (headers[image.key].patient if image.key in headers else None)
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
        records, names, member_remarks = with_members(records)
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
        names = tuple(sorted(name for name in set(groups.classes) if name.casefold() not in _UNLABELLED))
        records = [
            replace(each, label=names.index(name) if name in names else math.nan)
            for each, name in zip(records, groups.classes, strict=True)
        ]
    if headers:
        stack = (
            stack_series(records, headers, listing)
            if selection.volumes
            else (records, unstacked_remark(records, headers))
        )
        records, segmented_remarks = with_segmentations(stack[0], headers, listing, wanted)
        group_remarks += (*stack[1], *segmented_remarks)
    summary = _summary(records, roles)
    if selection.volumes:
        records = as_volumes(records)
    remarks = (summary, *_split_remarks(images), *channel_remarks, *mask_remarks, *group_remarks, *listing.unused())
    return Layout(tuple(records), names, (*remarks, *table.remarks, *remedies(listing.others.get(OTHER_KINDS, []))))


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
        part = record.image[0]
        path = part.parts[0][0] if isinstance(part, Planes) else part
        ending = (suffix_of(path) if isinstance(path, Path) else "") or "DICOM without an ending"
        kinds[ending] = kinds.get(ending, 0) + 1
    text = f"Read as {len(records):,} images ({', '.join(kinds)})"
    if any(record.mask for record in records):
        folders = sorted({mask.role_folder for mask in roles.masks if mask.role_folder})
        example = next(record for record in records if record.mask)
        where = f"in {some(folders)}" if folders else "next to it"
        text += f", each with its mask {where} (first: {example.key} and {Path(str(example.mask[0])).name})"
    if any(record.source for record in records):
        text += ", each with a source to translate from"
    return text + "."


def _split_remarks(images: Sequence[Named]) -> tuple[str, ...]:
    """What a user should know where names of files state parts of a split: "train_1.png" and "testA_1.png"."""
    words = Counter(split_word(image.stem) for image in images)
    if len(words) < 2 or "" in words:
        return ()
    shown = ", ".join(f"{word} {count}" for word, count in sorted(words.items()))
    return (f"Names state parts of a split, which were read together: {shown}. Choose one with --images.",)


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
    """Looks into the first files of each folder, and of each name: masks of the files of another one are no class."""
    for name in (lambda image: image.key.rpartition("/")[0], lambda image: re.sub(r"\d+", "", image.stem)):
        by_name: dict[str, list[str]] = {}
        for image in images:
            by_name.setdefault(name(image), []).append(image.key)
        if 1 < len(by_name) <= _SIBLINGS:
            _check_groups(listing, images, by_name)


def _check_groups(listing: Listing, images: Sequence[Named], by_folder: Mapping[str, Sequence[str]]) -> None:
    firsts = {folder: read_image([listing.folder / keys[0]]).values for folder, keys in by_folder.items()}
    few = {folder: looks_like_mask(values) for folder, values in firsts.items()}
    levels = {folder: num_levels(values) for folder, values in firsts.items()}
    suspects = [key for folder, keys in by_folder.items() if few[folder] for key in keys]
    rest = [key for folder, keys in by_folder.items() if not few[folder] for key in keys]
    if suspects and rest and len(suspects) >= min(len(rest), len(images) // 4):
        sides = [[levels[folder] for folder in by_folder if few[folder] is side] for side in (True, False)]
        if are_masks_of(*sides):
            raise doubt(suspects, rest)


def _check_left_out(listing: Listing, images: Sequence[Named]) -> None:
    """Refuses files outside of the folders of images that are named like these and look like their masks."""
    outside = listing.others.get(OUTSIDE, [])
    by_stem = {image.stem: image.key for image in images}
    paired = [key for key in outside if stem_of(Path(key)) in by_stem]
    if not paired:
        return
    image, mask = (read_image([listing.folder / key]).values for key in (by_stem[stem_of(Path(paired[0]))], paired[0]))
    if looks_like_mask(mask) and are_masks_of([num_levels(mask)], [num_levels(image)]):
        raise doubt(paired, [image.key for image in images])


def _check_agreement(images: Sequence[Named], listing: Listing, table: FoundLabels) -> None:
    """Refuses folders that read as classes where a table that nobody named states other ones."""
    try:
        classes = read_groups(images, listing.folder, None, alone=True).classes
    except ConfigurationError:
        return
    given = table.labels.labels if table.labels is not None else ()
    if classes and len(set(zip(classes, given, strict=True))) > max(len(set(classes)), len(set(given))):
        raise ConfigurationError(
            f"It must be clear what the classes are, got subfolders of {listing.folder} ({some(sorted(set(classes)))}) "
            f"and the table {table.name}, which state different ones. Choose: --table {table.name} or --table none."
        )


def _check_splits(listing: Listing, roles: Roles) -> None:
    parts = splits_of([image.key for image in roles.images])
    if not parts:
        return
    names = sorted(parts, key=lambda name: "train" not in name.casefold())
    images = _above(parts[names[0]], names[0])
    masks = [mask.key for mask in roles.masks]
    if all(key.startswith(f"{images}/") for key in masks if split_word_of(key) in ("", split_word(names[0]))):
        remedy = f"Give {listing.folder / images}"
    else:
        own = next((each for part, each in splits_of(masks).items() if split_word(part) == split_word(names[0])), masks)
        remedy = f"Choose one: --images '{images}/**' --masks '{Path(own[0]).parent.as_posix()}/**'"
    tables = tables_of(listing)
    table = f" Classes that a table here states are read with --table {listing.folder / tables[0]}." if tables else ""
    raise ConfigurationError(
        f"DATA must be one part of a split, got {listing.folder}, which holds {', '.join(names)}. {remedy}.{table}"
    )


def split_word_of(key: str) -> str:
    """The part of a split that a file's folders state; "" where they state none."""
    return next((word for folder in key.split("/")[:-1] if (word := split_word(folder))), "")


def _above(keys: Sequence[str], folder: str) -> str:
    """The path of that folder, up to it."""
    folders = keys[0].split("/")
    return "/".join(folders[: folders.index(folder) + 1])


def _check_distinct(images: Sequence[Named], listing: Listing) -> None:
    known: dict[str, str] = {}
    for image in images:
        name = image.key[: len(image.key) - len(suffix_of(Path(image.key)))].casefold()
        if name in known:
            keys = sorted((known[name], image.key), key=lambda key: _is_few(listing, key))
            first, second = (suffix_of(Path(key)) for key in keys)
            both = f"; or, where {second} are the masks: --images '*{first}' --masks '*{second}'"
            raise ConfigurationError(
                f"Names without their endings must be distinct, got {Path(known[name]).name} and "
                f"{Path(image.key).name} in {(listing.folder / image.key).parent}. Remove one, or choose one kind: "
                f"--images '*{first}' --masks none{both if _is_few(listing, keys[1]) else ''}."
            )
        known[name] = image.key


def _is_few(listing: Listing, key: str) -> bool:
    return looks_like_mask(read_image([listing.folder / key]).values)


def _dicom_headers(listing: Listing) -> dict[str, DicomHeader]:
    """What DICOM files state of themselves; those that are no images are put aside."""
    headers: dict[str, DicomHeader] = {}
    images = []
    for path in listing.files:
        if READERS.get(suffix_of(path), read_dicom) is read_dicom:
            try:
                header = look_at_dicom(path)
            except ImportError:
                raise
            except Exception as error:
                raise unreadable(path, error) from error
            headers[listing.key(path)] = header
            if header.reason:
                listing.put_aside(path, header.reason)
                continue
        images.append(path)
    listing.files[:] = images
    return headers
