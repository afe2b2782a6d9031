"""Tables of public data sets: found under any name, refused or left out with the option that names them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recipes.data.files_of_layouts import put
from torchgenaug.errors import ConfigurationError, EmptyDatasetError
from torchgenaug.recipes.data.load import load_data

NUM = 6


def table(root, name, header, line, count=NUM):
    """A table whose line k is `line` with k in the place of {k}."""
    text = "\n".join([header, *(line(k) if callable(line) else line.format(k=k) for k in range(count))])
    (root / name).write_text(text)


def pictures(root, pattern):
    for k in range(NUM):
        put(root, pattern.format(k=k, part=1 + k % 2))


def ham(root):
    pictures(root, "HAM10000_images_part_{part}/ISIC_002{k}.jpg")
    table(root, "HAM10000_metadata.csv", "lesion_id,image_id,dx",
          lambda k: f"H{k},ISIC_002{k},{'nv' if k % 2 else 'mel'}", NUM + 2)  # fmt: skip


def isic_2019(root):
    pictures(root, "ISIC_2019_Training_Input/ISIC_00{k}.jpg")
    table(
        root,
        "ISIC_2019_Training_GroundTruth.csv",
        "image,MEL,NV",
        lambda k: f"ISIC_00{k},{float(k % 2)},{float(1 - k % 2)}",
    )
    table(root, "ISIC_2019_Training_Metadata.csv", "image,age_approx,sex", "ISIC_00{k},5{k},male")


def chest_xray(root, several="Mass"):
    pictures(root, "images_00{part}/images/000{k}_000.png")
    table(root, "Data_Entry_2017.csv", "Image Index,Finding Labels,Follow-up #,Patient ID",
          lambda k: f"000{k}_000.png,{'No Finding' if k % 2 else several},0,{k // 2}", NUM + 2)  # fmt: skip


def rsna(root):
    pictures(root, "stage_2_train_images/p-{k}.png")
    table(root, "stage_2_train_labels.csv", "patientId,x,y,Target",
          lambda k: f"p-{k},,,0" if k % 2 else f"p-{k},1,2,1\np-{k},3,4,1")  # fmt: skip


def by_patient(root):
    pictures(root, "P00{part}/{k}.png")
    table(root, "clinical.csv", "patient_id,grade", "P00{k},{k}", 4)


@pytest.mark.parametrize(
    ("write", "counts", "text"),
    [
        (ham, [3, 3], "names 2 files that are not here"),
        (isic_2019, [3, 3], "ISIC_2019_Training_Metadata.csv was not used"),
        (chest_xray, [3, 3], "column Finding Labels of Data_Entry_2017.csv"),
        (rsna, [3, 3], "3 repeated lines"),
        (by_patient, [3, 3], "names folders of images"),
    ],
)
def test_the_only_table_that_names_the_images_states_the_classes(tmp_path, write, counts, text):
    write(tmp_path)
    data = load_data(tmp_path)
    labels = data.labels()
    assert labels is not None
    assert [int((labels == each).sum()) for each in range(len(counts))] == counts
    assert text in " ".join(data.remarks)


def advised_table(message):
    """The --table that a message advises first."""
    found = re.search(r"--table (?:'([^']+)'|([^ ;]+?)(?=[ ;.](?: |$)|[ ;]|$))", message)
    assert found is not None, message
    return found.group(1) or found.group(2)


def several_findings(root):
    chest_xray(root, "Mass|Effusion")


def disagreeing_columns(root):
    pictures(root, "train/ISIC_{k}.jpg")
    table(
        root,
        "train.csv",
        "image_name,patient_id,diagnosis,target",
        lambda k: f"ISIC_{k},IP_{k},{'abc'[k % 3]},{int(k % 3 == 2)}",
    )


def two_tables(root):
    pictures(root, "{k}.png")
    for name in ("a.csv", "b.csv"):
        table(root, name, "file,label", lambda k: f"{k}.png,{k % 2}")


def folders_that_disagree(root):
    pictures(root, "class{part}x/{k}.png")
    table(root, "meta.csv", "file,label", lambda k: f"{k}.png,{k % 3}")


@pytest.mark.parametrize("write", [several_findings, disagreeing_columns, two_tables, folders_that_disagree])
def test_in_doubt_the_advised_option_chooses(tmp_path, write):
    write(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        load_data(tmp_path)
    data = load_data(tmp_path, table=advised_table(str(caught.value)))
    assert data.num_classes in (2, 3)
    load_data(tmp_path, table="none")


def test_one_finding_among_several_is_there_or_not(tmp_path):
    several_findings(tmp_path)
    data = load_data(tmp_path, table="Data_Entry_2017.csv:Finding Labels=Effusion")
    assert data.class_names == ("Effusion", "no Effusion")
    assert data.labels().tolist() == [0, 1] * 3 or sorted(data.labels().tolist()) == [0] * 3 + [1] * 3
    assert len(set(data.patients)) == 3


def test_columns_of_findings_are_named_by_the_user(tmp_path):
    pictures(tmp_path, "train/patient0{k}/study1/view1.jpg")
    table(tmp_path, "train.csv", "Path,Sex,Pneumonia,Edema",
          lambda k: f"CheXpert/train/patient0{k}/study1/view1.jpg,F,{['1.0', '', '-1.0'][k % 3]},0.0")  # fmt: skip
    plain = load_data(tmp_path)
    assert plain.labels() is None
    assert "name it: --table 'train.csv:COLUMN'" in " ".join(plain.remarks)
    data = load_data(tmp_path, table="train.csv:Pneumonia=1")
    assert data.class_names == ("Pneumonia=1", "no Pneumonia=1")
    assert sorted(data.labels().tolist()) == [0, 0, 1, 1, 1, 1]


def test_a_table_above_a_part_of_a_split_is_named(tmp_path):
    pictures(tmp_path, "train_images/a{k}.png")
    put(tmp_path, "test_images/t.png")
    table(tmp_path, "train.csv", "id_code,diagnosis", lambda k: f"a{k},{k % 2}")
    with pytest.raises(ConfigurationError, match=r"Give .*train_images\. Classes .* --table (.*train\.csv)\.$"):
        load_data(tmp_path)
    assert load_data(tmp_path / "train_images", table=str(tmp_path / "train.csv")).num_classes == 2
    assert load_data(tmp_path / "train_images", table="../train.csv").num_classes == 2


def test_a_table_of_some_images_is_stated_and_refused_when_named(tmp_path):
    pictures(tmp_path, "{k}.png")
    table(tmp_path, "train.csv", "file,label", "{k},{k}", 2)
    assert "it names 2 of the 6 images" in " ".join(load_data(tmp_path).remarks)
    with pytest.raises(ConfigurationError, match=r"none for 2\.png .* --table none"):
        load_data(tmp_path, table="train.csv")
    for wrong in ("other.csv", "train.csv:colour"):
        with pytest.raises(ConfigurationError, match=r"--table 'train\.csv"):
            load_data(tmp_path, table=wrong)


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from(["metadata.csv", "train.csv", "Annotations.CSV", "info.tsv", "sub/labels_final.csv"]),
    st.sampled_from(["image_id", "Image Index", "isic_id", "img_id", "FileName", "SOPInstanceUID"]),
    st.sampled_from(["dx", "Finding Labels", "diagnostic", "Class", "target"]),
    st.sampled_from(["{k}.png", "{k}", "data/x/{k}.png", "C:\\data\\{k}.png"]),
    st.sampled_from(["{k}.png", "images/{k}.png", "part_{part}/{k}.png"]),
    st.booleans(),
)
def test_any_name_of_a_table_and_its_columns(tmp_path_factory, name, file, label, stated, place, more):
    root = tmp_path_factory.mktemp("table")
    pictures(root, place)
    (root / name).parent.mkdir(exist_ok=True)
    sign = "\t" if name.endswith("tsv") else ";"
    table(
        root,
        name,
        f"age{sign}{file}{sign}{label}",
        lambda k: f"5{k}{sign}{stated.format(k=k)}{sign}{'ab'[k % 2]}",
        NUM + more,
    )
    assert load_data(root).class_names == ("a", "b")


@pytest.mark.parametrize(
    ("name", "text"),
    [("labels.xlsx", "to_csv('labels.csv'"), ("d.parquet", "factory"), ("a.zip", "unpack"), ("x.pt", "code")],
)
def test_files_that_are_not_read_are_named_with_a_remedy(tmp_path, name, text):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(EmptyDatasetError, match=re.escape(text)):
        load_data(tmp_path)
    put(tmp_path, "a.png")
    assert text in " ".join(load_data(tmp_path).remarks)
