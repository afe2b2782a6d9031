"""Memory of batches is used again, but never while anybody can still see the batch that lies there."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchgenaug.mixing.loader.batch_memory import BatchMemory

LIKE = torch.zeros(1, 3)


def filled(memory, number, kept=2, added=1, like=LIKE):
    """A batch that holds `number` everywhere."""
    whole, head, tail = memory.place(0, like, kept, added)
    assert (whole.shape, whole.dtype) == ((kept + added, *like.shape[1:]), like.dtype)
    assert (whole.is_contiguous(), whole.data_ptr() % 64, whole._is_view()) == (True, 0, False)
    head.fill_(number)
    tail.fill_(number)
    return whole


def views_of(batch):
    """What may still be there when the batch itself is gone."""
    gradient = torch.ones(batch.shape[1:], requires_grad=True)
    return batch, batch[0], batch.numpy(), batch.detach(), (batch * gradient).grad_fn


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(1, 4)), max_size=30), st.data())
@settings(deadline=None, max_examples=30)
def test_what_is_held_stays_as_it_is(steps, data):
    memory, held = BatchMemory(), []
    for number, (how, kept, added) in enumerate(steps):
        batch = filled(memory, number, kept, added)
        held.append((number, views_of(batch)[how] if kept or how != 1 else batch))
        del batch
        while len(held) > data.draw(st.integers(0, 5)):
            held.pop(data.draw(st.integers(0, len(held) - 1)))
        for before, thing in held:
            assert (getattr(thing, "_saved_self", thing) == before).all()


def test_memory_of_a_batch_that_is_gone_is_used_again():
    memory, places = BatchMemory(), set()
    batch = None
    for number in range(20):
        batch = filled(memory, number, kept=2 + number % 2)  # sizes may differ a little
        places.add(batch.data_ptr())
    assert len(places) <= 4


def test_what_numpy_does_not_have_gets_new_memory():
    for like in (LIKE.to(torch.bfloat16), torch.zeros(1, 3, device="meta")):
        whole, head, tail = BatchMemory().place(0, like, 2, 1)
        assert (whole.dtype, whole.device, len(whole), len(head), len(tail)) == (like.dtype, like.device, 3, 2, 1)
