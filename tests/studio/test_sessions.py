"""What a page that opens costs the server before anything is asked."""

import time

from gradio.state_holder import StateHolder

from rlhfv.studio import sessions


def test_a_page_that_opens_costs_next_to_nothing(page):
    """Gradio's own sessions describe all components first: about a hundred times as long."""
    sessions.install()
    holder = StateHolder()
    holder.set_blocks(page.demo)
    begun = time.process_time()
    opened = [holder[f"session {number}"] for number in range(20)]
    assert (time.process_time() - begun) / 20 < 0.02
    assert all(not each.config_values for each in opened)


def test_what_a_page_keeps_is_its_own(page):
    sessions.install()
    holder = StateHolder()
    holder.set_blocks(page.demo)
    state = next(block for block in page.demo.blocks.values() if block.get_block_name() == "state")
    box = next(block for block in page.demo.blocks.values() if getattr(block, "elem_id", None) == "question")
    one, other = holder["one"], holder["other"]
    one[state._id] = "kept"
    one[box._id] = type(box)(value="typed")
    one._update_value_in_config(box._id, "typed")
    assert one[state._id] == "kept" and other[state._id] != "kept"
    assert other[box._id] is box and page.demo.blocks[box._id] is box


def test_pages_that_are_long_unused_are_forgotten(page):
    sessions.install()
    page.demo.state_session_capacity = 3
    holder = StateHolder()
    holder.set_blocks(page.demo)
    for number in range(9):
        holder[f"session {number}"]
    assert list(holder.session_data) == [f"session {number}" for number in (6, 7, 8)]
