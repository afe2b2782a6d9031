"""What the names of files and folders state: images, masks, contrasts, parts of a split, patients.

A name is read as its tokens: "ISIC_0000000_segmentation" is (isic, 0000000, segmentation), "labelsTr" is (labels, tr).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TypeAlias

Tokens: TypeAlias = tuple[str, ...]

_MASK = re.compile(
    r"(?:masks?|msk|segs?|segm|segmentations?|segmented|labels?|labelmaps?|lbl|gts?|groundtruths?|truth|anno|annots?"
    r"|annotations?|manual|dseg|probseg|rois?|lesions?|contours?|delineations?|1stho|2ndho|"
    r"\w*(?:mask|masks|segmentation|segmentations|labelmap|groundtruth))\d{0,3}"
)
_WEAK_MASK = {"lesion", "lesions", "roi", "rois", "manual", "contour", "contours", "truth"}
_MASK_FOLDER, _FOLDER = {"ann", "anns", "ground"}, {"dir", "folder"}  # "ann_dir" beside "img_dir"
_IMAGE = {"image", "images", "img", "imgs", "imaging", "input", "inputs", "original", "originals", "orig", "volume",
          "volumes", "vol", "scan", "scans", "picture", "pictures", "photo", "photos", "frame", "frames",
          "dermoscopic"}  # fmt: skip
_STRONG_IMAGE = {"image", "images", "img", "imgs"}
_DRAWN_OVER = {"overlay", "overlays", "preview", "previews", "thumb", "thumbs", "thumbnail", "thumbnails", "heatmap",
               "heatmaps", "pred", "preds", "prediction", "predictions", "superpixels", "visualization"}  # fmt: skip
_SPLIT = {
    *("train", "training", "trn", "val", "valid", "validation", "test", "testing", "tst", "dev", "trainval"),
    *("heldout", "holdout"),
}  # fmt: skip
_FOLD = {"fold", "part", "subset", "batch", "chunk"}
CONTRASTS = {"flair", "t1", "t1w", "t1c", "t1ce", "t1gd", "t1n", "t1post", "t2", "t2w", "t2f", "t2star", "pd", "pdw",
             "dwi", "adc", "swi", "asl", "cbf", "cbv", "mtt", "tmax", "ttp", "mra", "ct", "cta", "pet",
             "pt", "suv", "hbv", "mprage"}  # fmt: skip
"""Last token of a file name that states the contrast."""

_PERSON = {"patient", "patients", "pat", "pt", "case", "cases", "subject", "subj", "sub", "p", "s", "id", "pid", "tcga",
           "brats", "volume", "vol", "volunteer", "participant", "person", "scan", "study", "series", "exam", "sample",
           "record", "imd", "isic", "lidc", "nsclc", "kits", "upenn", "ucsf", "prostatex", "ixi", "oas"}  # fmt: skip
_CLASS = {"class", "grade", "level", "type", "stage", "score", "group", "kl", "birads", "rads", "category", "cat",
          "label", "gleason", "cluster", "dr", "digit", "c"}  # fmt: skip
_SPLIT_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")


def tokens_of(stem: str) -> Tokens:
    """Parts of a file's name without ending, between signs that are neither letters nor digits; lower case."""
    plain = unicodedata.normalize("NFC", stem)
    plain = re.sub(r"(?i)ground[ _.-]?truth", "groundtruth", plain)
    plain = re.sub(r"(?<=[a-z0-9])(?=Mask|Seg|Label|GT\b)|(?<=\d)(?=(?:mask|seg|label)s?$)", "_", plain)
    plain = re.sub(r"(Labels?|Masks?)(?=[A-Z])", r"\1_", plain)
    plain = re.sub(r"(?i)((?<![^\W_])(?:img|image)|^(?:mask|seg|label))(?=\d)", r"\1_", plain)
    return tuple(part.casefold() for part in re.split(r"[\W_]+", plain) if part)


def folder_tokens(name: str) -> Tokens:
    """The same of a folder, whose name is also parted where capitals or digits begin: "imagesTr", "Training400"."""
    plain = re.sub(r"(?i)ground[ _.-]?truth", " groundtruth ", unicodedata.normalize("NFC", name))
    return tuple(part.casefold() for part in _SPLIT_WORDS.findall(plain))


def is_mask_word(token: str) -> bool:
    """Whether a token names masks."""
    return _MASK.fullmatch(token) is not None


def folder_role(name: str) -> str:
    """What a folder's name states it holds: "mask", "image", "maybe image", "source", "drawn over" or ""."""
    tokens = folder_tokens(name)
    if tokens in (("source",), ("sources",)):
        return "source"
    named = [token for token in tokens if is_mask_word(token) or token in _MASK_FOLDER]
    if any(token not in _WEAK_MASK for token in named) or (named and len(tokens) <= 2):
        return "mask"
    if any(token in _DRAWN_OVER for token in tokens):
        return "drawn over"
    if any(token in _STRONG_IMAGE for token in tokens):
        return "image"
    if len(tokens) == 2 and tokens[1].isdigit():
        return ""  # "volume_003" is a case
    return "maybe image" if any(token in _IMAGE for token in tokens) else ""


