from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import time
from collections import namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shards_helpers import contents, render, shard, small_sequence

from torchgenaug import ClassLabels, FieldSpec, FunctionSynthesizer, ShardSource, SyntheticSequence, verify_shards
from torchgenaug.errors import BadSampleError, ConfigurationError, ShardError, ShardMismatchError
from torchgenaug.shards.folder import read_manifest
from torchgenaug.shards.render.jobs import shard_jobs
from torchgenaug.shards.render.plan import plan_render
from torchgenaug.shards.write import background, writer
from torchgenaug.shards.write.background import BackgroundWriter
from torchgenaug.testing import AnalyticSynthesizer

DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.uint8,
    torch.int16,
    torch.int64,
    torch.bool,
]


def noise(shape, dtype, kind):
    """A sequence of one field with arbitrary content."""

    def make(seeds, conditions):
        rows = [np.random.default_rng(seed).integers(0, 200, shape) for seed in seeds]
        return {"field": torch.from_numpy(np.stack(rows)).to(dtype)}

    return SyntheticSequence(
        FunctionSynthesizer(make, {"field": FieldSpec(shape, dtype, kind=kind)}, fingerprint="a" * 64)
    )


@settings(max_examples=25)
@given(
    shape=st.lists(st.integers(1, 5), max_size=4).map(tuple),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(["intensity", "scalar"]),
    compression=st.sampled_from([None, "gzip", "lz4", "zstd"]),
    count=st.integers(1, 13),
    batch_size=st.integers(1, 5),
    shard_size=st.integers(1, 9),
)
def test_what_is_written_is_read(tmp_path_factory, shape, dtype, kind, compression, count, batch_size, shard_size):
    sequence = noise(shape or (1,) * (kind == "intensity"), dtype, kind)
    path = tmp_path_factory.mktemp("identity") / "shards"
    options = {"batch_size": batch_size, "shard_size": shard_size, "compression": compression}
    source = render(path, count, sequence, **options)
    everything = source.read(np.arange(count))["field"]
    for start in range(0, count, batch_size):
        ids = range(start, min(start + batch_size, count))
        assert torch.equal(everything[ids.start : ids.stop], sequence.batch(ids)["field"])
    before = contents(path)
    shutil.rmtree(path)
    render(path, count, sequence, **options)
    assert contents(path) == before


@pytest.mark.parametrize("compression", [None, "gzip", "lz4"])
@pytest.mark.parametrize("fails_at", [0, 1, 5, 10])
def test_resumed_render_is_byte_identical(tmp_path, compression, fails_at):
    render(tmp_path / "whole", compression=compression)
    sequence = small_sequence()
    calls = []

    class Interrupting(AnalyticSynthesizer):
        def synthesize(self, seeds, conditions=None):
            calls.append(len(seeds))
            if len(calls) == fails_at + 1:
                raise KeyboardInterrupt
            return super().synthesize(seeds, conditions)

    broken = SyntheticSequence(Interrupting((8, 8), num_classes=3), sequence.conditions, seed=5)
    with pytest.raises(KeyboardInterrupt) as interrupted:
        render(tmp_path / "shards", sequence=broken, compression=compression)
    assert "of 6 shards are complete" in interrupted.value.__notes__[-1]
    assert "Run the same render again" in interrupted.value.__notes__[-1]
    left = contents(tmp_path / "shards")
    assert not [name for name in left if name.endswith(".tmp")]
    assert left.items() <= contents(tmp_path / "whole").items()
    render(tmp_path / "shards", compression=compression)
    assert contents(tmp_path / "shards") == contents(tmp_path / "whole")


def test_resume_makes_only_what_is_missing(folder):
    before = contents(folder)
    shard(folder, 1).unlink()
    shard(folder, 4).unlink()
    made = []
    render(folder, progress=lambda samples, total, size: made.append((samples, total)))
    assert max(made) == (8, 8)
    assert contents(folder) == before
    made.clear()
    render(folder, progress=lambda samples, total, size: made.append((samples, total)))
    assert made == []


def test_truncated_shards_are_made_again(folder):
    before = contents(folder)
    os.truncate(shard(folder, 1), 700)
    render(folder)
    assert contents(folder) == before


