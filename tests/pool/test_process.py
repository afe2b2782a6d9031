"""The model in a process of its own: the same samples, its failures told, and nothing of it left behind."""

import os
import pickle
import signal
import subprocess
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import clean_interpreter, interpreter
from torchgenaug.errors import ConfigurationError, PoolError
from torchgenaug.pool import SyntheticPool
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.shards import render_shards
from torchgenaug.types import FieldSpec


class Elsewhere:
    """Tells in every sample which process made it; does what is asked of it at samples' ids."""

    fingerprint = "0" * 64

    def __init__(self, batch_s=0.0):
        self.batch_s, self.batches = batch_s, 0

    @property
    def fields(self):
        return {"value": FieldSpec((1,)), "process": FieldSpec((), torch.int64, kind="scalar")}

    def synthesize(self, seeds, conditions=None):
        self.batches += 1
        time.sleep(self.batch_s)
        values = torch.tensor([[float(seed >> 40)] for seed in seeds])
        return {"value": values + values.sum(), "process": torch.tensor([os.getpid()] * len(seeds))}


class Failing(Elsewhere):
    def synthesize(self, seeds, conditions=None):
        if self.batches == 1:
            self.batches += 1
            self.fail(seeds)
        return super().synthesize(seeds)

    def fail(self, seeds):
        raise ArithmeticError("the model gave up")


class UnpicklableError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class FailingOddly(Failing):
    def fail(self, seeds):
        raise UnpicklableError("this", "that")


class Dying(Failing):
    """Dies in its second batch, if that is the first process."""

    def __init__(self, marker):
        super().__init__()
        self.marker = marker

    def fail(self, seeds):
        if not os.path.exists(self.marker):
            Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)


def build():
    return SyntheticSequence(Elsewhere(), seed=6)


def build_badly():
    raise ArithmeticError("no weights here")


def build_nothing():
    return 3


def in_process(sequence, capacity=8, **options):
    return SyntheticPool(
        sequence, capacity, **{"batch_size": 4, "refresh": 0.5, "background": "process", "timeout_s": 240} | options
    )


def test_the_same_samples_from_another_process(tmp_path):
    sequence = build()
    source = render_shards(sequence, tmp_path / "shards", 4, batch_size=4)
    with in_process(build, shards=source) as pool:
        assert pool.fingerprint == sequence.fingerprint
        assert dict(pool.fields) == dict(sequence.fields)
        view = pickle.loads(pickle.dumps(pool))
        for epoch in (0, 1, 3):
            pool.set_epoch(epoch)
            ids = np.arange(4 * epoch, 4 * epoch + 8)
            expected = torch.cat([sequence.batch(ids[:4])["value"], sequence.batch(ids[4:])["value"]])
            for reader in (pool, view):
                assert torch.equal(reader.read(np.arange(8))["value"], expected)
            assert (pool.seeds(np.arange(8)) == sequence.seeds(ids)).all()
            assert os.getpid() not in pool.column("process")[4 if epoch == 0 else 0 :]
        child = int(pool.column("process")[0])
        assert pool.stats.loaded == 4
        # Forks need not wait: no model is in this process.
        loader = torch.utils.data.DataLoader(range(4), num_workers=1)
        assert len(list(loader)) == 4
    assert not os.path.exists(f"/proc/{child}")
    assert sequence.synthesizer.batches > 0


def test_failures_of_the_model_come_with_the_traceback_of_their_process():
    with in_process(SyntheticSequence(Failing())) as pool:
        with pytest.raises(PoolError, match=r"could not make samples 4 to 7 \(seeds \d+") as raised:
            pool.set_epoch(0)
        assert isinstance(raised.value.__cause__, ArithmeticError)
        assert any("while synthesizing ids" in note for note in raised.value.__cause__.__notes__)
        assert "in the pool's process" in str(raised.value)
        assert ", in fail" in str(raised.value)
        pool.set_epoch(0)
        assert len(pool.read(np.arange(8))["value"]) == 8


def test_an_exception_that_does_not_pickle_is_told_too():
    with (
        in_process(SyntheticSequence(FailingOddly())) as pool,
        pytest.raises(PoolError, match=r"(?s)UnpicklableError: this and that.*in fail"),
    ):
        pool.set_epoch(0)


def test_the_death_of_the_process_is_named_and_the_next_one_goes_on(tmp_path):
    with in_process(SyntheticSequence(Dying(str(tmp_path / "died")))) as pool:
        with pytest.raises(PoolError, match=r"could not make samples 4 to 7.*was killed by SIGKILL"):
            pool.set_epoch(0)
        pool.set_epoch(0)
        assert len(set(pool.column("process").tolist())) == 2


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (build_badly, ArithmeticError, "no weights here"),
        pytest.param(build_nothing, ConfigurationError, "a function that returned int", marks=pytest.mark.slow),
        (lambda: build(), ConfigurationError, r"must be picklable for background='process'.*SyntheticPool\(build_seq"),
    ],
)
def test_what_cannot_be_built_is_told_at_once(source, error, message):
    with pytest.raises(error, match=message):
        in_process(source)


