"""Refusals of hostile folders are named errors and cost little; `hostile_limits` is the long campaign."""

from __future__ import annotations

import random
import shutil
import sys

import pytest
from hostile_limits import MAX_BYTES, attacked, attacks, campaign, measured, targets

from torchgenaug.errors import ConfigurationError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures memory by /proc")


def test_a_sample_of_all_attacks(tmp_path):
    """Processor time is left to the campaign: a busy machine makes it longer."""
    chance = random.Random(0)
    outcomes = []
    for target in targets():
        shutil.copytree(target.folder, warm := tmp_path / f"warm {target.name}")
        target.open(warm)
        for attack in chance.sample(list(attacks(target.folder)), 1):
            outcome = attacked(target, attack, tmp_path)
            outcomes.append(outcome)
            assert outcome.what in ("refused", "works"), (target.name, attack[0], outcome)
            assert outcome.peak <= MAX_BYTES, (target.name, attack[0], outcome)
    assert sum(outcome.what == "refused" for outcome in outcomes) > len(outcomes) / 2


def test_the_measure_notices_what_it_is_for():
    def refused():
        raise ConfigurationError("no")

    def unnamed():
        raise ValueError("no")

    def hungry():
        return bytearray(300 << 20)

    assert measured(refused).good
    assert measured(unnamed).what == "unnamed"
    assert measured(hungry).peak > MAX_BYTES
    assert measured(lambda: sys.modules["os"]._exit(3)).what == "killed"
    assert not measured(hungry).good


@pytest.mark.slow
@pytest.mark.timeout(20_000)
def test_every_attack():
    """Hours: ``pytest -m slow tests/test_hostile_limits.py``; ``python tests/hostile_limits.py 0.1 1`` for a tenth."""
    assert campaign(1.0, 0) == 0