def without_role(name: str) -> str:
    """A folder's name without what names its role: "imagesTr" is "tr", "images" is ""."""
    tokens = (token for token in folder_tokens(name) if token not in _IMAGE | _MASK_FOLDER | _FOLDER)
    rest = [token for token in tokens if not is_mask_word(token)]
    return "_".join(rest)


def mask_bases(tokens: Tokens) -> list[Tokens]:
    """What the image of a mask of this name may be called, the likeliest first; empty where it names no mask."""
    places = [place for place, token in enumerate(tokens) if is_mask_word(token)]
    if not places:
        return []
    bases = []
    last = len(tokens)
    while last and is_mask_word(tokens[last - 1]):
        last -= 1
    if last < len(tokens):
        bases.append(tokens[:last])
    elif len(places) and all(token.isdigit() and len(token) <= 3 for token in tokens[places[-1] + 1 :]):
        last = places[-1]
        while last and is_mask_word(tokens[last - 1]):
            last -= 1
        bases.append(tokens[:last])
    first = 0
    while first < len(tokens) and is_mask_word(tokens[first]):
        first += 1
    if first:
        bases.append(tokens[first:])
    bases.append(tuple(token for token in tokens if not is_mask_word(token)))
    return list(dict.fromkeys(bases))


def mask_kind(tokens: Tokens) -> Tokens:
    """What tells several masks of one image apart: its mask words, without the numbers of instances."""
    words = (token for token in tokens if is_mask_word(token))
    return tuple(word if word.startswith(("manual", "1st", "2nd")) else word.rstrip("0123456789") for word in words)


def image_bases(tokens: Tokens) -> list[Tokens]:
    """An image's own name, and the same without words for images."""
    return list(dict.fromkeys((tokens, tuple(token for token in tokens if token not in _IMAGE))))


def is_drawn_over(tokens: Tokens) -> bool:
    """Whether a name states that the picture was drawn from another one."""
    return any(token in _DRAWN_OVER for token in tokens[-1:])


def split_word(name: str) -> str:
    """The part of a split that a folder's name states: "train", "test", …; "" of any other folder."""
    return next((token for token in folder_tokens(name) if token in _SPLIT), "")


def is_fold(name: str) -> bool:
    """Whether a folder holds a part of the data that means nothing: "fold1", "subset0"."""
    return any(token in _FOLD for token in folder_tokens(name))


def bids_key(stem: str) -> Tokens:
    """The entities of a BIDS name that an image and its derivatives share; empty for other names."""
    found = dict(re.findall(r"(?:^|_)(sub|ses|run|acq|echo|task)-([A-Za-z0-9]+)", stem))
    return tuple(f"{key}-{found[key]}" for key in ("sub", "ses", "task", "acq", "run", "echo") if key in found)


def read_folder_names(names: Sequence[str]) -> str:
    """What sibling folders of these names are: "classes", "patients" or "unclear"."""
    lowered = [name.casefold() for name in names]
    if all(re.fullmatch(r"[0-9a-f-]{16,}|sub-.*", name) for name in lowered):
        return "patients"
    if all(name.isdigit() for name in lowered):
        numbers = sorted(map(int, lowered))
        counted = numbers in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))
        return "classes" if counted and len(numbers) <= 20 and max(map(len, lowered)) <= 2 else "unclear"
    words = {word for name in names for word in (*folder_tokens(name), *re.findall("[a-z]+", name.casefold()))}
    if words & {"dataset", "task"} and all(re.search(r"\d", name) for name in lowered):
        return "unclear"  # several data sets of nnU-Net
    templates = {re.sub(r"\d+", "#", name) for name in lowered}
    if len(templates) > 1 and not all(
        re.findall("[a-z]+", name)[:1] and re.findall("[a-z]+", name)[0] in _PERSON for name in lowered
    ):
        return "classes"
    if not all(re.search(r"\d", name) for name in lowered):
        return "classes"
    if words & _CLASS - {"c"}:
        return "classes"
    if words & _PERSON:
        return "patients"
    return "patients" if any(re.search(r"0\d|\d{3}", name) for name in lowered) else "unclear"


def names_class(name: str) -> bool:
    """Whether a folder's name says that it is a class: "grade_2", "class1"."""
    return any(token in _CLASS for token in folder_tokens(name))


def persons_of(names: Sequence[str]) -> dict[str, str]:
    """Folder of patients → the patient: "BraTS-GLI-00002-000" and "-001", "OAS1_0001_MR1" and "_MR2" are one each.

    Only where all names end so, and some patient comes twice.
    """
    found = [
        re.fullmatch(r"(.*\d{3,})[-_](?:mr|ses|visit|scan|tp|t|v)?(?:\d{1,3}|\d{8})", name, re.I) for name in names
    ]
    stems = [each.group(1) for each in found if each]
    if len(stems) < len(names) or len(set(stems)) == len(names):
        return {name: name for name in names}
    return dict(zip(names, stems, strict=True))


def common_ends(names: Iterable[Tokens]) -> tuple[int, int]:
    """How many tokens at the beginning and at the end all names share."""
    lists = list(names)
    if len(lists) < 2:
        return 0, 0
    shortest = min(map(len, lists))
    front = next((k for k in range(shortest) if len({each[k] for each in lists}) > 1), shortest)
    back = next((k for k in range(shortest - front) if len({each[-1 - k] for each in lists}) > 1), shortest - front)
    return front, back
