import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhfv.corrections.conversation import Sampling
from rlhfv.models.streaming import RowSampler, RowStreamer, StopWhen, any_set

END, OTHER_END, PAD = 256, 257, 258


def decode_bytes(tokens: list[int]) -> str:
    return bytes(tokens).decode("utf-8", errors="replace")


def stream(rows: list[list[int]], **options) -> RowStreamer:
    """Feeds rows the way `generate` does: the prompt first, pad for rows that have ended."""
    streamer = RowStreamer(len(rows), decode_bytes, {END, OTHER_END}, options.pop("on_token", lambda: None))
    streamer.put(torch.zeros(len(rows), 5, dtype=torch.long))
    for step in range(max(map(len, rows))):
        streamer.put(torch.tensor([row[step] if step < len(row) else PAD for row in rows]))
    streamer.end()
    return streamer


def test_each_row_ends_at_its_first_end_token_and_drops_what_follows():
    streamer = stream([[*b"ab", END], [*b"abcd", OTHER_END]])
    assert [streamer.text(row) for row in range(2)] == ["ab", "abcd"]
    assert streamer.finished == [True, True]


def test_a_row_without_an_end_is_not_finished():
    assert stream([[*b"abc"], [*b"a", END]]).finished == [False, True]


@given(st.lists(st.text(min_size=0, max_size=20), min_size=1, max_size=3))
def test_streamed_texts_only_grow_and_end_as_the_decoded_text(texts):
    """Bytes of one character arrive one by one: none is shown before it is whole."""
    rows = [[*text.encode(), END] for text in texts]
    seen = [[] for _ in rows]
    streamer = None

    def look():
        for row, shown in enumerate(seen):
            shown.append(streamer.text(row))

    streamer = RowStreamer(len(rows), decode_bytes, {END}, look)
    streamer.put(torch.zeros(len(rows), 3, dtype=torch.long))
    for step in range(max(map(len, rows))):
        streamer.put(torch.tensor([row[step] if step < len(row) else PAD for row in rows]))
    assert streamer.error is None
    for row, text in enumerate(texts):
        assert streamer.text(row, final=True) == text
        assert all(text.startswith(shown) for shown in seen[row])


def test_broken_bytes_are_shown_once_the_answer_is_final():
    streamer = stream([[*b"a", 0xF0, 0x9F]])
    assert streamer.text(0) == "a"
    assert streamer.text(0, final=True) == "a\ufffd"


def test_put_never_raises_and_keeps_the_error():
    def fail():
        raise RuntimeError("the reader is gone")

    streamer = stream([[*b"ab"]], on_token=fail)
    assert str(streamer.error) == "the reader is gone"


def test_stop_when_any_event_is_set():
    first, second = threading.Event(), threading.Event()
    criterion = StopWhen(any_set(None, first, second))
    ids = torch.zeros(3, 4, dtype=torch.long)
    assert criterion(ids, None).tolist() == [False] * 3
    second.set()
    assert criterion(ids, None).tolist() == [True] * 3


def choices(scores: torch.Tensor, sampling: Sampling, seeds: list[int], steps: int) -> torch.Tensor:
    """Token ids [steps, rows] drawn from the same scores again and again."""
    sampler = RowSampler(sampling, seeds)
    return torch.stack([sampler(None, scores).argmax(-1) for _ in range(steps)])


def test_a_row_draws_the_same_alone_and_beside_others():
    scores = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    sampling = Sampling(temperature=1.3, top_p=0.8)
    together = choices(scores, sampling, [5, 6, 5], 30)
    for row, seed in enumerate([5, 6, 5]):
        assert torch.equal(together[:, row], choices(scores[row : row + 1], sampling, [seed], 30)[:, 0])
    assert not torch.equal(together[:, 0], together[:, 1])


def test_draws_follow_the_softmax_at_the_temperature():
    scores = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    drawn = choices(scores, Sampling(temperature=2.0), [1], 4000)[:, 0]
    expected = torch.softmax(scores[0] / 2.0, -1)
    found = torch.bincount(drawn, minlength=4) / 4000
    assert torch.allclose(found, expected, atol=0.03)


@pytest.mark.parametrize(("top_p", "possible"), [(1.0, {0, 1, 2, 3}), (0.75, {1, 3}), (0.5, {3}), (0.0, {3})])
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p, possible):
    scores = torch.tensor([[0.05, 0.30, 0.10, 0.55]]).log()
    assert set(choices(scores, Sampling(temperature=1.0, top_p=top_p), [3], 400).flatten().tolist()) == possible


def test_masked_tokens_are_never_drawn():
    scores = torch.full((1, 6), float("-inf"))
    scores[0, 4] = 1.0
    assert set(choices(scores, Sampling(temperature=0.7), [0], 50).flatten().tolist()) == {4}
