"""Batches copied to an accelerator one ahead: while the training step runs on batch t, batch t+1 is under way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from torchgenaug.devices import has_streams

Ticket = TypeVar("Ticket")


def copied_to(
    device: torch.device | None, batches: Iterator[tuple[Ticket, list[Tensor]]]
) -> Iterator[tuple[Ticket, list[Tensor]]]:
    """The same tickets, with their tensors on `device`; None: where they are."""
    if device is None:
        return batches
    if has_streams(device):
        return copied_ahead(batches, device)
    return ((ticket, [tensor.to(device) for tensor in tensors]) for ticket, tensors in batches)


def copied_ahead(
    batches: Iterator[tuple[Ticket, list[Tensor]]], device: torch.device
) -> Iterator[tuple[Ticket, list[Tensor]]]:
    """The same tickets, with their tensors on `device`.

    Copies run on a stream of their own, from pinned memory; the consumer's stream waits for them, the host does not.
    One batch more than was handed out is taken from `batches`.

    Args:
        batches: anything that belongs to a batch, and its tensors.
        device: an accelerator that has streams.
    """
    module = torch.get_device_module(device)
    stream = module.Stream(device)
    waiting: tuple[Ticket, list[Tensor], Any] | None = None
    for ticket, tensors in batches:
        with module.stream(stream):
            moved = [_copied(tensor, device) for tensor in tensors]
        latest = (ticket, moved, stream.record_event())
        if waiting is not None:
            yield _arrived(waiting, device)
        waiting = latest
    if waiting is not None:
        yield _arrived(waiting, device)


def _copied(tensor: Tensor, device: torch.device) -> Tensor:
    if tensor.device.type != "cpu":
        return tensor.to(device, non_blocking=True)
    # Out of pageable memory a copy is not asynchronous. A batch of a loader with pin_memory=True is pinned already.
    return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)


def _arrived(waiting: tuple[Ticket, list[Tensor], Any], device: torch.device) -> tuple[Ticket, list[Tensor]]:
    ticket, tensors, event = waiting
    stream = torch.get_device_module(device).current_stream(device)
    stream.wait_event(event)
    for tensor in tensors:
        # The allocator must not give its memory to the copying stream while the consumer still reads it.
        tensor.record_stream(stream)
    return ticket, tensors
