"""Answers to a benchmark from a file and into one, in the formats of `answer_forms`."""

import csv
import io
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from rlhfv.corrections.edits import MAX_ANSWER_CHARS
from rlhfv.corrections.exchange import RowProblem
from rlhfv.corrections.lines import parse_lines, read_lines
from rlhfv.errors import InvalidData
from rlhfv.evaluation.answer_forms import FORMS, AnswerRow, BadRow, Form
from rlhfv.evaluation.answer_pairing import other_questions, pair, pair_by_line, refuse_shared_images
from rlhfv.evaluation.score import Item


class Answers(dict[str, str]):
    """Item id → answer. `form` is the format it came in, `problems` are the rows that were not taken, and `notes` say
    what could not be checked."""

    def __init__(
        self, form: str, answers: Mapping[str, str], problems: Sequence[RowProblem], notes: Sequence[str] = ()
    ):
        super().__init__(answers)
        self.form, self.problems, self.notes = form, tuple(problems), tuple(notes)


def read_answers_file(path: Path, items: Sequence[Item], form: str = "", own: Collection[str] = FORMS) -> Answers:
    """The answers of a file to these items; every row that is none is named in `problems`. A format that is not named
    is recognised; `own` are those in which the items' benchmark is passed around. A row of another part of the
    benchmark than the items' is passed over.

    Raises:
        InvalidData: the file cannot be read, is in no known format or in another benchmark's own, or answers other
            questions.
    """
    raw = _rows(path)
    known = find_form(form) if form else _recognise(path, raw)
    if known.one and not form and known.name not in own:
        raise InvalidData(
            f"{path.name} has the form of {known.title}.",
            "Only one benchmark's answers come in it; numbers alone would pair them with another's questions.",
            f"Name the benchmark that it answers. If it is this one, say so in a terminal: --format {known.name}.",
        )
    rows, problems = [], []
    for number, row in raw:
        try:
            rows.append(_read_row(known, number, row))
        except BadRow as bad:
            problems.append(RowProblem(number, *bad.args))
    if known.name == "pope":
        return Answers(known.name, pair_by_line(rows, items), problems)
    answers, strangers, notes = pair(known, rows, items)
    return Answers(known.name, answers, sorted(problems + strangers, key=lambda problem: problem.row), notes)


def write_answers_file(
    path: Path,
    form: str,
    items: Sequence[Item],
    answers: Mapping[str, str],
    model: str = "",
    template: Path | None = None,
) -> int:
    """Writes the answers that there are, in the order of the items, and returns how many. The same answers give the
    same bytes, and what was written is read back as it was, but for "Assistant:" before an answer to Object HalBench.

    Args:
        model: the name that LLaVA's form gives the model.
        template: MMHal-Bench's template, into which its form fills the answers.

    Raises:
        InvalidData: the format cannot carry these answers, or the file cannot be written.
    """
    known = find_form(form)
    _refuse_workbook(path)
    given = [(place, item) for place, item in enumerate(items) if item.id in answers]
    if len(given) < len(items) and (form == "pope" or (form == "mmhal" and given)):
        why = {
            "pope": "In this format answers belong to questions by their line, so that none may be missing.",
            "mmhal": "In this format a missing answer looks like an empty one.",
        }
        raise InvalidData(
            f"{len(items) - len(given):,} of {len(items):,} questions have no answer.",
            why[form],
            f'Answer the rest, or take the format "{"pope-keyed" if form == "pope" else "llava"}".',
        )
    if known.by_image:
        refuse_shared_images(known, items)
    if form == "mmhal":
        rows = _fill(template, items, answers)
    else:
        rows = [known.make(item, place, answers[item.id], model) for place, item in given]
    try:
        path.write_bytes(_bytes(known, path, rows))
    except OSError as error:
        raise InvalidData(f"{path} could not be written.", f"{error.strerror}.", "Name another place.") from error
    except UnicodeEncodeError as error:
        raise InvalidData(
            f"An answer holds half a character ({error.object[error.start]!r}).",
            "A table is text in UTF-8, which has no such thing.",
            "Write the answers as JSON.",
        ) from error
    return len(given)


def find_form(name: str) -> Form:
    """The format of this name. Raises InvalidData for an unknown one."""
    if name not in FORMS:
        raise InvalidData(f"The format is {name!r:.80}.", f"There are {', '.join(FORMS)}.", "Choose one of them.")
    return FORMS[name]