def test_verifying_resume_repairs(folder):
    before = contents(folder)
    for index in (0, 5):
        content = bytearray(shard(folder, index).read_bytes())
        content[-40] ^= 1
        shard(folder, index).write_bytes(content)
    assert not verify_shards(folder).ok
    render(folder)
    assert not verify_shards(folder).ok  # a plain resume looks at sizes only
    render(folder, resume="verify")
    assert contents(folder) == before


def test_a_damaged_file_gives_way_to_one_of_another_content(folder):
    """A model that is not deterministic leaves a repaired shard under another name."""
    good = shard(folder, 3)
    bad = folder / f"shard-00003.{'0' * 64}.h5"
    bad.write_bytes(good.read_bytes()[:-1] + b"x")
    render(folder, resume="verify")
    assert good.exists()
    assert not bad.exists()


def test_a_changed_plan_is_refused_with_every_difference(folder):
    before = contents(folder)
    with pytest.raises(ShardMismatchError) as refused:
        render(folder, batch_size=4, dtype="float16", sequence=small_sequence(seed=6))
    message = str(refused.value)
    for difference in (
        "batch_size: was 2, now 4",
        "seed: was 5, now 6",
        "fields.image.stored.dtype: was 'float32', now 'float16'",
        "sequence: was '",
    ):
        assert difference in message
    assert "synthesizer" not in message
    with pytest.raises(ShardMismatchError, match=r"count: was 22, now 23\n.*A larger count is added to a render with"):
        render(folder, count=23)
    assert contents(folder) == before


def test_a_resume_computes_with_the_thread_count_of_the_first_run(folder):
    """Launchers change it on their own: torchrun sets it to 1."""
    before, threads = contents(folder), []

    class Watching(AnalyticSynthesizer):
        def synthesize(self, seeds, conditions=None):
            threads.append(torch.get_num_threads())
            return super().synthesize(seeds, conditions)

    shard(folder, 2).unlink()
    torch.set_num_threads(2)
    try:
        render(folder, sequence=SyntheticSequence(Watching((8, 8), num_classes=3), ClassLabels(3), seed=5))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert threads == [1, 1]
    assert contents(folder) == before


def test_no_resume_refuses_a_folder_in_use(folder, tmp_path):
    with pytest.raises(ConfigurationError, match="empty or new folder with resume=False"):
        render(folder, resume=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    for resume in (True, False):
        with pytest.raises(
            ConfigurationError, match=r"holds 1 other entries such as 'thesis.tex'\. Nothing was written"
        ):
            render(tmp_path / "mine", resume=resume)
    assert os.listdir(tmp_path / "mine") == ["thesis.tex"]
    render(tmp_path / "new" / "deeper", resume=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "`count` must be an integer of at least 1, got 0"),
        ({"count": True}, "`count` must be"),
        ({"batch_size": 2.0}, "`batch_size` must be an integer of at least 1, got 2.0"),
        ({"shard_size": -1}, "`shard_size` must be"),
        ({"compression": "brotli"}, "`compression` must be None or one of"),
        ({"dtype": "int8"}, "`dtype` must be None or one of"),
    ],
)
def test_bad_arguments_leave_nothing(tmp_path, options, message):
    with pytest.raises(ConfigurationError, match=message):
        render(tmp_path / "shards", **options)
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize("name", ["id", "checksum", "a/b", "..", "", "a b", "é"])
def test_fields_must_be_names(tmp_path, name):
    synthesizer = FunctionSynthesizer(
        lambda seeds, conditions: {}, {name or " ": FieldSpec((1,))}, fingerprint="a" * 64
    )
    with pytest.raises(ConfigurationError, match="field's name must be letters"):
        render(tmp_path / "shards", sequence=SyntheticSequence(synthesizer))


def test_shard_size_is_rounded_up_to_whole_batches(tmp_path):
    assert render(tmp_path / "shards", batch_size=3, shard_size=4).manifest.shard_size == 6


