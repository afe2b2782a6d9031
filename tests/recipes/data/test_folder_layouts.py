"""Folders as public data sets have them: what is an image, a mask, a class, a patient, and what is refused."""

from __future__ import annotations

import json
import re

import pytest
from files_of_layouts import area, box, is_mask, noise, put

from torchgenaug.errors import ConfigurationError, EmptyDatasetError
from torchgenaug.recipes.data.load import load_data


def busi(root):
    for kind in ("benign", "malignant", "normal"):
        for k in (1, 2):
            put(root, f"Dataset_BUSI_with_GT/{kind}/{kind} ({k}).png")
            put(root, f"Dataset_BUSI_with_GT/{kind}/{kind} ({k})_mask.png", area(f"{kind}{k}"))
    put(root, "Dataset_BUSI_with_GT/benign/benign (1)_mask_1.png", area("other"))


def isic(root):
    for k in range(3):
        put(root, f"ISIC2018_Task1-2_Training_Input/ISIC_000000{k}.jpg")
        put(root, f"ISIC2018_Task1_Training_GroundTruth/ISIC_000000{k}_segmentation.png", area(str(k)))
        put(root, f"ISIC2018_Task1-2_Training_Input/ISIC_000000{k}_superpixels.png")
    (root / "ISIC2018_Task1-2_Training_Input" / "ATTRIBUTION.txt").write_text("x")


def kits(root):
    for k in range(3):
        put(root, f"case_0000{k}/imaging.nii.gz")
        put(root, f"case_0000{k}/segmentation.nii.gz", box(str(k)))


def lits(root):
    for k in range(3):
        put(root, f"volume-{k}.nii")
        put(root, f"segmentation-{k}.nii", box(str(k)))


def acdc(root):
    for k in (1, 2, 3):
        for frame in ("01", "12"):
            put(root, f"patient00{k}/patient00{k}_frame{frame}.nii.gz")
            put(root, f"patient00{k}/patient00{k}_frame{frame}_gt.nii.gz", box(f"{k}{frame}"))
        (root / f"patient00{k}" / "Info.cfg").write_text("ED: 1")


def promise(root):
    for k in range(3):
        put(root, f"Case0{k}.mhd")
        put(root, f"Case0{k}_segmentation.mhd", box(str(k)))


def drive_training(root):
    for k in (21, 22, 23):
        put(root, f"images/{k}_training.tif")
        put(root, f"1st_manual/{k}_manual1.gif", area(str(k)))


def bus_bra(root):
    for k in range(3):
        put(root, f"Images/bus_000{k}-l.png")
        put(root, f"Masks/mask_000{k}-l.png", area(str(k)))


def qata(root):
    for k in range(3):
        put(root, f"Images/covid_{k}.png")
        put(root, f"Ground-truths/mask_covid_{k}.png", area(str(k)))


def glas(root):
    for k in range(3):
        put(root, f"train_{k}.bmp")
        put(root, f"train_{k}_anno.bmp", area(str(k)))
    (root / "Grade.csv").write_text("name,grade")


def cvc(root):
    for k in range(3):
        put(root, f"Original/{k}.tif")
        put(root, f"Ground Truth/{k}.tif", area(str(k)))


def tn3k(root):
    for k in range(3):
        put(root, f"trainval-image/000{k}.jpg")
        put(root, f"trainval-mask/000{k}.png", area(str(k)))


def ph2(root):
    for k in (2, 3, 4):
        put(root, f"IMD00{k}/IMD00{k}_Dermoscopic_Image/IMD00{k}.bmp")
        put(root, f"IMD00{k}/IMD00{k}_lesion/IMD00{k}_lesion.bmp", area(str(k)))


def mmwhs(root):
    for k in range(3):
        put(root, f"ct_train_100{k}_image.nii.gz")
        put(root, f"ct_train_100{k}_label.nii.gz", box(str(k)))


