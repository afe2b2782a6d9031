from __future__ import annotations

import sys
from pathlib import Path

# Sources are tested on shard folders, whose helpers are those of the tests of shards.
sys.path.insert(0, str(Path(__file__).parents[1] / "shards"))