def test_a_bad_sample_stops_the_render_and_keeps_what_was_committed(tmp_path):
    class Failing(AnalyticSynthesizer):
        calls = 0

        def synthesize(self, seeds, conditions=None):
            self.calls += 1
            batch = super().synthesize(seeds, conditions)
            if self.calls == 5:
                batch["image"][1, 0, 0, 0] = float("nan")
            return batch

    sequence = SyntheticSequence(Failing((8, 8), num_classes=3), small_sequence().conditions, seed=5)
    with pytest.raises(BadSampleError, match=r"holds NaN or Inf in 1 of 2 samples: ids \[9\]"):
        render(tmp_path / "shards", sequence=sequence)
    assert verify_shards(tmp_path / "shards").damaged == {}
    render(tmp_path / "shards")
    assert verify_shards(tmp_path / "shards").ok


def test_errors_of_the_writing_thread_surface(tmp_path, monkeypatch):
    def full(self, *arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer.ShardWriter, "write", full)
    with pytest.raises(ShardError, match=r"is full\..* 0 of 6 shards are complete .*Run the same render again"):
        render(tmp_path / "shards")
    assert os.listdir(tmp_path / "shards") == ["manifest.json"]

    def too_large(self, *arguments):
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(writer.ShardWriter, "write", too_large)
    with pytest.raises(ShardError, match=r"use a smaller `shard_size`.*nothing is left of it"):
        render(tmp_path / "other")
    assert not (tmp_path / "other").exists()  # it would refuse a smaller one


def test_other_errors_of_the_writing_thread_keep_their_type(tmp_path, monkeypatch):
    def refused(self):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(writer.ShardWriter, "commit", refused)
    with pytest.raises(PermissionError) as raised:
        render(tmp_path / "shards")
    assert "0 of 6 shards are complete" in raised.value.__notes__[0]


def test_refused_conditions_are_not_advised_to_be_rendered_again(tmp_path):
    class Refusing(AnalyticSynthesizer):
        def synthesize(self, seeds, conditions=None):
            raise ConfigurationError("`conditions` must hold 'source'.")

    sequence = SyntheticSequence(Refusing((8, 8), num_classes=3), small_sequence().conditions, seed=5)
    with pytest.raises(ConfigurationError) as raised:
        render(tmp_path / "shards", sequence=sequence)
    assert "again" not in raised.value.__notes__[-1]
    assert "nothing is left of it" in raised.value.__notes__[-1]
    assert not (tmp_path / "shards").exists()
    with pytest.raises(ConfigurationError) as raised:
        render(tmp_path / "shards", sequence=sequence, ranks=(0, 2))  # rank 1 may go by the plan
    assert "holds their plan" in raised.value.__notes__[-1]
    assert (tmp_path / "shards" / "manifest.json").exists()


def test_an_error_before_the_first_shard_leaves_no_plan_that_refuses_what_it_advises(tmp_path, monkeypatch):
    """Less per batch, another dtype: the plan would hold the settings that failed."""

    class Broken(AnalyticSynthesizer):
        wrong = RuntimeError

        def synthesize(self, seeds, conditions=None):
            if len(seeds) > 1:
                raise self.wrong("the model failed")
            return super().synthesize(seeds, conditions)

    sequence = SyntheticSequence(Broken((8, 8), num_classes=3), small_sequence().conditions, seed=5)
    folder = tmp_path / "shards"
    folder.mkdir()
    with pytest.raises(RuntimeError, match="the model failed") as raised:
        render(folder, sequence=sequence)
    assert "Render again, if need be with other settings" in raised.value.__notes__[-1]
    assert list(folder.iterdir()) == []  # and the user's own folder stays
    Broken.wrong = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        render(folder, sequence=sequence)
    assert [each.name for each in folder.iterdir()] == ["manifest.json"]  # the same call goes on
    with pytest.raises(KeyboardInterrupt):
        render(folder, sequence=sequence)
    assert [each.name for each in folder.iterdir()] == ["manifest.json"]  # of an earlier call


