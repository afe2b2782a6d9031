"""The arithmetic of the pool: no two batches that are needed at once share a place, and no place is wasted."""

from hypothesis import given, settings
from hypothesis import strategies as st

from torchgenaug.pool.window import Window


@st.composite
def windows(draw):
    capacity = draw(st.integers(1, 60))
    step = draw(st.integers(0, capacity))
    ahead = draw(st.sampled_from([0, step]))
    return Window(capacity, step, draw(st.integers(1, 70)), ahead)


@given(windows(), st.integers(0, 10**6))
@settings(deadline=None, max_examples=300)
def test_every_id_of_the_window_has_a_slot_of_its_own(window, epoch):
    batches = window.batches_ahead(epoch)
    assert len({batch % window.num_places for batch in batches.tolist()}) == len(batches)
    ids = [k for batch in batches.tolist() for k in window.ids(batch).tolist()]
    wanted = range(window.start(epoch), window.start(epoch) + window.capacity + window.ahead)
    assert set(wanted) <= set(ids)
    for batch in batches.tolist():
        for row, k in enumerate(window.ids(batch).tolist()):
            assert k // window.batch_size == batch
            assert k % window.num_slots == batch % window.num_places * window.batch_size + row
    assert set(window.batches(epoch).tolist()) <= set(batches.tolist())


@given(windows())
@settings(deadline=None, max_examples=200)
def test_the_ring_is_no_larger_than_some_epoch_needs(window):
    needed = max(len(window.batches_ahead(epoch)) for epoch in range(window.batch_size + 1))
    assert window.num_places == needed


@given(windows())
@settings(deadline=None, max_examples=200)
def test_lifetime_is_the_largest_number_of_epochs_that_see_a_sample(window):
    if window.step == 0:
        assert window.lifetime is None
        return
    sample = window.start(100)
    seen = [e for e in range(201) if window.start(e) <= sample < window.start(e) + window.capacity]
    assert window.lifetime == len(seen)
