"""Tasks out of files: a folder of pictures, or JSON lines with questions, answers and known corrections."""

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rlhfv.corrections.conversation import Answer, Prompt
from rlhfv.corrections.edits import edits_from_rows
from rlhfv.corrections.exchange import RowProblem
from rlhfv.corrections.fields import read_fields, require_type
from rlhfv.corrections.images import MAX_BYTES, ImageShelf
from rlhfv.corrections.lines import parse_lines, read_lines
from rlhfv.corrections.pairs import GREEDY, UNKNOWN_MODEL
from rlhfv.corrections.tasks import EVERYBODY, NewTask, validate_task
from rlhfv.errors import InvalidData, NotFound, StudioError

TASKS_FILE = "tasks.jsonl"
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
_FIELDS = {
    "image": str,
    "images": list,
    "question": str,
    "history": list,
    "answer": str,
    "model": (str, dict),
    "gold": list,
    "source": str,
}


def read_tasks(
    path: str | Path, shelf: ImageShelf, questions: tuple[str, ...] = (), batch: str = ""
) -> Iterator[NewTask | RowProblem]:
    """Good rows become tasks, bad rows are told with a reason. Pictures are cleaned and put on the shelf.

    `path` is a folder of pictures, each of which is asked every question, or a JSONL file (or a folder that holds
    `tasks.jsonl`) with a row for each task: `image` or `images` (names inside the file's folder, or of stored
    images), `question` (without one the row is asked every one of `questions`), and where there is an answer already
    `answer` and `model`, the known corrections `gold` (rows with start, end, replacement, kind), `history`, `source`.

    Raises:
        InvalidData: the path cannot be read at all, or pictures come without a question.
    """
    path = Path(path)
    file = path / TASKS_FILE if (path / TASKS_FILE).is_file() else path
    if file.is_dir():
        yield from _read_pictures(file, shelf, questions, batch)
        return
    for number, row in parse_lines(read_lines(file)):
        try:
            if isinstance(row, StudioError):
                raise row
            for task in _tasks_of_row(row, file.parent, shelf, questions):
                task = replace(task, batch=batch, row=number)
                validate_task(task)
                yield task
        except StudioError as error:
            yield RowProblem(number, error.what, error.why, error.fix)


def _read_pictures(
    folder: Path, shelf: ImageShelf, questions: tuple[str, ...], batch: str
) -> Iterator[NewTask | RowProblem]:
    pictures = sorted(each for each in folder.rglob("*") if each.suffix.lower() in PICTURES and each.is_file())
    if not questions:
        raise InvalidData(
            f"The folder {folder.name} came without a question.",
            "Each picture is asked one.",
            "Give at least one question with it.",
        )
    if not pictures:
        raise InvalidData(
            f"There is no picture in {folder.name}.",
            f"Pictures end in {', '.join(PICTURES)}; rows stand in {TASKS_FILE}.",
            "Choose another folder.",
        )
    for number, picture in enumerate(pictures, 1):
        try:
            image = shelf.intake(picture.read_bytes()).name
            for question in questions:
                task = NewTask(Prompt(question, (image,)), batch=batch, row=number)
                validate_task(task)
                yield task
        except StudioError as error:
            yield RowProblem(number, f"{picture.name}: {error.what}", error.why, error.fix)
        except OSError as error:
            yield RowProblem(number, f"{picture.name} could not be read.", f"{error.strerror}.", "Check its rights.")


def _tasks_of_row(row: object, folder: Path, shelf: ImageShelf, questions: tuple[str, ...]) -> Iterator[NewTask]:
    require_type(row, dict, "row")
    fields = read_fields({name: value for name, value in row.items() if value is not None}, _FIELDS, "", _FIELDS)
    names = [*fields.get("images", ()), *([fields["image"]] if "image" in fields else [])]
    if not names:
        raise InvalidData("The row names no image.", "The question is about one.", "Add the field 'image'.")
    images = tuple(_take_in(name, folder, shelf) for name in names)
    asked = (fields["question"],) if "question" in fields else questions
    if not asked:
        raise InvalidData("The row has no question.", "The model is asked one.", "Add it, or give one for all rows.")
    for question in asked:
        prompt = Prompt.from_dict({"question": question, "images": images, "history": _history(fields)})
        answer = _answer(prompt, fields) if "answer" in fields else None
        gold = edits_from_rows(fields["gold"], answer.text if answer else None) if "gold" in fields else None
        yield NewTask(prompt, fields.get("source", ""), answer=answer, gold=gold)


def _history(fields: dict) -> list[dict]:
    for turn in (history := fields.get("history", [])):
        known = isinstance(turn, dict) and all(isinstance(turn.get(name), str) for name in ("question", "answer"))
        if not known or turn.get("images"):
            raise InvalidData(
                f"An earlier turn is {turn!r:.80}.",
                "A turn has a question and an answer; pictures stand in the row's own images.",
                "Mend that turn.",
            )
    return history


def _answer(prompt: Prompt, fields: dict) -> Answer:
    model = fields.get("model", {})
    if isinstance(model, str):
        model = {"name": model}
    named = {name: value for name, value in model.items() if name in ("name", "revision", "adapter")}
    if not all(isinstance(value, str) for value in named.values() if value is not None):
        raise InvalidData(f"The model is {model!r:.80}.", "It is named by texts.", "Give its name.")
    return Answer(
        id=uuid.uuid4().hex,
        prompt=prompt,
        text=fields["answer"],
        model=replace(UNKNOWN_MODEL, **{name: value for name, value in named.items() if value}),
        sampling=GREEDY,
        visitor=EVERYBODY,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        extra={"imported": True},
    )


def _take_in(name: object, folder: Path, shelf: ImageShelf) -> str:
    """The stored name of an image inside the folder, or of one that is on the shelf already."""
    if not isinstance(name, str) or not name:
        raise InvalidData(f"An image is named {name!r:.80}.", "A name is a text.", "Mend that field.")
    with contextlib.suppress(NotFound):
        return shelf.path(name).name
    file = folder / name
    try:
        if not file.resolve().is_relative_to(folder.resolve()):
            raise InvalidData(
                f"The image {name!r:.80} lies outside of the folder.",
                "Only pictures beside the file are taken in.",
                "Put it there.",
            )
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise InvalidData(
            f"The image {name!r:.80} could not be read.",
            f"It should lie beside the file ({type(error).__name__}).",
            "Put it there and try again.",
        ) from error
    return shelf.intake(data).name