def test_space_is_checked_before_anything_is_rendered(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 5000, 5000))
    with pytest.raises(ShardError, match=r"must have 17,952 bytes free for 6 shards, got 5,000\. Nothing was rendered"):
        render(tmp_path / "shards")
    with pytest.raises(ShardError, match="Nothing was rendered"):
        shard_jobs(small_sequence(), tmp_path / "shards", 44, batch_size=4, shard_size=8)
    assert not (tmp_path / "shards").exists()  # the error advises other settings


def test_samples_are_the_renders_own(tmp_path):
    """A synthesizer may hand out the same buffer again and again."""

    class Reusing(AnalyticSynthesizer):
        def synthesize(self, seeds, conditions=None):
            batch = super().synthesize(seeds, conditions)
            self.buffer = getattr(self, "buffer", {name: value.clone() for name, value in batch.items()})
            for name, value in batch.items():
                self.buffer[name].copy_(value)
            return self.buffer

    conditions = small_sequence().conditions
    render(tmp_path / "plain", count=24)
    render(tmp_path / "reused", 24, SyntheticSequence(Reusing((8, 8), num_classes=3), conditions, seed=5))
    assert contents(tmp_path / "plain") == contents(tmp_path / "reused")


def test_waiting_batches_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(background, "_QUEUE_BYTES", 1)
    render(tmp_path / "shards")
    assert verify_shards(tmp_path / "shards").ok


def test_the_manifest_says_where_it_came_from(tmp_path):
    sequence = small_sequence()
    sequence.synthesizer.trained_on = {"dataset": "phantoms", "ids": [1, 2]}
    manifest = render(tmp_path / "shards", sequence=sequence).manifest
    assert manifest.trained_on == {"dataset": "phantoms", "ids": [1, 2]}
    assert manifest.synthesizer == sequence.synthesizer.fingerprint
    assert manifest.versions["torch"] == torch.__version__
    assert (manifest.device, manifest.num_threads) == ("cpu", 1)
    sequence.synthesizer.trained_on = object()
    with pytest.raises(ConfigurationError, match="`trained_on` of a synthesizer must be a JSON value"):
        render(tmp_path / "other", sequence=sequence)


def test_bar_only_on_request(tmp_path, capsys):
    render(tmp_path / "silent", progress=None)
    assert capsys.readouterr().err == ""
    render(tmp_path / "bar", progress=True)
    assert "22/22" in capsys.readouterr().err


def test_progress_is_never_reported_by_two_threads_at_once(tmp_path):
    inside, overlaps = threading.Lock(), []

    def progress(*_):
        overlaps.append(not inside.acquire(blocking=False))
        time.sleep(0.002)
        if not overlaps[-1]:
            inside.release()

    render(tmp_path / "shards", 80, shard_size=2, progress=progress)
    assert len(overlaps) == 80
    assert not any(overlaps)


@pytest.mark.parametrize("dtype", [None, "uint8"])
def test_the_queue_counts_the_bytes_that_wait_in_memory(tmp_path, dtype):
    field = {"image": FieldSpec((1, 1024, 1024), value_range=(0, 1))}
    sequence = SyntheticSequence(FunctionSynthesizer(lambda *_: {}, field, fingerprint="large"))
    manifest = plan_render(sequence, 64, batch_size=4, shard_size=64, compression=None, dtype=dtype)
    writer = BackgroundWriter(tmp_path, manifest, lambda *_: None)
    writer.abort()
    assert writer._queue.maxsize == 16, "16 batches of 4 images of 4 MiB are 256 MiB, however they are stored"


