"""What an open page costs the server: before anything is asked, and however long it stays open."""

import asyncio
import gc
import time
import tracemalloc

import gradio as gr
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


def test_a_page_that_stays_open_does_not_grow(page):
    """Gradio's own sessions keep every component that a visitor was ever sent an update of: of each update one."""
    sessions.install()
    holder = StateHolder()
    holder.set_blocks(page.demo)
    ask = next(each for each in page.events["question", "submit"] if each.fn is not None)
    box = next(block for block in ask.outputs if block.elem_id == "question")
    left = next(block for block in ask.outputs if block.elem_id == "left-column")
    state = holder["one"]

    async def answer(times: int) -> None:
        for number in range(times):
            # What is not named is skipped, and that counts as an update too.
            await page.demo.postprocess_data(ask, {box: gr.Textbox(value="", submit_btn=False)}, state)
            await page.demo.postprocess_data(ask, {box: "typed", left: [f"answer {number}"]}, state)

    asyncio.run(answer(1))
    known = set(state.blocks_config.blocks)
    asyncio.run(answer(20))
    assert set(state.blocks_config.blocks) == known == set(page.demo.default_config.blocks)
    assert state.blocks_config.blocks[box._id].submit_btn is False and box.submit_btn is True


def test_a_session_shares_what_it_does_not_change(page):
    """A program that calls the API has a session for every call."""
    sessions.install()
    holder = StateHolder()
    holder.set_blocks(page.demo)
    holder["first"]
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(100):
            holder[f"session {number}"]
        each = tracemalloc.get_traced_memory()[0] / 100
    finally:
        tracemalloc.stop()
    assert each < 5_000, f"{each:.0f} bytes"


def test_calls_that_ended_leave_nothing_in_the_queue(page):
    """Gradio keeps an empty set for every session that ever called, and of the last 10 000 events a record, of which
    it makes a table at the end of each event."""
    queue = page.demo._queue
    held = queue.pending_event_ids_session
    for number in range(5_000):
        session = f"session {number}"
        queue.pending_messages_per_session[session] = object()
        held[session] = set()
        held[session].add("event")
        if number % 2:  # the others never came for their answer
            held[session].remove("event")
    assert len(held) <= 2_001
    assert held["session 4998"] == {"event"}, "who still waits is known"
    assert held["session 1"] == set() and "session 1" not in held
    assert queue.compute_analytics_summary([{"function": "chat", "status": "success", "process_time": 1.0}]) == {
        "functions": {}
    }
    assert queue.ANALYTICS_MAX_EVENTS <= 100