def camus(root):
    for k in (1, 2):
        for view in ("2CH_ED", "4CH_ES"):
            put(root, f"patient000{k}/patient000{k}_{view}.mhd")
            put(root, f"patient000{k}/patient000{k}_{view}_gt.mhd", box(f"{k}{view}"))


def yolo_names(root):
    for k in range(3):
        put(root, f"images/train/a{k}.png")
        put(root, f"labels/train/a{k}.png", area(str(k)))


def dsb_upper(root):
    for k in range(3):
        put(root, f"stage1_train/{k:032x}/Images/{k:032x}.PNG")
        for j in range(3):
            put(root, f"stage1_train/{k:032x}/Masks/{k * 7 + j:064x}.PNG", area(f"{k}{j}"))


def decathlon(root):
    for k in (3, 4, 5):
        put(root, f"imagesTr/la_00{k}.nii.gz")
        put(root, f"labelsTr/la_00{k}.nii.gz", box(str(k)))
        (root / "imagesTr" / f"._la_00{k}.nii.gz").write_bytes(b"apple")
        put(root, f"imagesTs/la_01{k}.nii.gz")
    content = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "atrium"}}
    (root / "dataset.json").write_text(json.dumps(content))


def nnunet_v1(root):
    for k in range(3):
        for channel in range(2):
            put(root, f"Task001_X/imagesTr/case_{k:03}_{channel:04}.nii.gz")
        put(root, f"Task001_X/labelsTr/case_{k:03}.nii.gz", box(str(k)))
        put(root, f"Task001_X/imagesTs/case_{k + 9:03}_0000.nii.gz")
    (root / "Task001_X" / "dataset.json").write_text(json.dumps({"modality": {"0": "T1", "1": "T2"}}))


def nnunet_v2_png(root):
    for k in range(3):
        put(root, f"imagesTr/img{k}_0000.png")
        put(root, f"labelsTr/img{k}.png", area(str(k), 1))
    (root / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "R"}, "labels": {"background": 0, "x": 1}, "file_ending": ".png"})
    )


def brats_2023(root):
    for k in range(3):
        name = f"BraTS-GLI-0000{k}-000"
        for contrast in ("t1n", "t1c", "t2w", "t2f"):
            put(root, f"{name}/{name}-{contrast}.nii.gz")
        put(root, f"{name}/{name}-seg.nii.gz", box(name))


def wmh(root):
    for k in range(2):
        for contrast in ("T1", "FLAIR"):
            put(root, f"Utrecht/{k}/pre/{contrast}.nii.gz")
        put(root, f"Utrecht/{k}/wmh_mask.nii.gz", box(str(k)))


def bids_atlas(root):
    for k in ("001", "002"):
        name = f"sub-r001s{k}_ses-1_space-MNI152NLin2009aSym"
        put(root, f"sub-r001s{k}/ses-1/anat/{name}_T1w.nii.gz")
        put(root, f"sub-r001s{k}/ses-1/anat/{name}_label-L_desc-T1lesion_mask.nii.gz", box(k))
    (root / "dataset_description.json").write_text("{}")


def bids_isles(root):
    for k in ("1", "2"):
        for contrast in ("dwi", "adc"):
            put(root, f"sub-stroke{k}/ses-0001/dwi/sub-stroke{k}_ses-0001_{contrast}.nii.gz")
        put(root, f"derivatives/sub-stroke{k}/ses-0001/sub-stroke{k}_ses-0001_msk.nii.gz", box(k))


def brats_sessions(root):
    for k in range(3):
        for session in ("000", "001"):
            name = f"BraTS-MET-0000{k}-{session}"
            for contrast in ("t1n", "t2w"):
                put(root, f"{name}/{name}-{contrast}.nii.gz")
            put(root, f"{name}/{name}-seg.nii.gz", box(name))


