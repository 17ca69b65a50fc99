"""How the answers to a benchmark are decoded, by name: figures made in different ways are not compared."""

from dataclasses import asdict, dataclass

from rlhfv.corrections.conversation import Sampling
from rlhfv.errors import InvalidData


@dataclass(frozen=True)
class Search:
    """How the likeliest answer is looked for: `beams` side by side (1 is greedy), and how much the logits of tokens
    that stand in the question or the answer already are pressed down (1 is not at all; Keskar et al., 2019,
    arXiv:1909.05858). What the model's makers set is left out where a search is given.
    """

    beams: int = 1
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class Decoding:
    """A search with its limit of new tokens, and the name that it goes by."""

    name: str
    max_new_tokens: int
    search: Search = Search()

    @property
    def sampling(self) -> Sampling:
        return Sampling(temperature=0.0, max_new_tokens=self.max_new_tokens)

    def values(self) -> dict:
        """All that makes up the decoding, as plain data."""
        return {**asdict(self.search), "length_penalty": 1.0, "max_new_tokens": self.max_new_tokens}


DECODINGS = {
    "greedy": Decoding("greedy", 1024),
    # As RLHF-V's authors decoded: their code passes a temperature too, but does not sample.
    "rlhfv": Decoding("rlhfv", 1024, Search(beams=3, repetition_penalty=1.1)),
}


def find_decoding(name: str) -> Decoding:
    """Raises `InvalidData` for a name that is none."""
    if name not in DECODINGS:
        raise InvalidData(
            f"There is no decoding {name!r}.",
            "Answers are compared only where they were decoded in the same way, so each way has its name.",
            f"Choose {' or '.join(DECODINGS)}.",
        )
    return DECODINGS[name]
