"""One render in several processes that share nothing but the folder."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rank_processes import launch, start_rank, stop_all
from shards_helpers import contents, render, shard, small_sequence
from typer.testing import CliRunner

from tests import clean_interpreter, interpreter
from torchgenaug import ClassLabels, ShardSource, SyntheticSequence, announce_rank, verify_shards
from torchgenaug.cli import app
from torchgenaug.errors import ConfigurationError, ShardError, ShardIncompleteError
from torchgenaug.shards.folder import list_shards, read_manifest
from torchgenaug.shards.render import ranks
from torchgenaug.shards.render.presence import Presence
from torchgenaug.shards.render.ranks import Ranks, wait_for_others
from torchgenaug.shards.temporary import KERNEL, TemporaryFile
from torchgenaug.testing import AnalyticSynthesizer

COUNT = 44  # eleven shards of four


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What one process makes."""
    path = tmp_path_factory.mktemp("whole") / "shards"
    render(path, COUNT)
    return contents(path)


def together(path, world_size, count=COUNT, pauses=(0,) * 8, **options):
    """All ranks as threads: they share no more than processes would, and each has its own locks."""

    def one(rank):
        class Model(AnalyticSynthesizer):
            def synthesize(self, seeds, conditions=None):
                time.sleep(pauses[rank])
                return super().synthesize(seeds, conditions)

        sequence = SyntheticSequence(Model((8, 8), num_classes=3), ClassLabels(3), seed=5)
        render(path, count, sequence, ranks=(rank, world_size), **options)
        return verify_shards(path)

    with ThreadPoolExecutor(world_size) as pool:
        return [future.result() for future in [pool.submit(one, rank) for rank in range(world_size)]]


def test_ranks_share_every_shard_out():
    for world_size in (1, 2, 3, 8):
        owners = [[Ranks(rank, world_size).owns(k) for rank in range(world_size)].count(True) for k in range(30)]
        assert owners == [1] * 30


