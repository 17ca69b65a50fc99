"""Conversations as lists of messages, as TRL and LLaMA-Factory have them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rlhfv.corrections.conversation import Prompt
from rlhfv.errors import InvalidData


@dataclass(frozen=True)
class Message:
    """One message. `images` counts the pictures that it places; None where the format leaves their places open."""

    user: bool
    text: str
    images: int | None = None


def to_prompt(messages: Sequence[Message], images: Sequence[str]) -> dict:
    """`question`, `images` and `history` of a pair's row. Pictures without a place belong to the first question.

    Raises:
        InvalidData: the messages do not alternate from a question to a question, or place another number of pictures.
    """
    if len(messages) % 2 == 0 or any(message.user == index % 2 for index, message in enumerate(messages)):
        raise InvalidData(
            f"The conversation has {len(messages)} messages ({', '.join(_speakers(messages))}).",
            "Questions and answers take turns, and the last message is the question that both answers reply to.",
            "Mend the order of the messages.",
        )
    questions = messages[::2]
    counts = [message.images for message in questions]
    if None in counts:
        counts = [len(images), *[0] * (len(questions) - 1)]
    if sum(counts) != len(images) or any(message.images for message in messages[1::2]):
        placed = sum(message.images or 0 for message in messages)
        raise InvalidData(
            f"The messages place {placed} pictures, and the row has {len(images)}.",
            "Each picture has one place in a question.",
            "Add the missing place or picture, or remove the one too many.",
        )
    names = iter(images)
    turns = [
        {"question": message.text, "images": [next(names) for _ in range(count)]}
        for message, count in zip(questions, counts, strict=True)
    ]
    history = [turn | {"answer": answer.text} for turn, answer in zip(turns, messages[1::2], strict=False)]
    return turns[-1] | {"history": history}


def from_prompt(prompt: Prompt) -> Iterator[Message]:
    """The messages of a prompt; the last is its question."""
    for turn in prompt.history:
        yield Message(True, turn.question, len(turn.images))
        yield Message(False, turn.answer, 0)
    yield Message(True, prompt.question, len(prompt.images))


def _speakers(messages: Sequence[Message]) -> list[str]:
    return ["question" if message.user else "answer" for message in messages[:6]]