@pytest.mark.parametrize("compression", [None, "gzip", "lz4"])
@pytest.mark.parametrize(("count", "longer"), [(22, 30), (20, 22), (3, 4), (22, 23)])
def test_extending_gives_the_bytes_of_one_render(tmp_path, compression, count, longer):
    render(tmp_path / "shards", count, compression=compression)
    kept = {name: (tmp_path / "shards" / name).stat().st_ino for name in contents(tmp_path / "shards")}
    source = render(tmp_path / "shards", longer, compression=compression, resume="extend")
    assert len(source) == longer
    render(tmp_path / "whole", longer, compression=compression)
    assert contents(tmp_path / "shards") == contents(tmp_path / "whole")
    full = [name for name in kept if name.startswith("shard-") and int(name[6:11]) < count // 4]
    assert all((tmp_path / "shards" / name).stat().st_ino == kept[name] for name in full), "full shards stay"
    render(tmp_path / "shards", longer, compression=compression, resume="extend")
    render(tmp_path / "shards", longer, compression=compression)
    assert contents(tmp_path / "shards") == contents(tmp_path / "whole")


def test_extending_that_is_interrupted_goes_on(tmp_path, monkeypatch):
    """At each write of the folder: the old render or the longer one is completed, with the same bytes."""
    render(tmp_path / "whole", 30)
    for turn in range(1, 12):
        path = tmp_path / f"{turn}"
        render(path, 22)
        left = turn

        def stop(descriptor):
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(errno.EIO, "interrupted")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", stop)
            with contextlib.suppress(OSError):
                render(path, 30, resume="extend")
        render(path, 30, resume="extend")
        assert contents(path) == contents(tmp_path / "whole")


def test_only_the_count_may_be_extended(tmp_path):
    render(tmp_path / "shards")
    before = contents(tmp_path / "shards")
    for options, sequence in (({"batch_size": 1}, None), ({}, small_sequence(seed=6)), ({"dtype": "float16"}, None)):
        with pytest.raises(ShardMismatchError, match="which differs"):
            render(tmp_path / "shards", 30, sequence, resume="extend", **options)
    with pytest.raises(ShardMismatchError, match="count: was 22, now 20"):
        render(tmp_path / "shards", 20, resume="extend")
    with pytest.raises(ShardMismatchError, match=r"count: was 22, now 30(?s:.*)resume='extend'"):
        render(tmp_path / "shards", 30)
    assert contents(tmp_path / "shards") == before
    assert len(render(tmp_path / "new", 5, resume="extend")) == 5, "there was nothing yet"


@pytest.mark.parametrize("compression", [None, "gzip", "lz4", "zstd"])
@pytest.mark.parametrize("left", [0, 30, 600, -1])
def test_a_shard_that_was_cut_is_made_again_by_any_resume(tmp_path, compression, left):
    """As a copy that was interrupted leaves it; found by its size."""
    render(tmp_path / "shards", compression=compression)
    before = contents(tmp_path / "shards")
    file = shard(tmp_path / "shards", 2)
    os.truncate(file, left if left >= 0 else file.stat().st_size - 1)
    render(tmp_path / "shards", compression=compression)
    assert contents(tmp_path / "shards") == before


@pytest.mark.parametrize("options", [{"count": 1 << 63}, {"shard_size": 1 << 60}, {"batch_size": 10**30}])
def test_a_plan_that_could_not_be_read_again_is_never_written(tmp_path, options):
    with pytest.raises(ConfigurationError, match=r"make a manifest that can be read again.*Nothing was rendered"):
        render(tmp_path / "shards", **{"count": 8} | options)
    assert not list((tmp_path / "shards").glob("*"))


@pytest.mark.parametrize("count", [1 << 63, 10**30, 10**13])
def test_an_impossible_extension_leaves_the_render_as_it_was(tmp_path, count):
    render(tmp_path / "shards")
    before = contents(tmp_path / "shards")
    with pytest.raises((ConfigurationError, ShardError), match="Nothing was rendered"):
        render(tmp_path / "shards", count, resume="extend")
    assert contents(tmp_path / "shards") == before
    assert len(ShardSource(tmp_path / "shards")) == 22


def test_origins_that_are_too_long_are_refused_before_anything_is_written(tmp_path):
    synthesizer = AnalyticSynthesizer((8, 8))
    synthesizer.trained_on = {"samples": ["x"] * 1_000_001}
    with pytest.raises(ConfigurationError, match=r"`trained_on` must make a manifest .* more than 1,000,000 values"):
        render(tmp_path / "shards", 4, SyntheticSequence(synthesizer))
    assert not list((tmp_path / "shards").glob("*"))


def test_counts_may_be_numbers_of_numpy(tmp_path):
    render(tmp_path / "shards", np.int64(8), batch_size=np.int32(2), shard_size=np.uint8(4))
    assert type(read_manifest(tmp_path / "shards").count) is int
