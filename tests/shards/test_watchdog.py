from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from shards_helpers import contents, render, small_sequence

from tests import interpreter
from torchgenaug import ClassLabels, SyntheticSequence, verify_shards
from torchgenaug.errors import ConfigurationError, ShardError
from torchgenaug.shards.render import watchdog
from torchgenaug.testing import AnalyticSynthesizer


class Hanging(AnalyticSynthesizer):
    """Sleeps in its fourth call."""

    def __init__(self, seconds):
        super().__init__((8, 8), num_classes=3)
        self.seconds, self.calls = seconds, 0

    def synthesize(self, seeds, conditions=None):
        self.calls += 1
        if self.calls == 4:
            time.sleep(self.seconds)
        return super().synthesize(seeds, conditions)


def sequence(seconds):
    return SyntheticSequence(Hanging(seconds), ClassLabels(3), seed=5)


def test_a_model_that_hangs_is_given_up_with_ids_and_seeds(tmp_path):
    seeds = ", ".join(str(seed) for seed in small_sequence().seeds([6, 7]).tolist())
    with pytest.raises(ShardError, match=rf"has not returned samples 6 to 7 \(seeds {seeds}\) for 0 s") as raised:
        render(tmp_path / "shards", sequence=sequence(3600), timeout_s=0.3)
    assert "1 of 6 shards are complete" in raised.value.__notes__[0]
    assert verify_shards(tmp_path / "shards").damaged == {}
    render(tmp_path / "shards")
    render(tmp_path / "whole")
    assert contents(tmp_path / "shards") == contents(tmp_path / "whole")


def test_a_model_that_is_slow_is_told_of_and_waited_for(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(watchdog, "NOTICE_S", 0.1)
    assert len(render(tmp_path / "shards", sequence=sequence(1))) == 22
    errors = capfd.readouterr().err
    assert errors.count("The synthesizer has not returned samples 6 to 7 (seeds ") == 1
    assert "It is waited for; it is at " in errors
    assert f"{__file__}:" in errors


def test_in_another_thread_than_the_main_one_it_is_told_of(tmp_path, capfd):
    with ThreadPoolExecutor(1) as pool:
        rendering = pool.submit(render, tmp_path / "shards", sequence=sequence(1), timeout_s=0.2)
        assert len(rendering.result()) == 22
    assert "has not returned samples 6 to 7" in capfd.readouterr().err


STUCK = """
import ctypes, sys, torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from shards_helpers import render
from test_watchdog import Hanging, sequence
from torchgenaug.shards.render import watchdog

watchdog._GRACE_S = 0.2
class Stuck(Hanging):
    def synthesize(self, seeds, conditions=None):
        if self.calls == 3:
            lock = ctypes.create_string_buffer(64)  # a mutex of the C library, taken twice: no signal ends that wait
            ctypes.CDLL(None).pthread_mutex_lock(lock)
            ctypes.CDLL(None).pthread_mutex_lock(lock)
        return super().synthesize(seeds, conditions)

made = sequence(0)
made.synthesizer.__class__ = Stuck
render(sys.argv[2], sequence=made, timeout_s=0.3)
"""


def test_a_model_that_does_not_react_takes_its_process_with_it(tmp_path):
    child = interpreter.run(["-c", STUCK, Path(__file__).parent, tmp_path / "shards"])
    assert child.returncode == 70, child.stderr
    assert "has not returned samples 6 to 7 (seeds " in child.stderr
    assert "It did not react, so this process ends" in child.stderr
    assert verify_shards(tmp_path / "shards").damaged == {}
    render(tmp_path / "shards")
    assert verify_shards(tmp_path / "shards").ok


def test_quick_models_are_left_alone(tmp_path, capfd):
    assert len(render(tmp_path / "shards", timeout_s=60)) == 22
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
def test_impossible_limits_are_refused(tmp_path, timeout_s):
    with pytest.raises(ConfigurationError, match="`timeout_s` must be a positive number of seconds or None"):
        render(tmp_path / "shards", timeout_s=timeout_s)
    assert not (tmp_path / "shards").exists()


def test_a_limit_beyond_the_notice_still_counts(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(watchdog, "NOTICE_S", 0.1)
    with pytest.raises(ShardError, match=r"`timeout_s` is 0\.6"):
        render(tmp_path / "shards", sequence=sequence(3600), timeout_s=0.6)
    assert "It is waited for" in capfd.readouterr().err
