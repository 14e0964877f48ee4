"""The arena: blocks that are needed at one time never overlap, and little is wasted."""

from hypothesis import given
from hypothesis import strategies as st

from minigrad.jit.memory import ALIGNMENT, Block, most_needed, place, rounded

blocks = st.lists(
    st.tuples(st.integers(0, 500), st.integers(-1, 20), st.integers(0, 8)).map(
        lambda t: Block(t[0], t[1], t[1] + t[2])
    ),
    max_size=40,
)


@given(blocks)
def test_no_two_that_are_needed_at_one_time_overlap(found):
    total = place(found)
    for i, a in enumerate(found):
        assert a.offset % ALIGNMENT == 0
        assert a.offset >= 0
        assert a.offset + a.size <= total
        for b in found[i + 1 :]:
            if a.first <= b.last and b.first <= a.last:
                apart = a.offset + rounded(a.size) <= b.offset or b.offset + rounded(b.size) <= a.offset
                assert apart, (a, b)


@given(blocks)
def test_the_arena_lies_between_what_is_needed_and_all_together(found):
    total = place(found)
    assert most_needed(found) <= total <= sum(rounded(b.size) for b in found)


def test_a_chain_takes_two_places():
    chain = [Block(1000, i, i + 1) for i in range(50)]
    assert place(chain) == 2 * rounded(1000) == most_needed(chain)


def test_gaps_are_joined():
    found = [Block(64, 0, 0), Block(64, 0, 0), Block(128, 1, 1)]
    assert place(found) == 128


def test_a_large_block_lies_where_small_ones_were():
    found = [Block(64, 0, 0), Block(128, 1, 1)]
    assert place(found) == 128


def test_of_nothing():
    assert place([]) == 0
    assert most_needed([]) == 0


def test_a_training_step_wastes_next_to_nothing():
    depth, steps = 100, 200  # what layers keep for the way back, and gradients of other sizes that stay to the end
    kept = [Block(2048, i, steps - i) for i in range(depth)]
    found = [*kept, *[Block(4096, steps - i, steps) for i in range(depth)]]
    assert place(found) <= 1.02 * most_needed(found)