def patients_of_classes(root):
    for kind in ("AD", "CN"):
        for patient in range(2):
            for k in range(2):
                put(root, f"{kind}/{kind}_S_000{patient}/slice_{k}.png")
                put(root, f"{kind}/{kind}_S_000{patient}/slice_{k}_mask.png", area(f"{kind}{patient}{k}"))


def mmseg(root):
    for k in range(3):
        put(root, f"img_dir/p{k}.png")
        put(root, f"ann_dir/p{k}.png", area(str(k)))


def numbered(root):
    for k in range(3):
        put(root, f"images/img{k}1.png")
        put(root, f"masks/mask{k}1.png", area(str(k)))


def joined_words(root):
    for k in range(3):
        put(root, f"scan{k}.png")
        put(root, f"scan{k}mask.png", area(str(k)))


def nas(root):
    """Folders of operating systems and network drives hold thumbnails of the images."""
    mmseg(root)
    for name in ("@eaDir", "$RECYCLE.BIN", "lost+found", "#recycle"):
        put(root, f"{name}/SYNOPHOTO_THUMB_XL.png")


@pytest.mark.parametrize(
    ("make", "count", "channels", "classes", "patients"),
    [
        (brats_sessions, 6, 2, (), 3),
        (patients_of_classes, 8, 1, ("AD", "CN"), 4),
        (mmseg, 3, 1, (), 0),
        (numbered, 3, 1, (), 0),
        (joined_words, 3, 1, (), 0),
        (nas, 3, 1, (), 0),
        (busi, 6, 1, ("benign", "malignant", "normal"), 0),
        (isic, 3, 1, (), 0),
        (kits, 3, 1, (), 3),
        (lits, 3, 1, (), 0),
        (acdc, 6, 1, (), 3),
        (promise, 3, 1, (), 0),
        (drive_training, 3, 1, (), 0),
        (bus_bra, 3, 1, (), 0),
        (qata, 3, 1, (), 0),
        (glas, 3, 1, (), 0),
        (cvc, 3, 1, (), 0),
        (tn3k, 3, 1, (), 0),
        (ph2, 3, 1, (), 3),
        (mmwhs, 3, 1, (), 0),
        (camus, 4, 1, (), 2),
        (yolo_names, 3, 1, (), 0),
        (dsb_upper, 3, 1, (), 3),
        (decathlon, 3, 1, (), 0),
        (nnunet_v1, 3, 2, (), 0),
        (nnunet_v2_png, 3, 1, (), 0),
        (brats_2023, 3, 4, (), 3),
        (wmh, 2, 2, (), None),
        (bids_atlas, 2, 1, (), 2),
        (bids_isles, 2, 2, (), 2),
    ],
)
def test_public_layouts(tmp_path, make, count, channels, classes, patients):
    make(tmp_path)
    data = load_data(str(tmp_path))
    assert len(data) == count
    assert data.image_shape[0] == channels
    assert data.class_names == classes
    assert data.num_mask_classes == 2
    assert not any(is_mask(data.samples[k]) for k in range(len(data)))
    if patients is not None:
        assert len(set(data.patients)) == patients


def with_and_without_mask(root):
    """Faces, not segmentations."""
    for kind in ("with_mask", "without_mask"):
        for k in range(3):
            put(root, f"{kind}/{kind}_{k}.jpg")


def test_pictures_that_are_named_like_masks(tmp_path):
    with_and_without_mask(tmp_path)
    data = load_data(str(tmp_path))
    assert data.class_names == ("with_mask", "without_mask")
    assert "named like masks" in " ".join(data.remarks)


def test_everything_that_is_not_used_is_named(tmp_path):
    for k in range(3):
        put(tmp_path, f"images/{k}.png")
        put(tmp_path, f"masks/{k}.png", area(str(k)))
        put(tmp_path, f"overlays/{k}.png")
        put(tmp_path, f"extra/{k}.png")
    (tmp_path / "annotations.xml").write_text("x")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
    data = load_data(str(tmp_path))
    assert len(data) == 3
    (unused,) = [remark for remark in data.remarks if remark.startswith("Not used")]
    for name in ("overlays/0.png", "extra/0.png", "annotations.xml", ".cache", "lost.png"):
        assert name in unused
    assert "pictures drawn over others: 3" in unused
    assert "files outside of the folders of images: 3" in unused


