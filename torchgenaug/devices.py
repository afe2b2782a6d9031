"""What CUDA, Apple's MPS, Intel's XPU and other accelerators of torch have in common, and what only some of them have.

Everything here goes through `torch.get_device_module`, so it serves any accelerator that torch names. CUDA was run; the
others were tested with stand-ins only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


def find_accelerator() -> torch.device | None:
    """The kind of accelerator that this machine has and torch can use, without a number; None if there is none."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return None if found is None else torch.device(found.type)


def device_names() -> list[str]:
    """Every device that a user may name here: ``["cpu", "cuda", "cuda:0", "cuda:1"]``."""
    found = find_accelerator()
    if found is None:
        return ["cpu"]
    return ["cpu", found.type, *(f"{found.type}:{number}" for number in range(torch.accelerator.device_count()))]


def is_on_accelerator(device: torch.device) -> bool:
    """Whether it is neither the CPU nor ``"meta"``."""
    return device.type not in ("cpu", "meta")


def has_streams(device: torch.device) -> bool:
    """Whether work on the device can be queued apart from the main queue; MPS has one queue only."""
    return is_on_accelerator(device) and hasattr(torch.get_device_module(device), "Stream")


def copies_from_pinned_memory(device: torch.device) -> bool:
    """Whether a copy out of pinned memory runs in parallel with the program; MPS shares the host's memory."""
    return has_streams(device)


def is_in_use() -> bool:
    """Whether this process has begun to use an accelerator."""
    built = torch.accelerator.current_accelerator()  # asks no driver: that could break a later fork
    if built is None:
        return False
    module = torch.get_device_module(built)
    return bool(module.is_initialized() if hasattr(module, "is_initialized") else module.is_available())


def empty_cache() -> None:
    """Gives back the memory that torch keeps on the accelerator for later; nothing where none is in use."""
    if is_in_use():
        torch.get_device_module().empty_cache()


def synchronize(device: torch.device | None = None) -> None:
    """Waits for everything that was queued on the device (None: the current accelerator); nothing on the CPU."""
    device = find_accelerator() if device is None else device
    if device is not None and is_on_accelerator(device):
        module = torch.get_device_module(device)
        if has_streams(device):
            module.synchronize(device)
        else:
            module.synchronize()


def wait_for_stream(device: torch.device) -> None:
    """Waits for what this thread has queued on the device, not for the queues of other threads where it has them."""
    if has_streams(device):
        torch.get_device_module(device).current_stream(device).synchronize()
    else:
        synchronize(device)


def free_bytes(device: torch.device) -> int | None:
    """What is free in the device's memory; None where it does not say, or shares the host's."""
    if not is_on_accelerator(device):
        return None
    ask = getattr(torch.get_device_module(device), "mem_get_info", None)
    return None if ask is None else int(ask(device)[0])


@contextlib.contextmanager
def seeded_device(device: torch.device, seed: int) -> Iterator[None]:
    """Runs what is inside with the device's global generator at `seed`, and sets it back; nothing on the CPU.

    Args:
        device: on which numbers are drawn.
        seed: non-negative.
    """
    if not is_on_accelerator(device):
        yield
        return
    module = torch.get_device_module(device)
    where = (device,) if has_streams(device) else ()
    before = module.get_rng_state(*where)
    _seed(device, seed)
    try:
        yield
    finally:
        module.set_rng_state(before, *where)


def seed_generators(device: torch.device, seed: int) -> None:
    """Sets the global generators of the CPU and of `device`.

    The numbers are those after ``torch.manual_seed``, which visits every kind of device and keeps a stack trace for
    each that is not in use: up to 0.2 ms, which shows in the steps of a small network.

    Args:
        device: where a network computes.
        seed: non-negative.
    """
    torch.default_generator.manual_seed(seed)
    if is_on_accelerator(device):
        _seed(device, seed)


def _seed(device: torch.device, seed: int) -> None:
    module = torch.get_device_module(device)
    generators = getattr(module, "default_generators", None)
    if generators:
        generators[_number(device)].manual_seed(seed)
    else:
        module.manual_seed(seed)


def current_number() -> int | None:
    """The number of the accelerator that is current in this thread; None if this process uses none."""
    return torch.accelerator.current_device_index() if is_in_use() else None


@contextlib.contextmanager
def stream_of_its_own(number: int | None) -> Iterator[None]:
    """Queues what this thread computes apart from the main queue, behind what lies in that now.

    Args:
        number: of the accelerator, which a new thread has to choose anew; None: this process uses none.
    """
    found = find_accelerator()
    if number is None or found is None:
        yield
        return
    torch.accelerator.set_device_index(number)
    device = torch.device(found.type, number)
    if not has_streams(device):
        yield
        return
    module = torch.get_device_module(device)
    before = module.current_stream(device)
    stream = module.Stream()
    stream.wait_stream(before)
    with module.stream(stream):
        yield


def _number(device: torch.device) -> int:
    return torch.accelerator.current_device_index() if device.index is None else device.index