def test_a_function_is_for_processes_only():
    with pytest.raises(ConfigurationError, match="must be a SyntheticSequence, got function"):
        SyntheticPool(build, 4)


def test_closing_does_not_wait_for_the_model():
    pool = in_process(SyntheticSequence(Elsewhere(batch_s=3600)))
    while pool._ring.get("making") < 0:
        time.sleep(0.01)
    thread, process = pool._filler._thread, pool._filler._supply._process
    pool.close()
    assert not thread.is_alive()
    assert not process.is_alive()
    with pytest.raises(PoolError, match="closed"):
        pool.set_epoch(0)


SCRIPT = """
import os, sys, time
sys.path[:0] = [{folder!r}, {root!r}]
from test_process import *
if __name__ == "__main__":
    pool = in_process(SyntheticSequence(Elsewhere(batch_s=0.2)), 400)
    print(pool._filler._supply._process.pid, int(pool.read(np.array([0]))["process"]), flush=True)
    {end}
"""
ENDS = {
    "killed": "os.kill(os.getpid(), 9)",
    "left": "os._exit(3)",
    "returned": "",
    "raised": "raise ValueError('mine')",
    "interrupted": "os.kill(os.getpid(), 2); time.sleep(60)",
    "killed_with_a_fork_alive": "os.fork() or time.sleep(20); os.kill(os.getpid(), 9)",
}


IN_EVERY_RUN = ("interrupted", "killed_with_a_fork_alive")


@pytest.mark.parametrize("end", [pytest.param(e, marks=() if e in IN_EVERY_RUN else pytest.mark.slow) for e in ENDS])
def test_nothing_is_left(tmp_path, end):
    script = tmp_path / "script.py"
    text = SCRIPT.replace("{end}", ENDS[end])
    for number, name in enumerate(("{folder!r}", "{root!r}")):
        text = text.replace(name, repr(str(Path(__file__).parents[2 * number])))
    script.write_text(text)
    with open(tmp_path / "errors", "w+") as errors:
        process = clean_interpreter.start([script], stdout=subprocess.PIPE, stderr=errors)
        try:
            numbers = process.stdout.readline().split()
            process.wait(240)
        finally:
            process.kill()
            process.stdout.close()
            process.wait()
        errors.seek(0)
        assert len(numbers) == 2, errors.read()
        errors.seek(0)
        if end in ("killed", "left", "returned"):
            assert errors.read() == ""
    assert numbers[0] == numbers[1]
    until = time.monotonic() + 20
    while is_running(numbers[0]) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_running(numbers[0])


def is_running(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    "setting",
    ["backends.cuda.matmul.fp32_precision = 'tf32'", "backends.cudnn.conv.fp32_precision = 'ieee'",
     "set_float32_matmul_precision('high')", "use_deterministic_algorithms(True, warn_only=True)"],
)  # fmt: skip
def test_settings_are_handed_on_however_they_were_set(setting):
    """torch forbids to ask in the old words after the new ones were used."""
    code = """
        import torch
        from torchgenaug.pool.making import child
        {}
        print(repr(child.numeric_settings()))
    """
    told = []
    for first in (f"torch.{setting}", "pass"):
        done = interpreter.run(["-c", textwrap.dedent(code.format(first))])
        assert done.returncode == 0, done.stderr
        told.append(done.stdout)
    assert told[0] != told[1]
    applied = interpreter.run(["-c", textwrap.dedent(code.format(f"child._apply({told[0].strip()})"))])
    assert applied.stdout == told[0], applied.stderr


class OtherAfterwards:
    """Builds another model when its marker is there, as from a checkpoint that was replaced meanwhile."""

    def __init__(self, marker):
        self.marker = marker

    def __call__(self):
        if os.path.exists(self.marker):
            return SyntheticSequence(Elsewhere(), seed=7)
        return SyntheticSequence(Dying(self.marker), seed=6)


def test_a_process_that_comes_back_with_another_model_is_refused(tmp_path):
    with in_process(OtherAfterwards(str(tmp_path / "died"))) as pool:
        with pytest.raises(PoolError, match="was killed by SIGKILL"):
            pool.set_epoch(0)
        for _ in range(2):
            with pytest.raises(PoolError, match=r"is another one: fingerprint .* would mix two models"):
                pool.set_epoch(0)