def test_what_the_launcher_sets(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Ranks.from_environment() == Ranks(0, 1)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert Ranks.from_environment() == Ranks(0, 1)
    monkeypatch.setenv("RANK", "3")
    assert Ranks.from_environment() == Ranks(3, 4)
    for wrong in ("4", "-1", "two", ""):
        monkeypatch.setenv("RANK", wrong)
        with pytest.raises(ConfigurationError, match="RANK and WORLD_SIZE"):
            Ranks.from_environment()


@pytest.mark.parametrize("given", [(1, 1), (-1, 2), (0, 0), (0.0, 1), (True, 2)])
def test_impossible_ranks_are_refused(tmp_path, given):
    with pytest.raises(ConfigurationError, match=r"`ranks` must be \(rank, world_size\)"):
        render(tmp_path / "shards", ranks=given)
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_ranks_make_what_one_makes(tmp_path, whole, world_size):
    reports = together(tmp_path / "shards", world_size)
    assert all(report.ok for report in reports), "a rank returned before all was there"
    assert contents(tmp_path / "shards") == whole


# Without -m slow torchrun is tested with the command, below.
@pytest.mark.parametrize(
    ("launcher", "processes"), [pytest.param("torchrun", 2, marks=pytest.mark.slow), ("accelerate", 2)]
)
def test_launchers_with_gloo(tmp_path, whole, launcher, processes):
    child = launch(tmp_path / "shards", processes, COUNT, launcher=launcher)
    out, errors = child.communicate(timeout=270)
    assert child.returncode == 0, errors
    assert contents(tmp_path / "shards") == whole
    # Every rank returned only when all was there, and saw the very same samples.
    assert out.count(f"sees {COUNT} samples") == processes
    assert len({line.split()[-1] for line in out.splitlines() if "sees" in line}) == 1


def test_another_number_of_ranks_goes_on(tmp_path, whole):
    path = tmp_path / "shards"
    render(path, COUNT)
    for index in (0, 3, 4, 5, 10):
        shard(path, index).unlink()
    kept = {name: (path / name).stat().st_ino for name in os.listdir(path)}
    together(path, 3)
    assert contents(path) == whole
    assert {name: (path / name).stat().st_ino for name in kept} == kept, "finished shards are not touched"
    ids = ShardSource(path).ids(range(COUNT))
    assert sorted(ids) == list(range(COUNT))
    assert all(len(names) == 1 for names in list_shards(path).values())


def test_ranks_repair_together(tmp_path, whole):
    path = tmp_path / "shards"
    render(path, COUNT)
    for index in (1, 2, 7):
        content = bytearray(shard(path, index).read_bytes())
        content[-40] ^= 1
        shard(path, index).write_bytes(content)
    assert len(verify_shards(path).damaged) == 3
    # Rank 0 has less to do. It may not return before the slow rank has repaired its own shards.
    assert all(report.ok for report in together(path, 2, pauses=(0, 0.1), resume="verify"))
    assert contents(path) == whole


def test_more_ranks_than_shards(tmp_path):
    path = tmp_path / "shards"
    render(path, 8)
    before = contents(path)
    shard(path, 0).unlink()
    together(path, 4, 8)
    assert contents(path) == before


def test_a_new_folder_is_refused_only_by_rank_0(tmp_path, whole):
    path = tmp_path / "shards"
    together(path, 2, resume=False)
    assert contents(path) == whole
    with pytest.raises(ConfigurationError, match="empty or new folder with resume=False"):
        render(path, COUNT, ranks=(0, 2), resume=False)


def test_a_killed_rank_leaves_nobody_waiting(tmp_path, whole):
    path = tmp_path / "shards"
    slow, fast = start_rank(path, 1, 2, COUNT, pause=0.3), start_rank(path, 0, 2, COUNT)
    assert slow.stdout.readline() == "ready\n"
    while len(list(path.glob("shard-*"))) < 7:  # one more than the fast rank makes: both are at work
        time.sleep(0.02)
    slow.kill()
    _, errors = fast.communicate(timeout=240)
    stop_all([slow])
    assert fast.returncode == 1
    assert "rank 1: its process was killed" in errors
    assert "Run the same render again, with any number of processes" in errors
    render(path, COUNT)
    assert contents(path) == whole


def test_a_raising_rank_leaves_nobody_waiting_and_its_reason(tmp_path, whole):
    path, waited = tmp_path / "shards", []
    render(path, COUNT)
    for index in (4, 5):
        shard(path, index).unlink()

    class Broken(AnalyticSynthesizer):
        def synthesize(self, seeds, conditions=None):
            raise RuntimeError("the model broke")

    def fail():
        broken = SyntheticSequence(Broken((8, 8), num_classes=3), ClassLabels(3), seed=5)
        with pytest.raises(RuntimeError, match="the model broke"):
            render(path, COUNT, broken, ranks=(1, 2))
        waited.append(time.monotonic())

    fail()
    with pytest.raises(ShardIncompleteError, match=r"ids 20-23 are not there .*rank 1: RuntimeError: the model broke"):
        wait_for_others(path, read_manifest(path), Ranks(0, 2), lambda: [5])
    assert time.monotonic() - waited[0] <= 30
    render(path, COUNT, ranks=(0, 1))
    assert contents(path) == whole, "the note that the rank left is gone, too"


@pytest.mark.slow
def test_torchrun_ends_when_a_rank_is_killed(tmp_path, whole):
    path = tmp_path / "shards"
    child = launch(path, 2, COUNT, kill_rank=1)
    began = time.monotonic()
    _, errors = child.communicate(timeout=100)
    assert child.returncode != 0
    assert time.monotonic() - began <= 60  # 30, and the start of three interpreters
    assert "SIGKILL" in errors or "-9" in errors
    made = {name for name in contents(path) if name.startswith("shard-")}
    assert made < {name for name in whole if name.startswith("shard-")}
    render(path, COUNT)
    assert contents(path) == whole


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_any_rank_killed_at_any_moment(tmp_path, whole):
    """50 kills of random ranks; another number of ranks goes on each time."""
    path, moments = tmp_path / "shards", random.Random(3)
    committed: set[str] = set()
    for _ in range(50):
        world_size = moments.choice([1, 2, 3])
        children = [start_rank(path, rank, world_size, COUNT, pause=0.05) for rank in range(world_size)]
        for child in children:
            child.stdout.readline()
        time.sleep(moments.uniform(0, 0.6))
        moments.choice(children).kill()
        began = time.monotonic()
        for child in children:
            child.communicate(timeout=300)
        assert time.monotonic() - began <= 30
        names = {name: digest for name, digest in contents(path).items() if name.startswith("shard-")}
        assert committed <= set(names)
        assert names.items() <= whole.items()
        committed = set(names)
        if len(names) == 11:
            for name in moments.sample(sorted(names), 8):
                (path / name).unlink()
                committed.discard(name)
    render(path, COUNT)
    assert contents(path) == whole


def quick(monkeypatch):
    monkeypatch.setattr(ranks, "APPEAR_S", 0.3)
    monkeypatch.setattr(ranks, "SILENT_S", 0.3)


def test_a_rank_that_never_comes(tmp_path, monkeypatch):
    quick(monkeypatch)
    path = tmp_path / "shards"
    with pytest.raises(ShardIncompleteError, match=r"rank 1: it did not appear within .* with ranks=\(0, 1\)"):
        render(path, ranks=(0, 2))
    assert sorted(list_shards(path)) == [0, 2, 4]
    with pytest.raises(ShardIncompleteError, match="must hold the manifest that rank 0 writes"):
        render(tmp_path / "other", ranks=(1, 2))


def test_a_rank_on_another_machine_shows_life_by_its_files(tmp_path, monkeypatch):
    quick(monkeypatch)
    path = tmp_path / "shards"
    path.mkdir()
    mark = path / f".torchgenaug-rank1-{'0' * 8}-{'a' * 16}.tmp"
    assert KERNEL != "0" * 8
    mark.touch()
    with pytest.raises(ShardIncompleteError, match="rank 1: no sign of it for"):
        render(path, ranks=(0, 2))
    assert mark.exists(), "locks of another machine may be invisible here"
    mark.write_text("ValueError: bad weights")
    render(path)
    assert not mark.exists()


def test_old_files_of_another_machine_are_removed(folder):
    other = folder / f".torchgenaug-{'0' * 8}-{'a' * 16}.tmp"
    other.touch()
    render(folder)
    assert other.exists()
    os.utime(other, (0, 0))
    render(folder)
    assert not other.exists()


def test_a_lock_is_taken_even_while_someone_looks(tmp_path):
    file = TemporaryFile(tmp_path, tag="rank1-")
    assert ranks.probe_lock(file.path) is True
    file.leave(b"ValueError: x")
    assert ranks.probe_lock(file.path) is False
    with pytest.raises(FileNotFoundError):
        ranks.probe_lock(tmp_path / "absent")


MODEL = """
import time
from torchgenaug.testing import AnalyticSynthesizer

class Slow(AnalyticSynthesizer):
    def synthesize(self, seeds, conditions=None):
        time.sleep(0.1)
        return super().synthesize(seeds, conditions)

def make():
    return Slow((8, 8))
"""


def test_command_under_torchrun(tmp_path, monkeypatch):
    """SIGTERM ends all ranks within ten seconds, and the same command goes on."""
    (tmp_path / "slow_model.py").write_text(MODEL)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "torchgenaug.cli", "render", "slow_model:make", "--out", "shards", "--count", "48"]
    command += ["--batch-size", "2", "--shard-size", "4"]
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    settings = {"cwd": tmp_path, "env": environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    child = clean_interpreter.start(command, **settings, **pipes, start_new_session=True)
    deadline = time.monotonic() + 240
    while len(list((tmp_path / "shards").glob("shard-*"))) < 3:
        assert time.monotonic() < deadline
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=240)
    assert child.returncode != 0
    assert "shards are complete in 'shards' and stay. Run the same render again" in errors
    with pytest.raises(ProcessLookupError):
        os.killpg(child.pid, 0)  # no orphan is left in its session
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert "48 samples, 12 shards" in run_rank(0, 1)
    assert verify_shards(tmp_path / "shards").ok


