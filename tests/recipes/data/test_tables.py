"""labels.csv as programs and people write it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.tables import read_labels

KEYS = ["images/im0.png", "images/im1.png", "images/im2.png", "images/im3.png"]
LABELS = ["a", "b", "a", "b"]


def read(tmp_path, content, keys=KEYS, name="labels.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labels(path, keys, ("", "images/"))


def rows(header, *lines):
    return "\n".join([header, *lines])


NAMES = {
    "below the folder": "images/{}.png",
    "below images": "{}.png",
    "without ending": "{}",
    "other capitals": "IM{}.PNG",
    "of Windows": "images\\{}.png",
    "absolute": "/home/someone/data/images/{}.png",
    "from elsewhere": "./train/images/{}.png",
    "in quotes": '"{}.png"',
}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(NAMES)),
    st.sampled_from([",", ";", "\t", "|", ", ", " ; "]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"]),
    st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
    st.sampled_from(["file", "Filename", "image_id", "IMAGE", "image_name", "Image Index", "path", "isic_id", "img"]),
    st.sampled_from(["label", "Label", "class", "dx", "target", "diagnosis", "Finding Labels", "category"]),
    st.sampled_from([None, "patient", "Patient ID", "subject", "patient_id"]),
    st.permutations(range(4)),
    st.booleans(),
)
def test_every_way_of_writing_gives_the_same(
    tmp_path_factory, how, delimiter, encoding, end, file, label, patient, order, extra
):
    stems = [key.split("/")[1][:-4] for key in KEYS]
    stems = [stem[2:] for stem in stems] if how == "other capitals" else stems
    header = [file, label, *([patient] if patient else []), *(["years"] if extra else [])]
    lines = [delimiter.join(header)]
    for k in order:
        cells = [NAMES[how].format(stems[k]), {"a": "bénin", "b": "malin"}[LABELS[k]]]
        lines.append(delimiter.join([*cells, *([f"P{k // 2}"] if patient else []), *(["40"] if extra else [])]))
    content = (end.join(lines) + end).encode(encoding)
    found = read(tmp_path_factory.mktemp("table"), content)
    assert found.names == ("bénin", "malin")
    assert found.labels == (0, 1, 0, 1)
    assert found.patients == (("P0", "P0", "P1", "P1") if patient else ())
    assert any("years" in remark for remark in found.remarks) == extra


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (rows("file,label", *(f"im{k}.png,{k % 2}" for k in range(4))), ()),
        (rows("file,label", *(f"im{k}.png,{k % 2}.0" for k in range(4))), ()),
        (rows("file,label", *(f"im{k}.png,{k % 2 + 1}" for k in range(4))), ("1", "2")),
        (rows("sep=;", "file;label", *(f"im{k}.png;{'ab'[k % 2]}" for k in range(4))), ("a", "b")),
        (rows("image,MEL,NV,BCC", *(f"im{k},{[1, 0, 0][-k % 3]},{int(k % 3 == 1)},{int(k % 3 == 2)}" for k in range(3)),
              "im3,0.0,1.0,0.0"), ("MEL", "NV", "BCC")),  # one-hot, as the challenges of ISIC have it
        (rows(",file,label", *(f"{k},im{k}.png,{'ab'[k % 2]}" for k in range(4))), ("a", "b")),  # pandas' index
        (rows("file,label,", *(f"im{k}.png,{'ab'[k % 2]}," for k in range(4))), ("a", "b")),
        (rows("lesion_id,image_id,dx,age", *(f"HAM{k},im{k},{'ab'[k % 2]},4" for k in range(4))), ("a", "b")),
        (rows("image,label,target", *(f"im{k},{'ab'[k % 2]},{k % 2}" for k in range(4))), ("a", "b")),
        (rows("file,label", *(f"im{k}.png,{'ab'[k % 2]}" for k in range(4)), "im0.png,a", "", " , "), ("a", "b")),
        (rows("file,label", *(f"im{k}.png, {'ab'[k % 2]} " for k in range(4))), ("a", "b")),
        (rows("file,label", *(f'im{k}.png,"{"ab"[k % 2]}, grade 2"' for k in range(4))), ("a, grade 2", "b, grade 2")),
    ],
)  # fmt: skip
def test_contents(tmp_path, content, names):
    found = read(tmp_path, content)
    assert sorted(found.names) == sorted(names)
    assert len(set(found.labels)) == max(2, len(names))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must have the columns file and label"),
        ("file,label\n", "must have the columns file and label"),
        (rows("im0.png,a", "im1.png,b", "im2.png,a", "im3.png,b"), "must have the columns file and label"),
        (rows("file,age", *(f"im{k}.png,{k}" for k in range(4))), "must have the columns file and label"),
        (rows("file,label", "im0.png,a", ",b", "im2.png,a", "im3.png,b"), "name a file in every line"),
        (rows("file,label", *(f"im{k}.png,a" for k in range(4))), "two classes at least"),
        (rows("file,label", *(f"im{k}.png,{'ab'[k % 2]}" for k in range(3))), r"none for images/im3\.png"),
        (rows("file,label", *(f"im{k}.png,{'ab'[k % 2]}" for k in range(5))), r"got 1 that are not: im4\.png"),
        (rows("file,label", *(f"im{k}.png,{'ab'[k % 2]}" for k in range(4)), "im0.png,b"), "'a' and 'b' for im0.png"),
        (rows("file,label", "im0.png,Ill", "im1.png,ill", "im2.png,well", "im3.png,well"), "'Ill' and 'ill'"),
        (rows("file,label,label", *(f"im{k}.png,a,b" for k in range(4))), "each column once"),
        (rows("file,dx,target", *(f"im{k}.png,{'abc'[k % 3]},{k % 2}" for k in range(4))), "one column of labels"),
    ],
)
def test_refused(tmp_path, content, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        read(tmp_path, content)
    assert "labels.csv" in str(caught.value)


def test_a_measurement_is_no_class(tmp_path):
    keys = [f"im{k}.png" for k in range(70)]
    with pytest.raises(ConfigurationError, match="at most 64 classes, got 70"):
        read(tmp_path, rows("file,label", *(f"{key},{k * 0.37 + 0.1:.3f}" for k, key in enumerate(keys))), keys)


def test_one_name_of_two_files_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"name each image, got 'x\.png' for a/x\.png, b/x\.png"):
        read(tmp_path, rows("file,label", "x.png,a", "y.png,b"), ["a/x.png", "b/x.png", "y.png"])


@pytest.mark.parametrize(
    "content",
    [
        rows("# exported on Monday", "# by hand", "file,label", *(f"im{k}.png,{LABELS[k]}" for k in range(4))),
        rows("'file','label'", *(f"'im{k}.png','{LABELS[k]}'" for k in range(4))),
        rows("file label", *(f"im{k}.png {LABELS[k]}" for k in range(4))),
        rows("file,label", *(f"im{k}.dcm,{LABELS[k]}" for k in range(4))),  # converted since
        rows("id,file,label", *(f"{k + 7},im{k}.png,{LABELS[k]}" for k in range(4))),
        rows("id,scan,label", *(f"{k + 7},im{k}.png,{LABELS[k]}" for k in range(4))),
        rows("Bild,label", *(f"im{k}.png,{LABELS[k]}" for k in range(4))),
        rows("subject,Bild,label", *(f"s{k // 2},im{k}.png,{LABELS[k]}" for k in range(4))),
    ],
)
def test_files_are_found_by_what_columns_hold(tmp_path, content):
    found = read(tmp_path, content)
    assert found.names == ("a", "b")
    assert found.labels == (0, 1, 0, 1)


@pytest.mark.parametrize("name", ["{}", "{}.0", "00{}"])
def test_numbers_of_files_with_and_without_leading_zeros(tmp_path, name):
    keys = [f"000{k}.png" for k in range(4)]
    found = read(tmp_path, rows("id,label", *(f"{name.format(k)},{LABELS[k]}" for k in range(4))), keys)
    assert found.labels == (0, 1, 0, 1)
    assert any("numbers the files" in remark for remark in found.remarks)


def test_two_names_of_one_number_are_two_files(tmp_path):
    with pytest.raises(ConfigurationError, match="must name every image"):
        read(tmp_path, rows("id,label", "7,a", "07,b", "8,a", "9,b"), ["007.png", "0007.png", "008.png", "009.png"])


def test_negative_labels_are_in_order(tmp_path):
    found = read(tmp_path, rows("file,label", *(f"im{k}.png,{[1, -1][k % 2]}" for k in range(4))))
    assert found.names == ("-1", "1")
    assert found.labels == (1, 0, 1, 0)
