"""The formats in which answers to a benchmark are passed around: what a row of each holds, in and out.

| form            | file                 | a row                                                             |
|-----------------|----------------------|-------------------------------------------------------------------|
| amber           | JSON array           | id, response                                                      |
| pope            | JSON Lines           | question, answer: paired by line, as POPE's own script does       |
| pope-keyed      | JSON Lines           | question_id, question, answer                                     |
| llava           | JSON Lines           | question_id, prompt, text, answer_id, model_id, metadata          |
| caption         | JSON Lines           | image_id, caption                                                 |
| object-halbench | JSON Lines           | image_id, question or prompt, answer or text                      |
| mmhal           | JSON array           | MMHal-Bench's template with model_answer filled in                |
| lmms-eval       | JSON Lines           | doc_id, input, filtered_resps; question_id among a task's figures |
| vlmevalkit      | TSV or JSON array    | index, question, category, prediction                             |
"""

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from rlhfv.evaluation.score import Item


class BadRow(Exception):
    """A row that is none of its form: what was wrong, why it cannot be taken, what to do."""


@dataclass(frozen=True)
class AnswerRow:
    """An answer as its file has it. `number` is the row's, from 1; `key` the id that the file gives it, `place` its
    place in the data set from 0, `question` what was asked, `category` the part of the benchmark: each None where the
    file does not tell."""

    number: int
    text: str
    key: str | None = None
    place: int | None = None
    question: str | None = None
    category: str | None = None


@dataclass(frozen=True)
class Form:
    """A format. `has` are the columns by which it is known: all of the first, and one of each further group, but none
    that it `lacks`. `read` makes the fields of an `AnswerRow` of a row; `make` the row of an item, its place, the
    answer and the model's name. `by_image` says that the id is an image's, `one` that only one benchmark's answers
    come in it."""

    name: str
    title: str
    has: tuple[Collection[str], ...]
    read: Callable[[Mapping], dict]
    make: Callable[[Item, int, str, str], dict]
    layout: str = "lines"
    by_image: bool = False
    lacks: Collection[str] = ()
    one: bool = False

    def recognises(self, columns: Collection[str]) -> bool:
        every, *groups = (set(group) for group in self.has)
        here = set(columns)
        return every <= here and all(group & here for group in groups) and not here & set(self.lacks)


def as_id(id: str) -> int | str:
    """An id as these files write it: a number where it is one."""
    return int(id) if re.fullmatch(r"0|[1-9][0-9]{0,17}", id) else id


def image_number(name: str) -> str | None:
    """The number of an image: the last digits of its file name without zeros before them ("val2014_000042.jpg" is
    "42"), None where it has none."""
    digits = re.findall(r"[0-9]+", name.rpartition("/")[2].partition(".")[0])
    return str(int(digits[-1])) if digits else None


def image_key(item: Item) -> str:
    """What a file that names images calls the item: the number of its image, or its id where that has none."""
    return image_number(item.image) or item.id


def _text(row, *names):
    """The first of these columns that is there, which has to be text."""
    name = next((name for name in names if name in row), None)
    if name is None:
        raise BadRow(f"It has no {' and no '.join(names)}.", "That is where the answer stands.", "Add the answer.")
    if not isinstance(row[name], str):
        raise BadRow(
            f"Its {name} is {row[name]!r:.60}.", "An answer is text.", "Write the answer as a text in quotes."
        )
    return row[name]


def _key(row, name):
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, str)) or str(value).strip() == "":
        raise BadRow(
            f"Its {name} is {value!r:.60}.", "It tells which question was answered.", "Give the question's id."
        )
    return str(value).strip()


def _place(row, name):
    key = _key(row, name)
    if not re.fullmatch("[0-9]{1,18}", key):
        raise BadRow(f"Its {name} is {key!r:.60}.", "It is the place of a question, from 0.", "Give the number.")
    return int(key)


def _asked(row, *names):
    """The question, None where the row does not tell it as text."""
    return next((row[name] for name in names if isinstance(row.get(name), str) and row[name].strip()), None)


def _without_speaker(text):
    """RLHF-V's scripts leave the speaker's name before the answer."""
    return text.strip().removeprefix("Assistant:").strip() if text.lstrip().startswith("Assistant:") else text