def run_rank(rank, world_size, *options):
    """The output of a rank's command, in this process."""
    command = ["render", "slow_model:make", "--out", "shards", "--count", "48", "--batch-size", "2"]
    environment = {"RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": str(rank)}
    result = CliRunner().invoke(app, [*command, "--shard-size", "4", *options], env=environment)
    assert result.exit_code == 0, result.output
    return result.output


def test_only_rank_0_speaks(tmp_path, monkeypatch):
    (tmp_path / "slow_model.py").write_text(MODEL.replace("0.1", "0"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "slow_model", raising=False)
    assert "All 48 samples" in run_rank(0, 2, "--dry-run")
    assert run_rank(1, 2, "--dry-run") == ""
    run_rank(0, 1)
    (tmp_path / "shards" / "preview.png").unlink()
    shard(tmp_path / "shards", 1).unlink()
    assert run_rank(1, 2) == ""
    assert not (tmp_path / "shards" / "preview.png").exists()
    assert "48 samples, 12 shards" in run_rank(0, 2)


def test_a_rank_killed_before_it_appears_leaves_nobody_waiting(tmp_path, whole):
    """As when it runs out of memory while it loads its model: it has left no sign in the folder."""
    paths = [tmp_path / f"without-{dead}" for dead in (0, 1)]  # both at once: each has to wait for long
    pairs = [[start_rank(path, rank, 2, COUNT, forked=False) for rank in range(2)] for path in paths]
    for dead, pair in enumerate(pairs):
        pair[dead].kill()
    for dead, (path, pair) in enumerate(zip(paths, pairs, strict=True)):
        _, errors = pair[1 - dead].communicate(timeout=0.9 * ranks.START_S)
        assert pair[1 - dead].returncode == 1
        assert f"rank {dead}: it did not appear within" in errors
        stop_all([pair[dead]])
        render(path, COUNT)
        assert contents(path) == whole


def test_a_rank_whose_process_is_seen_may_still_be_loading(monkeypatch, tmp_path):
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ranks, "_PROCESSES", tmp_path)
    mine = Ranks(0, 3)
    assert not ranks.may_be_starting(1, mine), "the ranks were given as an argument: nothing speaks for it"
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert not ranks.may_be_starting(1, mine)
    (tmp_path / "17").mkdir()
    (tmp_path / "17" / "environ").write_bytes(b"A=1\0RANK=1\0WORLD_SIZE=3\0MASTER_PORT=5\0")
    assert ranks.may_be_starting(1, mine)
    assert not ranks.may_be_starting(2, mine)
    monkeypatch.setenv("MASTER_PORT", "6")
    assert not ranks.may_be_starting(1, mine), "of another job"
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert ranks.may_be_starting(2, mine), "on another machine: its launcher ends all when it dies"


