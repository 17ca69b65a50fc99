"""Rows of tokens while they are generated: streamed texts, own random streams, a way to stop."""

import threading
from collections.abc import Callable, Iterable, Sequence

import torch
from transformers import LogitsProcessor, StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from rlhfv.corrections.conversation import Sampling

REPLACEMENT = "\ufffd"


class RowStreamer(BaseStreamer):
    """Collects the tokens of several rows of one `generate` call.

    A row ends at its first end-of-text token (there may be several such ids); what `generate` feeds it afterwards is
    padding for the sake of the longer rows and is dropped. Nothing raises out of `put`: an exception inside `generate`
    would leave PEFT's hooks in the model. It is kept in `error` instead, for whoever called `generate`.

    Args:
        rows: how many rows are generated together.
        decode: token ids of a row to text.
        ends: ids that end an answer.
        on_token: called after every step, in the generating thread.
    """

    def __init__(
        self, rows: int, decode: Callable[[list[int]], str], ends: Iterable[int], on_token: Callable[[], None]
    ):
        self.tokens: list[list[int]] = [[] for _ in range(rows)]
        self.finished = [False] * rows
        self.error: BaseException | None = None
        self._decode, self._ends, self._on_token = decode, frozenset(ends), on_token
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        """Takes the prompt [rows, P] once, then one token per row [rows] a step."""
        try:
            if not self._prompt_seen:
                self._prompt_seen = True
                return
            for row, token in enumerate(value.flatten().tolist()):
                if self.finished[row]:
                    continue
                if token in self._ends:
                    self.finished[row] = True
                else:
                    self.tokens[row].append(token)
            self._on_token()
        except Exception as error:
            self.error = error

    def end(self) -> None:
        """Nothing is held back between steps."""

    def take(self, rows: torch.Tensor) -> None:
        """Takes the tokens [rows, T] of whole answers, padded behind their ends: beams cannot be streamed."""
        for row, tokens in enumerate(rows.tolist()):
            end = next((place for place, token in enumerate(tokens) if token in self._ends), None)
            self.tokens[row], self.finished[row] = tokens[:end], end is not None
        self._on_token()

    def text(self, row: int, final: bool = False) -> str:
        """The row's text so far; until `final`, bytes of a character that is not complete yet are held back."""
        text = self._decode(list(self.tokens[row]))
        return text if final or self.finished[row] else text.rstrip(REPLACEMENT)


class RowTexts:
    """The newest text of each row of a question, in however many `generate` calls they are made."""

    def __init__(self, rows: int):
        self._streams: list[tuple[RowStreamer, int] | None] = [None] * rows

    def started(self, group: Sequence[int], streamer: RowStreamer) -> None:
        """The rows of `group` come out of this streamer now, in its order."""
        for place, number in enumerate(group):
            self._streams[number] = (streamer, place)

    def read(self) -> tuple[str, ...]:
        return tuple("" if stream is None else stream[0].text(stream[1]) for stream in self._streams)


class RowSampler(LogitsProcessor):
    """Chooses the next token of each row from that row's own random stream, and leaves only that one possible.

    To be used with `do_sample=False`, which then takes the chosen token. Temperature scales the logits; top-p keeps
    the smallest set of most likely tokens whose probabilities sum to at least `top_p` (Holtzman et al., 2020,
    arXiv:1904.09751); one uniform number a step picks from what is left by the inverse of its cumulative distribution
    in the order of the vocabulary. All of it in float32 or better on the CPU, so a row depends on nothing but its own
    logits and its own seed: alone or beside others it is the same.
    """

    def __init__(self, sampling: Sampling, seeds: Sequence[int]):
        self.sampling = sampling
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """scores [rows, vocabulary] → the same shape, 0 at the chosen token and -inf elsewhere."""
        probabilities = torch.softmax(scores.float().cpu() / self.sampling.temperature, dim=-1)
        if self.sampling.top_p < 1:
            ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
            beyond = ordered.cumsum(-1) - ordered >= self.sampling.top_p
            beyond[:, 0] = False
            probabilities = probabilities.masked_fill(beyond.scatter(-1, order, beyond), 0.0)
        cumulative = probabilities.double().cumsum(-1)
        drawn = torch.stack([torch.rand(1, generator=own, dtype=torch.float64) for own in self._generators])
        # right=True passes over tokens of probability 0, also when 0.0 is drawn.
        chosen = torch.searchsorted(cumulative, drawn * cumulative[:, -1:], right=True)
        chosen = chosen.clamp(max=scores.shape[-1] - 1).to(scores.device)
        return torch.full_like(scores, float("-inf")).scatter(-1, chosen, 0.0)


class StopWhen(StoppingCriteria):
    """Ends all rows at the next step once `condition` holds; raising instead would leave hooks in the model. `prompt`
    is how many places of the rows are not of the answer, as `generate` counts them.
    """

    def __init__(self, condition: Callable[[], bool]):
        self._condition = condition
        self.prompt: int | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs) -> torch.BoolTensor:
        if self.prompt is None:
            self.prompt = input_ids.shape[1] - 1
        return torch.full((input_ids.shape[0],), self._condition(), dtype=torch.bool, device=input_ids.device)


def any_set(*events: threading.Event | None) -> Callable[[], bool]:
    """A condition for `StopWhen`: one of the events is set."""
    present = [event for event in events if event is not None]
    return lambda: any(event.is_set() for event in present)