def _read_object_halbench(row):
    name = "image_id" if "image_id" in row else "question_id"
    asked = _asked(row, "raw_question", "question", "prompt")
    return {"key": _key(row, name), "question": asked, "text": _without_speaker(_text(row, "text", "answer"))}


def _read_lmms_eval(row):
    given = row.get("filtered_resps", row.get("resps"))
    while isinstance(given, list) and len(given) == 1:
        given = given[0]
    if not isinstance(given, str):
        raise BadRow(f"Its answer is {given!r:.60}.", "One answer in text is wanted.", "Take samples with one answer.")
    figures = [value for value in row.values() if isinstance(value, dict) and "question_id" in value]
    key = _key(figures[0], "question_id") if figures else None
    return {"key": key, "place": _place(row, "doc_id"), "question": _asked(row, "input"), "text": given}


def _read_vlmevalkit(row):
    index = _key(row, "index")
    place = int(index) if re.fullmatch("[0-9]{1,18}", index) else None
    category = row.get("category") if isinstance(row.get("category"), str) else None
    asked = _asked(row, "question")
    return {"key": index, "place": place, "question": asked, "category": category, "text": _text(row, "prediction")}


def _make_llava(item, place, text, model):
    made = f"{model}\n{item.id}\n{text}".encode("utf-8", "surrogatepass")
    return {
        "question_id": as_id(item.id),
        "prompt": item.question,
        "text": text,
        "answer_id": hashlib.sha256(made).hexdigest()[:22],
        "model_id": model,
        "metadata": {},
    }


FORMS: Mapping[str, Form] = {
    form.name: form
    for form in (
        Form(
            "mmhal",
            "MMHal-Bench's template",
            ({"model_answer", "question"},),
            lambda row: {"question": _asked(row, "question"), "text": _text(row, "model_answer")},
            lambda item, place, text, model: {"model_answer": text},
            layout="array",
            one=True,
        ),
        Form(
            "lmms-eval",
            "lmms-eval's samples",
            ({"doc_id"}, {"filtered_resps", "resps"}),
            _read_lmms_eval,
            lambda item, place, text, model: {"doc_id": place, "input": item.question, "filtered_resps": text},
        ),
        Form(
            "amber",
            "AMBER's array",
            ({"id", "response"},),
            lambda row: {"key": _key(row, "id"), "text": _text(row, "response")},
            lambda item, place, text, model: {"id": as_id(item.id), "response": text},
            layout="array",
            one=True,
        ),
        Form(
            "vlmevalkit",
            "VLMEvalKit's table",
            ({"index", "prediction"},),
            _read_vlmevalkit,
            lambda item, place, text, model: {
                "index": as_id(item.id),
                "question": item.question,
                "category": item.group,
                "prediction": text,
            },
            layout="table",
        ),
        Form(
            "caption",
            "captions",
            ({"image_id", "caption"},),
            lambda row: {"key": _key(row, "image_id"), "text": _text(row, "caption")},
            lambda item, place, text, model: {"image_id": as_id(image_key(item)), "caption": text},
            by_image=True,
        ),
        Form(
            "object-halbench",
            "Object HalBench's answers",
            (set(), {"image_id", "raw_question"}, {"image_id", "question_id"}, {"answer", "text"}),
            _read_object_halbench,
            lambda item, place, text, model: {
                "image_id": as_id(image_key(item)),
                "question": item.question,
                "answer": text,
            },
            by_image=True,
            one=True,
        ),
        Form(
            "llava",
            "LLaVA's answers",
            ({"question_id", "text"},),
            lambda row: {
                "key": _key(row, "question_id"),
                "question": _asked(row, "prompt"),
                "text": _text(row, "text"),
            },
            _make_llava,
            lacks=("image",),  # else it is a file of questions
        ),
        Form(
            "pope-keyed",
            "POPE's answers by question_id",
            ({"question_id", "answer"},),
            lambda row: {
                "key": _key(row, "question_id"),
                "question": _asked(row, "question", "raw_question", "text"),
                "text": _text(row, "answer"),
            },
            lambda item, place, text, model: {
                "question_id": as_id(item.id),
                "question": item.question,
                "answer": text,
            },
        ),
        Form(
            "pope",
            "POPE's answers by line",
            ({"question", "answer"},),
            lambda row: {"question": _asked(row, "question"), "text": _text(row, "answer")},
            lambda item, place, text, model: {"question": item.question, "answer": text},
        ),
    )
}