def _rows(path):
    """(number, row) of each row, numbers from 1; a row is an InvalidData where it could not be parsed."""
    _refuse_workbook(path)
    try:
        with path.open("rb") as file:
            first = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        if path.suffix.lower() == ".tsv":
            return _table_rows(path.read_bytes().decode("utf-8-sig"))
        if first != b"[":
            return list(parse_lines(read_lines(path)))
        rows = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise InvalidData(
            f"{path.name or path} could not be read.", f"{error.strerror}.", "Name another file."
        ) from error
    except (ValueError, RecursionError, csv.Error) as error:
        raise InvalidData(
            f"{path.name} could not be parsed ({error}).",
            "A file of answers is JSON Lines, one JSON array, or a table in TSV, in UTF-8.",
            "Mend it, or export the answers again.",
        ) from error
    return list(enumerate(rows, 1))


def _table_rows(text):
    limit = csv.field_size_limit(sys.maxsize)  # a column may hold whole pictures
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True)
        header = next(reader, [])
        return [
            (number, dict(zip(header, row, strict=True)) if len(row) == len(header) else _torn(row, header))
            for number, row in enumerate(reader, 1)
            if row
        ]
    finally:
        csv.field_size_limit(limit)


def _torn(row, header):
    return InvalidData(
        f"It has {len(row)} columns.",
        f"The table has {len(header)}.",
        "Mend the row: tabs and line ends within an answer stand in quotes.",
    )


def _recognise(path, rows):
    columns = next((row.keys() for _, row in rows if isinstance(row, dict)), None)
    for form in FORMS.values():
        if columns is not None and form.recognises(columns):
            return form
    torn = next((f"Row {number}: {row.what} {row.why}" for number, row in rows if isinstance(row, InvalidData)), "")
    if columns is None and torn:
        raise InvalidData(
            f"{path.name} is in no format that is known. {torn}",
            f"The formats are {', '.join(FORMS)}, as JSON Lines, one JSON array or a TSV table in UTF-8.",
            "Check the file, or export the answers again.",
        )
    found = "It has no rows" if columns is None else f"Its columns are {', '.join(map(str, columns))}"
    raise InvalidData(
        f"{path.name} is in no format that is known. {found:.300}.",
        f"The formats are {', '.join(FORMS)}.",
        "Check the file, or name its format.",
    )


def _read_row(form, number, row):
    if isinstance(row, InvalidData):
        raise BadRow(row.what, row.why, row.fix)
    if not isinstance(row, dict):
        raise BadRow(f"It is {row!r:.60}.", "A row is an object with named values.", "Mend or remove the row.")
    answer = AnswerRow(number, **form.read(row))
    if len(answer.text) > MAX_ANSWER_CHARS:
        raise BadRow(
            f"Its answer has {len(answer.text):,} characters.",
            f"At most {MAX_ANSWER_CHARS:,} are taken.",
            "Let the model stop earlier, or shorten it.",
        )
    return answer


def _refuse_workbook(path):
    if path.suffix.lower() in (".xlsx", ".xls"):
        raise InvalidData(
            f"{path.name} is an Excel workbook.",
            "The studio brings nothing along that reads or writes one.",
            "Save the table as TSV; VLMEvalKit does it with PRED_FORMAT=tsv.",
        )


def _fill(template, items, answers):
    if template is None:
        raise InvalidData(
            "MMHal-Bench's template was not named.",
            "This format is the template with the answers filled in.",
            "Name the file mmhal-bench_answer_template.json, or choose another format.",
        )
    rows = [row for _, row in _rows(template)]
    asked = [row.get("question") if isinstance(row, dict) else None for row in rows]
    if asked != [item.question for item in items]:
        raise other_questions(f"The questions of {template.name} are not those of the items, in their order")
    return [row | {"model_answer": answers.get(item.id, "")} for row, item in zip(rows, items, strict=True)]


def _bytes(form, path, rows):
    if form.layout == "table" and path.suffix.lower() != ".json":
        file = io.StringIO(newline="")
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(form.make(Item("", ""), 0, "", ""))
        writer.writerows(row.values() for row in rows)
        return file.getvalue().encode()
    if form.layout == "lines":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    return json.dumps(rows, indent=2).encode()
