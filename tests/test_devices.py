"""Accelerators of any kind, by stand-ins: no machine here has MPS or XPU."""

from __future__ import annotations

import types

import pytest
import torch

from torchgenaug import devices
from torchgenaug.mixing.loader.transfer import copied_ahead

CPU = torch.device("cpu")


class Stream:
    def __init__(self, log, name="side"):
        self.log, self.name = log, name

    def wait_stream(self, other):
        self.log.append(f"{self.name} waits for {other.name}")

    def synchronize(self):
        self.log.append(f"synchronize {self.name}")

    def record_event(self):
        return "event"

    def wait_event(self, event):
        self.log.append(f"{self.name} waits for an event")


class Entered:
    def __init__(self, log, stream):
        self.log, self.stream = log, stream

    def __enter__(self):
        self.log.append(f"enter {self.stream.name}")

    def __exit__(self, *_):
        self.log.append(f"leave {self.stream.name}")


@pytest.fixture
def xpu(monkeypatch):
    """Two devices with streams and generators, as Intel's."""
    log, generators = [], (torch.Generator(), torch.Generator())
    module = types.SimpleNamespace(
        Stream=lambda device=None: Stream(log),
        current_stream=lambda device=None: Stream(log, "main"),
        stream=lambda stream: Entered(log, stream),
        synchronize=lambda device=None: log.append(f"synchronize {device}"),
        is_initialized=lambda: True,
        is_available=lambda: True,
        empty_cache=lambda: log.append("empty_cache"),
        mem_get_info=lambda device: (3 << 30, 4 << 30),
        default_generators=generators,
        get_rng_state=lambda device: generators[device.index or 0].get_state(),
        set_rng_state=lambda state, device: generators[device.index or 0].set_state(state),
    )
    install(monkeypatch, "xpu", module, 2, log)
    return types.SimpleNamespace(log=log, generators=generators, device=torch.device("xpu", 1))


@pytest.fixture
def mps(monkeypatch):
    """One device with one queue and no memory of its own, as Apple's."""
    log, generator = [], torch.Generator()
    module = types.SimpleNamespace(
        synchronize=lambda: log.append("synchronize"),
        is_available=lambda: True,
        empty_cache=lambda: log.append("empty_cache"),
        manual_seed=generator.manual_seed,
        get_rng_state=lambda: generator.get_state(),
        set_rng_state=generator.set_state,
    )
    install(monkeypatch, "mps", module, 1, log)
    return types.SimpleNamespace(log=log, generators=(generator,), device=torch.device("mps"))


def install(monkeypatch, kind, module, count, log):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device(kind))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: count - 1)
    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda number: log.append(f"choose {number}"))
    monkeypatch.setattr(torch, "get_device_module", lambda device=None: module)


@pytest.fixture
def nothing(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)


def test_names(xpu):
    assert devices.device_names() == ["cpu", "xpu", "xpu:0", "xpu:1"]


def test_names_without_streams(mps):
    assert devices.device_names() == ["cpu", "mps", "mps:0"]
    assert not devices.has_streams(mps.device)
    assert not devices.copies_from_pinned_memory(mps.device)
    assert devices.free_bytes(mps.device) is None


def test_a_machine_with_a_cpu_only(nothing):
    assert devices.device_names() == ["cpu"]
    assert not devices.is_in_use()
    assert devices.current_number() is None
    devices.empty_cache()
    devices.synchronize()
    devices.wait_for_stream(CPU)
    with devices.stream_of_its_own(None), devices.seeded_device(CPU, 3):
        pass
    assert devices.free_bytes(CPU) is None


def test_memory_and_queues(xpu):
    assert devices.free_bytes(xpu.device) == 3 << 30
    devices.empty_cache()
    devices.synchronize(xpu.device)
    devices.wait_for_stream(xpu.device)
    assert xpu.log == ["empty_cache", "synchronize xpu:1", "synchronize main"]


def test_memory_and_the_one_queue(mps):
    devices.empty_cache()
    devices.synchronize()
    devices.wait_for_stream(mps.device)
    assert mps.log == ["empty_cache", "synchronize", "synchronize"]


def test_a_stream_of_a_threads_own(xpu):
    with devices.stream_of_its_own(devices.current_number()):
        xpu.log.append("work")
    assert xpu.log == ["choose 1", "side waits for main", "enter side", "work", "leave side"]


def test_one_queue_needs_no_stream(mps):
    with devices.stream_of_its_own(devices.current_number()):
        mps.log.append("work")
    assert mps.log == ["choose 0", "work"]


@pytest.mark.parametrize("kind", ["xpu", "mps"])
def test_numbers_of_a_seed_and_the_generator_as_it_was(kind, request):
    fake = request.getfixturevalue(kind)
    generator = fake.generators[-1]
    expected = torch.rand(3, generator=torch.Generator().manual_seed(7))
    before = generator.get_state()
    seeded = devices.seeded_device(fake.device, 7)
    with seeded:
        assert torch.equal(torch.rand(3, generator=generator), expected)
    assert torch.equal(generator.get_state(), before)


def test_batches_are_copied_one_ahead(xpu, monkeypatch):
    moved = []
    monkeypatch.setattr("torchgenaug.mixing.loader.transfer._copied", lambda tensor, device: moved.append(1) or tensor)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    batches = copied_ahead(((k, [torch.zeros(1)]) for k in range(3)), xpu.device)
    assert next(batches)[0] == 0
    assert len(moved) == 2  # the second one is under way
    assert [ticket for ticket, _ in batches] == [1, 2]


def test_what_was_not_started_is_not_touched(xpu, monkeypatch):
    monkeypatch.setattr(torch.get_device_module(), "is_initialized", lambda: False)
    devices.empty_cache()
    assert devices.current_number() is None
    assert xpu.log == []


@pytest.mark.parametrize("kind", ["xpu", "mps"])
def test_seeds_are_those_of_manual_seed_on_the_cpu_and_on_the_one_device(kind, request, monkeypatch):
    accelerator = request.getfixturevalue(kind)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(77)
        expected = torch.rand(3)
        monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("visits every device"))
        devices.seed_generators(CPU, 77)
        assert torch.equal(torch.rand(3), expected)
        devices.seed_generators(accelerator.device, 77)
        assert torch.equal(torch.rand(3), expected)
        assert torch.equal(torch.rand(3, generator=accelerator.generators[-1]), expected)
        assert all(each.initial_seed() != 77 for each in accelerator.generators[:-1])