OTHER_USER = """
import os, sys
os.umask(0o022)
sys.path.insert(0, sys.argv[1])
from shards_helpers import render
render(sys.argv[3])  # all modules are loaded now: the other user may not be allowed to read them
os.setgid(12345)
os.setuid(12345)
render(sys.argv[2], 44)
print(len(os.listdir(sys.argv[2])))
"""


@pytest.mark.parametrize("sticky", [False, True])
def test_another_user_may_go_on(tmp_path, whole, sticky):
    """Whoever may write the folder; the killed render's temporary files belong to somebody else."""
    if os.getuid():
        pytest.skip("needs the right to become another user")
    if any(parent.stat().st_mode & 0o005 != 0o005 for parent in Path(sys.prefix).parents):
        pytest.skip("other users may not read this Python environment")
    path = tmp_path / "shards"
    child = start_rank(path, 0, 2, COUNT, pause=0.2)
    while not list(path.glob("shard-*")):
        time.sleep(0.02)
    child.kill()
    child.communicate()
    left = {file.name for file in path.glob(".torchgenaug-*")}
    assert left
    unreadable = path / f".torchgenaug-{KERNEL}-{'0' * 16}.tmp"
    unreadable.touch(mode=0o600)
    path.chmod(0o1777 if sticky else 0o777)
    for parent in [tmp_path, *tmp_path.parents][:4]:  # pytest-xdist has a folder of its own for each process
        if parent != Path(parent.root) and parent.stat().st_uid == os.getuid() and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    here = os.path.dirname(__file__)
    done = clean_interpreter.run(["-c", OTHER_USER, here, path, tmp_path / "first"])
    assert done.returncode == 0, done.stderr
    there = contents(path)
    assert {name: digest for name, digest in there.items() if not name.startswith(".")} == whole
    assert unreadable.exists()
    assert (left & there.keys() == left) is sticky, "what may be removed is removed"


def test_a_manifest_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    render(tmp_path / "shards")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ShardError, match=r"must be readable by this user.*chmod -R g\+rwX"):
        render(tmp_path / "shards")


@pytest.mark.parametrize(
    ("function", "number", "remedy"),
    [("listdir", 13, r"chmod -R g\+rwX"), ("open", 13, "chmod"), ("open", 30, "mounted read-only")],
)
def test_a_folder_that_may_not_be_written_is_named(tmp_path, monkeypatch, function, number, remedy):
    path, real = tmp_path / "shards", getattr(os, function)
    path.mkdir()

    def refuse(place, *arguments, **options):
        if str(place).startswith(str(path)):
            raise OSError(number, os.strerror(number), str(place))
        return real(place, *arguments, **options)

    monkeypatch.setattr(os, function, refuse)
    with pytest.raises(ShardError, match=rf"must be a folder that this user may enter, read and write.*{remedy}"):
        render(path)


def test_an_error_of_the_model_is_not_taken_for_one_of_the_folder(tmp_path, monkeypatch):
    sequence = small_sequence()
    missing = PermissionError(13, "Permission denied", "/elsewhere/atlas.nii.gz")
    monkeypatch.setattr(type(sequence.synthesizer), "synthesize", lambda *_: (_ for _ in ()).throw(missing))
    with pytest.raises(Exception, match=r"atlas\.nii\.gz") as caught:
        render(tmp_path / "shards", sequence=sequence)
    assert not isinstance(caught.value, ShardError)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/etc/passwd")])
