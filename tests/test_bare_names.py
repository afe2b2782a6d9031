from __future__ import annotations

import pytest

from torchgenaug.bare_names import bare_name, without_places


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("/home/jane/study/slices/", "slices"),
        ("../study/slices", "slices"),
        ("~/slices", "slices"),
        ("C:\\Users\\jane\\slices", "slices"),
        ("file:///home/jane/slices", "slices"),
        ("digits", "digits"),
        ("package.module:factory", "package.module:factory"),
        ("/", "data"),
    ],
)
def test_names_without_their_place(name, bare):
    assert bare_name(name) == bare


def test_lists_of_paths_stay_distinct_and_lose_what_they_have_in_common():
    said = {
        "data": "/home/jane/study",
        "samples": ["/home/jane/study/a/1.png", "/home/jane/study/b/1.png"],
        "parts": {"one": {"samples": ["C:\\Users\\jane\\1.png"], "steps": 3}},
        "patients": ["p/1", "p2"],
        "nothing": None,
    }
    assert without_places(said) == {
        "data": "study",
        "samples": ["a/1.png", "b/1.png"],
        "parts": {"one": {"samples": ["1.png"], "steps": 3}},
        "patients": ["p/1", "p2"],
        "nothing": None,
    }
    assert "jane" not in str(without_places([said, said]))


def test_one_path_alone_keeps_its_name():
    assert without_places(["/home/jane/1.png"]) == ["1.png"]
    assert without_places("text") == "text"
