from __future__ import annotations

import json
import math
import pickle

from torchgenaug.metrics import Measurement

RESULT = Measurement(
    "FID[mine]", 3.5, 2.0, 5.0, 1.0, None, 40, "lower", (0, math.inf), "Heusel et al. 2017", "mine", "ab12", ("few",)
)


def test_json_is_strict_and_complete():
    """``allow_nan=False`` refuses what other languages cannot read."""
    read = json.loads(json.dumps(RESULT.to_json(), allow_nan=False))
    assert read["bounds"] == [0, None]
    assert read["ceiling"] is None
    assert read["cautions"] == ["few"]
    assert {"value", "low", "high", "floor", "n", "better", "source", "features", "sha256"} <= read.keys()


def test_undefined_numbers_are_null():
    undefined = Measurement("PSNR", math.inf, math.nan, math.inf, None, None, 1, "higher", (0, 1), "none")
    assert [undefined.to_json()[key] for key in ("value", "low", "high")] == [None, None, None]


def test_one_line_for_the_terminal():
    assert str(RESULT) == "FID[mine] ↓ 3.5 [2, 5], floor 1, n = 40, few"


def test_survives_pickling():
    assert pickle.loads(pickle.dumps(RESULT)) == RESULT