def test_images_of_many_sizes_are_all_kept(tmp_path):
    """Once the second size was seen, the samples in memory ended there."""
    for k, side in enumerate((16, 24, 32)):
        put(tmp_path, f"{k}.png", noise(str(k), (side, side)))
    data = load_data(str(tmp_path), size=16)
    assert len(data) == len(data.ids) == 3
    assert len({data[k]["image"].numpy().tobytes() for k in range(3)}) == 3


def test_masks_in_a_folder_of_an_unknown_name_are_in_doubt(tmp_path):
    for k in range(3):
        put(tmp_path, f"image/{k}.png")
        put(tmp_path, f"liver/{k}.png", area(str(k)))
    with pytest.raises(ConfigurationError, match="few values") as caught:
        load_data(str(tmp_path))
    images, masks = re.findall(r"'([^']*)'", str(caught.value))[:2]
    assert "mask" in load_data(str(tmp_path), images=images, masks=masks).fields
    assert "--masks none" in str(caught.value)
    assert "mask" not in load_data(str(tmp_path), images=images, masks="none").fields


def test_one_set_in_two_formats_is_no_two_classes(tmp_path):
    for k in range(3):
        for kind in ("png", "tif"):
            put(tmp_path, f"{kind.upper()}/Original/{k}.{kind}")
            put(tmp_path, f"{kind.upper()}/Ground Truth/{k}.{kind}", area(str(k)))
    with pytest.raises(ConfigurationError, match="versions of the same images"):
        load_data(str(tmp_path))


def test_classes_whose_names_are_words_for_images_or_masks(tmp_path):
    for kind in ("photo", "lesion", "text"):
        for k in range(3):
            put(tmp_path, f"{kind}/{kind}{k}.png")
    data = load_data(str(tmp_path), images="**", folders="classes")
    assert data.class_names == ("lesion", "photo", "text")


def pairs(root):
    for k in range(4):
        put(root, f"A/{k}.png")
        put(root, f"B/{k}.png", area(str(k)))


def unnamed_suffix(root):
    for k in range(4):
        put(root, f"{k}.png")
        put(root, f"{k}_L.png", area(str(k)))


def two_kinds(root):
    for k in range(3):
        put(root, f"CXR_png/{k}.png")
        put(root, f"ManualMask/leftMask/{k}.png", area(f"l{k}"))
        put(root, f"ManualMask/rightMask/{k}.png", area(f"r{k}"))


def two_observers(root):
    for k in range(3):
        put(root, f"Image_0{k}L.jpg")
        put(root, f"Image_0{k}L_1stHO.png", area(f"1{k}"))
        put(root, f"Image_0{k}L_2ndHO.png", area(f"2{k}"))


def drive(root):
    drive_training(root)
    for k in (21, 22, 23):
        put(root, f"mask/{k}_training_mask.gif", area(f"field{k}"))


def lacking_mask(root):
    for k in range(4):
        put(root, f"images/{k}.png")
        if k:
            put(root, f"masks/{k}.png", area(str(k)))


def only_masks(root):
    for k in range(3):
        put(root, f"x/{k}_mask.png", area(str(k)))


def wrong_numbers(root):
    for name in ("1001", "1007", "2044"):
        put(root, f"{name}/a.png", noise(name))


def classes_and_loose(root):
    for k in range(3):
        put(root, f"cat/{k}.png")
        put(root, f"dog/{k}.png")
    put(root, "figure.png")


def contrasts_as_folders(root):
    for k in range(3):
        put(root, f"T1/{k}.png")
        put(root, f"T2/{k}.png")