def test_what_is_no_temporary_file_of_a_render_stays(tmp_path, make):
    path = tmp_path / "shards"
    path.mkdir()
    strange = [path / f".torchgenaug-{tag}{KERNEL}-{'0' * 16}.tmp" for tag in ("", "rank-1-")]
    for each in strange:
        make(each)
    render(path)
    assert all(each.is_symlink() or each.is_dir() for each in strange)


def test_ranks_extend_together(tmp_path, whole):
    together(tmp_path / "shards", 3, 22)
    together(tmp_path / "shards", 2, COUNT, resume="extend")
    assert contents(tmp_path / "shards") == whole


def test_a_rank_that_announced_itself_and_died_while_it_loaded_is_missed_at_once(tmp_path):
    other = Presence(tmp_path, Ranks(1, 2))
    other.__enter__()
    watch = ranks._Watch(tmp_path, Ranks(0, 2))
    assert watch.dead({1}) == {}
    other._stop.set()  # as if it were killed: no beat, no lock, and its file stays
    other._thread.join()
    os.close(other._mark.descriptor)
    assert watch.dead({1}) == {1: "its process was killed"}


def test_on_another_machine_silence_counts_from_the_last_sign(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(ranks.time, "monotonic", lambda: clock[0])
    mark = tmp_path / f".torchgenaug-rank1-{'0' * 8}-{'a' * 16}.tmp"
    mark.touch()
    watch = ranks._Watch(tmp_path, Ranks(0, 2))
    for beat in range(20):
        os.utime(mark, (beat, beat))
        assert watch.dead({1}) == {}
        clock[0] += ranks.SILENT_S - 1
    assert watch.dead({1}) == {}
    clock[0] += 2
    assert set(watch.dead({1})) == {1}
    assert ranks.SILENT_S + 2 * ranks._POLL_S[1] <= 30


def test_a_rank_on_another_machine_that_never_appears_is_missed_if_all_announce_themselves(tmp_path, monkeypatch):
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}.items():
        monkeypatch.setenv(name, str(value))
    clock = [0.0]
    monkeypatch.setattr(ranks.time, "monotonic", lambda: clock[0])
    alone = ranks._Watch(tmp_path, Ranks(0, 2))
    assert alone.dead({1}) == {}
    with Presence(tmp_path, Ranks(0, 2)):
        watch = ranks._Watch(tmp_path, Ranks(0, 2))
        assert watch.dead({1}) == {}
        clock[0] += ranks.APPEAR_S + 1
        assert set(watch.dead({1})) == {1}
    assert alone.dead({1}) == {}, "it may be loading: nobody announced themselves"


SCRIPT_THAT_DIES_WHILE_IT_LOADS = """
import os, signal, sys, time
from torchgenaug import announce_rank
with announce_rank(sys.argv[1]):
    print("announced", flush=True)
    time.sleep(600)  # loads a model
"""


def test_a_script_that_dies_while_it_loads_is_missed_if_it_announced_itself(tmp_path, monkeypatch):
    """As on another machine: that the process is gone cannot be seen, but that it beats no more."""
    environment = os.environ | {"RANK": "1", "WORLD_SIZE": "2"}
    program = ["-c", SCRIPT_THAT_DIES_WHILE_IT_LOADS, tmp_path / "shards"]
    with interpreter.start(program, env=environment, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == "announced\n"
        for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}.items():
            monkeypatch.setenv(name, str(value))
        clock = [0.0]
        monkeypatch.setattr(ranks.time, "monotonic", lambda: clock[0])
        monkeypatch.setattr(ranks, "KERNEL", "0" * 8)  # so that its lock says nothing here
        watch = ranks._Watch(tmp_path / "shards", Ranks(0, 2))
        assert watch.dead({1}) == {}
        child.kill()
    watch.dead({1})  # of its last sign
    clock[0] += ranks.SILENT_S
    assert watch.dead({1}) == {1: f"no sign of it for {ranks.SILENT_S:.0f} s"}


def test_a_single_process_announces_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with announce_rank(tmp_path / "shards"):
        assert not (tmp_path / "shards").exists()
    with pytest.raises(ConfigurationError, match="`ranks` must be"):
        announce_rank(tmp_path, ranks=(2, 2))


def test_a_listing_of_a_network_file_system_is_looked_at_afresh(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(ranks, "on_network", lambda path: True)
    monkeypatch.setattr(ranks, "TemporaryFile", lambda folder: made.append(folder) or TemporaryFile(folder))
    ranks._Watch(tmp_path, Ranks(0, 2)).dead({1})
    assert made == [tmp_path]
    assert not list(tmp_path.iterdir())
