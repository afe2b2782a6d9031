"""Checks what the demo left behind: exact counts, finite numbers, pictures that are no blanks."""

import json
import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image

out = Path(sys.argv[1])
summary = json.loads((out / "summary.json").read_text())
rows = summary["rows"]
assert {row["source"] for row in rows} == {"real only", "shards", "pool"}, rows
for row in rows:
    expected = (70, 0) if row["source"] == "real only" else (42, 28)
    assert (row["real"], row["synthetic"]) == expected, row
    assert math.isfinite(row["loss"]), row
    assert row["plain_samples_per_s"] > 0, row
    assert row["mixed_samples_per_s"] > 0, row
    assert (row["pool_wait_s"] is not None) == (row["source"] == "pool"), row
assert summary["pool_equals_shards"] is True
assert all(score > 0.5 for score in summary["dice"].values()), summary["dice"]
assert (out / "shards" / "manifest.json").exists()
picture = np.asarray(Image.open(out / "mixed_batch.png").convert("L"))
assert min(picture.shape) > 300, picture.shape
assert picture.std() > 20, picture.std()
assert summary["seconds"] <= 180, f"the demo took {summary['seconds']:.0f} s; 180 are promised"
print(f"demo outputs are as promised ({summary['seconds']:.0f} s)")