def versions_as_folders(root):
    for k in range(3):
        put(root, f"trainA/p{k}.png")
        put(root, f"trainB/p{k}.png")


def masks_by_ending(root):
    for k in range(3):
        put(root, f"x{k}.jpg")
        put(root, f"x{k}.png", area(str(k)))


def bids_kinds(root):
    for k in ("01", "02"):
        put(root, f"sub-{k}/anat/sub-{k}_T1w.nii.gz")
        put(root, f"sub-{k}/func/sub-{k}_task-rest_bold.nii.gz")


def incomplete_contrasts(root):
    brats_2023(root)
    (root / "BraTS-GLI-00001-000" / "BraTS-GLI-00001-000-t2f.nii.gz").unlink()


def splits(root):
    for part in ("train", "test"):
        for k in range(2):
            put(root, f"{part}/images/{k}.png", noise(f"{part}{k}"))
            put(root, f"{part}/masks/{k}.png", area(str(k)))


def splits_below(root):
    for part in ("train", "val"):
        for k in range(2):
            put(root, f"images/{part}/{k}{part}.png")
            put(root, f"masks/{part}/{k}{part}.png", area(str(k)))


def advised(message):
    """The options that a message offers, one dict for each way that it shows."""
    found = []
    for way in re.split(r"; or |, or |; |\), ", message):
        options = re.findall(r"--(images|masks|folders) (?:'([^']*)'|(\w+))", way)
        chosen = {name: quoted or word for name, quoted, word in options}
        if chosen and "GLOB" not in chosen.values():
            found.append(chosen)
    return found


@pytest.mark.parametrize(
    ("make", "message", "options", "count"),
    [
        (pairs, "hold few values, as masks do", {"images": "A/*.png", "masks": "B/*.png"}, 4),
        (pairs, "hold few values, as masks do", {"images": "**", "folders": "classes"}, 8),
        (unnamed_suffix, "hold few values", {"images": "?.png", "masks": "*_L.png"}, 4),
        (two_kinds, "masks of one kind", {"masks": "ManualMask/leftMask/*"}, 3),
        (two_observers, "masks of one kind", {"masks": "*_1stHO.png"}, 3),
        (drive, "masks of one kind", {"masks": "1st_manual/*"}, 3),
        (lacking_mask, "no mask for 1 of 4 images: images/0.png", {"masks": "**/masks/**"}, 3),
        (lacking_mask, "no mask for 1 of 4 images", {"masks": "none"}, 4),
        (only_masks, "files named like masks", {"images": "**"}, 3),
        (wrong_numbers, "classes or patients", {"folders": "patients"}, 3),
        (wrong_numbers, "classes or patients", {"folders": "classes"}, 3),
        (classes_and_loose, "got 1 outside of them", {"folders": "ignore"}, 7),
        (classes_and_loose, "got 1 outside of them", {"images": "*/**"}, 6),
        (contrasts_as_folders, "contrasts or versions of the same", {"folders": "classes"}, 6),
        (contrasts_as_folders, "contrasts or versions of the same", {"images": "T1/**"}, 3),
        (versions_as_folders, "contrasts or versions of the same images", {"images": "trainA/**"}, 3),
        (masks_by_ending, "endings must be distinct", {"images": "*.jpg", "masks": "*.png"}, 3),
        (bids_kinds, "BIDS suffixes bold, t1w", {"images": "**/*_t1w.*"}, 2),
        (incomplete_contrasts, "got fewer for 1 of 3", {"images": "**/*t1c.*"}, 3),
        (splits_below, "one part of a split", {"images": "**/train/**", "masks": "masks/train/*"}, 2),
    ],
)
def test_in_doubt_both_readings_are_shown_and_the_options_choose(tmp_path, make, message, options, count):
    make(tmp_path)
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_data(str(tmp_path))
    alternatives = advised(str(caught.value))
    assert alternatives
    for each in alternatives:
        assert len(load_data(str(tmp_path), **each)) > 0
    assert len(load_data(str(tmp_path), **options)) == count


