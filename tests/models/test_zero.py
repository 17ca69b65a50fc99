"""What ZeroGPU's refusals mean, and what is asked of it; `tests/spaces/test_zero.py` answers with its own package."""

from types import SimpleNamespace

import pytest

from rlhfv.corrections.conversation import Sampling
from rlhfv.errors import GenerationFailed, NoGPU
from rlhfv.models import zero


def test_seconds_are_asked_for_by_tokens_and_model(monkeypatch):
    def engine(size: float, why_not: str = ""):
        weights = SimpleNamespace(nbytes=size)
        model = SimpleNamespace(parameters=lambda: [weights])
        monkeypatch.setattr(zero, "_engine", SimpleNamespace(model=model, images=SimpleNamespace(why_not=why_not)))

    def seconds(tokens: int, late=()) -> int:
        return zero._answer_seconds([None, None], Sampling(max_new_tokens=tokens), [0, 0], {}, late, "")

    engine(14e9)
    assert seconds(512) == 32 and seconds(512, late=(("a", None),)) == 34
    assert (seconds(8), seconds(2048)) == (15, 100)
    engine(14e9, "images are encoded with the question")
    assert seconds(512) == 55 and seconds(2048) == 120, "two calls, and never more than is lent"


@pytest.mark.parametrize(
    ("title", "kind", "what"),
    [
        ("ZeroGPU quota exceeded", NoGPU, "used up"),
        ("ZeroGPU pending credits exceeded", NoGPU, "used up"),
        ("ZeroGPU queue timeout", NoGPU, "No GPU is free"),
        ("ZeroGPU client error", NoGPU, "No GPU is free"),
        ("ZeroGPU illegal duration", GenerationFailed, "longer than a GPU is lent"),
        ("ZeroGPU worker error", GenerationFailed, "taken away"),
    ],
)
def test_what_the_package_raises_is_told_in_words(title, kind, what):
    raised = type("Error", (Exception,), {"title": title, "message": "Try again in 1:00:00. "})()
    with pytest.raises(kind, match=what) as told, zero._refusals_told():
        raise raised
    assert type(told.value) is kind and told.value.why == "ZeroGPU says: Try again in 1:00:00."


def test_other_errors_stay_what_they_are():
    with pytest.raises(KeyError), zero._refusals_told():
        raise KeyError("a")
