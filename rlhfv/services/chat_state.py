"""A conversation with two voices, as the page shows it and the store keeps it: plain data."""

from dataclasses import dataclass, field, replace

from rlhfv.corrections.conversation import Prompt, Sampling, Turn

SIDES = ("left", "right")


@dataclass(frozen=True)
class Reply:
    """One column's part of a turn. `answer_id` is empty while the answer streams; `judged` names the outcome. `note`
    says how the answer ends where that is known; `problem` are the three parts of why there is none."""

    text: str = ""
    answer_id: str = ""
    finished: bool = False
    judged: str = ""
    voice_title: str = ""
    note: str = ""
    problem: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChatTurn:
    question: str
    images: tuple[str, ...]
    left: Reply
    right: Reply


@dataclass(frozen=True)
class ChatState:
    """What a page shows. `images` have been asked about; `pending_images` join with the next question. A question that
    waits for the model has a `place` in the line, and `wait_seconds` until its turn where that is known."""

    conversation_id: str
    left: str
    right: str
    turns: tuple[ChatTurn, ...] = ()
    images: tuple[str, ...] = ()
    pending_images: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    streaming: bool = False
    place: int = 0
    wait_seconds: int = 0

    @property
    def shown_image(self) -> str | None:
        """The newest picture, pending or asked about."""
        names = self.pending_images or self.images
        return names[-1] if names else None


def next_prompt(state: ChatState, side: str, question: str) -> Prompt:
    """What the voice of a column is asked next: its own turns, then `question` with the new pictures. A turn that it
    could not answer is none of them; the pictures of such a turn come with the next question.
    """
    history, images = [], ()
    for turn in state.turns:
        reply, images = getattr(turn, side), images + turn.images
        if not reply.problem:
            history.append(Turn(turn.question, reply.text, images))
            images = ()
    return Prompt(question, images + state.pending_images, tuple(history))


def with_replies(state: ChatState, replies: dict[str, Reply]) -> ChatState:
    return replace(state, turns=(*state.turns[:-1], replace(state.turns[-1], **replies)))


def state_from_dict(document: dict) -> ChatState:
    turns = tuple(
        ChatTurn(turn["question"], tuple(turn["images"]), _reply(turn["left"]), _reply(turn["right"]))
        for turn in document["turns"]
    )
    return ChatState(
        **{
            **document,
            "turns": turns,
            "images": tuple(document["images"]),
            "pending_images": tuple(document["pending_images"]),
            "sampling": Sampling(**document["sampling"]),
        }
    )


def _reply(document: dict) -> Reply:
    return Reply(**{**document, "problem": tuple(document.get("problem", ()))})
