"""The arithmetic of the pool: no two batches that are needed at once share a place, and no place is wasted."""

from hypothesis import given, settings
from hypothesis import strategies as st

from torchgenaug.pool.storage.window import Window


@st.composite
def windows(draw):
    capacity = draw(st.integers(1, 60))
    step = draw(st.integers(0, capacity))
    ahead = draw(st.sampled_from([0, step]))
    return Window(capacity, step, draw(st.integers(1, 70)), ahead, parts=draw(st.integers(1, 5)))


@given(windows(), st.integers(0, 10**6))
@settings(deadline=None, max_examples=300)
def test_every_id_of_the_window_has_a_slot_of_its_own(window, turn):
    batches = window.batches_ahead(turn)
    assert len({batch % window.num_places for batch in batches.tolist()}) == len(batches)
    ids = [k for batch in batches.tolist() for k in window.ids(batch).tolist()]
    wanted = range(window.start(turn), window.start(turn) + window.capacity + window.ahead)
    assert set(wanted) <= set(ids)
    for batch in batches.tolist():
        for row, k in enumerate(window.ids(batch).tolist()):
            assert k // window.batch_size == batch
            assert k % window.num_slots == batch % window.num_places * window.batch_size + row
    assert set(window.batches(turn).tolist()) <= set(batches.tolist())


@given(windows())
@settings(deadline=None, max_examples=200)
def test_the_ring_is_no_larger_than_some_turn_needs(window):
    needed = max(len(window.batches_ahead(turn)) for turn in range(window.batch_size + 1))
    assert window.num_places == needed


@given(windows())
@settings(deadline=None, max_examples=200)
def test_lifetime_is_the_largest_number_of_turns_and_epochs_that_see_a_sample(window):
    if window.step == 0:
        assert window.lifetime is None
        assert window.lifetime_epochs is None
        return
    turns, epochs = [], []
    for sample in range(window.start(100), window.start(100 + window.parts)):
        seen = [t for t in range(206) if window.start(t) <= sample < window.start(t) + window.capacity]
        turns.append(len(seen))
        epochs.append(len({t // window.parts for t in seen}))
    assert window.lifetime == max(turns)
    assert window.lifetime_epochs == max(epochs)


@given(windows(), st.integers(0, 1000))
@settings(deadline=None)
def test_turns_are_numbered_through(window, epoch):
    numbers = [window.turn(epoch, part) for part in range(window.parts)]
    assert [*numbers, window.turn(epoch + 1)] == list(range(epoch * window.parts, (epoch + 1) * window.parts + 1))
    assert len({window.name(number) for number in numbers}) == window.parts
