"""Laws over random layouts: names, capitals, endings, depth, words for masks, entries that do not belong."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from files_of_layouts import area, is_mask, put
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.load import load_data

SUFFIXES = ("_mask", "-mask", ".mask", "_Mask", "_seg", "_Segmentation", "_label", "_labels", "_gt", "_GT",
            "_annotation", "_ground_truth", "_lesion", "_roi", "Mask")  # fmt: skip
MASK_FOLDERS = ("masks", "Mask", "MASKS", "labels", "label", "gt", "GroundTruth", "ground-truth", "annotations",
                "segmentations", "seg", "labelsTr", "train_masks", "mask_png", "SegmentationClass")  # fmt: skip
IMAGE_FOLDERS = ("images", "Image", "IMAGES", "img", "imgs", "imagesTr", "train_images", "image_png", "JPEGImages")
STEMS = st.sampled_from(
    ["img{k}", "p{k:03}", "IM-0001-{k:04}", "scan {k}", "case_{k}_slice_7", "Ä{k}", "{k}", "x({k})"]
)


@dataclass
class Drawn:
    """A layout: how each image and each mask is called."""

    images: list[str]
    masks: list[str]
    classes: tuple[str, ...]


@st.composite
def layouts(draw):
    stem, count = draw(STEMS), draw(st.integers(2, 4))
    ending = draw(st.sampled_from([".png", ".PNG", ".jpg", ".JPEG", ".bmp", ".tif", ".TIFF"]))
    mask_ending = draw(st.sampled_from([".png", ".PNG", ".bmp", ".gif", ".tif"]))
    classes = draw(st.sampled_from([(), ("benign", "malignant"), ("COVID", "Normal", "Viral Pneumonia")]))
    depth = draw(st.sampled_from(["", "data/", "export of 2024/set/"]))
    style = draw(st.sampled_from(["beside", "below the class", "above the class"]))
    suffix = draw(st.sampled_from(SUFFIXES))
    mask_suffix = draw(st.sampled_from(["", suffix]))
    image_folder, mask_folder = draw(st.sampled_from(IMAGE_FOLDERS)), draw(st.sampled_from(MASK_FOLDERS))
    images, masks = [], []
    for label in classes or ("",):
        for k in range(count):
            name, inside = stem.format(k=k), f"{label}/" if label else ""
            if style == "beside":
                places = (f"{depth}{inside}", f"{depth}{inside}")
            elif style == "below the class":
                places = (f"{depth}{inside}{image_folder}/", f"{depth}{inside}{mask_folder}/")
            else:
                places = (f"{depth}{image_folder}/{inside}", f"{depth}{mask_folder}/{inside}")
            images.append(f"{places[0]}{name}{ending}")
            masks.append(f"{places[1]}{name}{suffix if style == 'beside' else mask_suffix}{mask_ending}")
    return Drawn(images, masks, classes)


def write(root, drawn):
    for image, mask in zip(drawn.images, drawn.masks, strict=True):
        put(root, image)
        put(root, mask, area(mask))


SETTINGS = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@SETTINGS
@given(layouts())
def test_masks_are_found_and_classes_are_classes(drawn):
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), drawn)
        data = load_data(folder)
        assert len(data) == len(drawn.images)
        assert data.class_names == drawn.classes
        assert data.num_mask_classes == 2
        assert not any(is_mask(data.samples[k]) for k in range(len(data)))
        for k in range(len(data)):
            image = drawn.images[sorted(range(len(drawn.images)), key=lambda each: drawn.images[each])[k]]
            mask = drawn.masks[drawn.images.index(image)]
            assert data.samples[k]["mask"].sum() == (area(mask) > 0).sum()
            assert data.samples[k]["mask"][0, :16, :16].numpy().tolist() == (area(mask) > 0).astype(int).tolist()


@SETTINGS
@given(layouts(), st.data())
def test_without_some_masks_it_is_refused_or_stated(drawn, data):
    """Whatever is missing: no mask becomes an image, and what is not used is named."""
    missing = data.draw(st.sets(st.sampled_from(drawn.masks), min_size=1))
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), drawn)
        for mask in missing:
            (Path(folder) / mask).unlink()
        try:
            found = load_data(folder)
        except ConfigurationError as error:
            message = str(error)
        else:
            assert len(missing) == len(drawn.masks)
            assert len(found) == len(drawn.images)
            return
        # Without any masks, the only subfolder is one class.
        assert "--masks none" in message or (len(missing) == len(drawn.masks) and "to train on one class" in message)


@SETTINGS
@given(layouts(), st.lists(st.sampled_from(["notes.txt", "t.xml", "a/b.pdf", ".hidden", "x.zip", "z/.y"]), unique=True))
def test_other_entries_are_counted(drawn, others):
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), drawn)
        for name in others:
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("x")
        data = load_data(folder)
        remarks = " ".join(data.remarks)
        assert len(data) == len(drawn.images)
        num_hidden = sum(name.rpartition("/")[2].startswith(".") for name in others)
        assert (f"hidden entries: {num_hidden}" in remarks) == bool(num_hidden)
        assert (f"files of other kinds: {len(others) - num_hidden}" in remarks) == (len(others) > num_hidden)


@pytest.mark.parametrize("folders", ["classes", "patients", "ignore"])
def test_subfolders_are_what_the_option_states(tmp_path, folders):
    for name in ("a1", "b7"):
        for k in range(2):
            put(tmp_path, f"{name}/{name}{k}.png")
    data = load_data(tmp_path, folders=folders)
    assert bool(data.class_names) == (folders == "classes")
    assert bool(data.patients) == (folders == "patients")