def test_a_part_of_a_split_is_given_by_its_folder(tmp_path):
    splits(tmp_path)
    with pytest.raises(ConfigurationError, match=r"one part of a split, .*Give .*/(train|test)\."):
        load_data(str(tmp_path))
    assert len(load_data(str(tmp_path / "train"))) == 2


def test_a_table_states_the_classes(tmp_path):
    for k in range(4):
        put(tmp_path, f"part{k % 2}/1{k}.png")
    (tmp_path / "train.csv").write_text("file,label")
    remarks = " ".join(load_data(tmp_path).remarks)
    assert "The table train.csv was not used: it holds no lines" in remarks
    (tmp_path / "labels.csv").write_text("file,label,patient\n" + "\n".join(f"1{k},{'ab'[k // 2]},P" for k in range(4)))
    data = load_data(tmp_path)
    assert data.class_names == ("a", "b")
    assert data.labels().tolist() == [0, 1, 0, 1]
    assert set(data.patients) == {"P"}


def test_subfolders_beside_a_table(tmp_path):
    for k in range(4):
        put(tmp_path, f"{('x', 'y')[k % 2]}/{k}.png")
    (tmp_path / "labels.csv").write_text("file;class\n" + "\n".join(f"{k}.png;{'ab'[k // 2]}" for k in range(4)))
    data = load_data(tmp_path)
    assert data.class_names == ("a", "b")
    assert "(x, y) were not read as classes" in " ".join(data.remarks)


def test_patterns_that_match_nothing_are_refused(tmp_path):
    pairs(tmp_path / "both")
    only_masks(tmp_path / "only")
    with pytest.raises(ConfigurationError, match=r"`masks` must match files .*none of 8: A/0\.png"):
        load_data(str(tmp_path / "both"), images="A/*", masks="C/*")
    with pytest.raises(ConfigurationError, match="'classes', 'patients' or 'ignore'"):
        load_data(str(tmp_path / "both"), folders="both")
    with pytest.raises(EmptyDatasetError, match="images besides its masks"):
        load_data(str(tmp_path / "only"), masks="none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmptyDatasetError, match="It is empty"):
        load_data(str(tmp_path / "empty"))


def test_organs_in_files_of_their_own_are_kinds_and_cells_are_not(tmp_path):
    for k in range(3):
        put(tmp_path, f"s000{k}/ct.nii.gz")
        for organ in ("liver", "spleen"):
            put(tmp_path, f"s000{k}/segmentations/{organ}.nii.gz", box(f"{k}{organ}"))
    with pytest.raises(ConfigurationError, match=r"2 kinds.*--masks '\*\*/segmentations/\*\*/\*liver\*' \(3\)"):
        load_data(tmp_path)
    assert load_data(tmp_path, masks="**/segmentations/**/*liver*").num_mask_classes == 2
    cells = tmp_path / "cells"
    for k in range(3):
        put(cells, f"x{k}/images/x{k}.png")
        for cell in range(2):
            put(cells, f"x{k}/masks/{'abc'[k]}{'de'[cell]}.png", area(f"{k}{cell}"))
    assert len(load_data(cells, folders="ignore")) == 3


def test_patients_are_no_classes(tmp_path):
    for k in range(6):
        put(tmp_path, f"healthy/sub-{k // 2}/{k}.png")
    with pytest.raises(ConfigurationError, match=r"sub-2, below 'healthy' only\. Choose: --folders pat"):
        load_data(tmp_path, folders="classes")
    for advised in ("patients", "ignore"):
        assert "label" not in load_data(tmp_path, folders=advised).fields
    for k in range(6):
        put(tmp_path, f"sick/sub-{k // 2 + 3}/{k}.png")
    assert load_data(tmp_path).class_names == ("healthy", "sick")
