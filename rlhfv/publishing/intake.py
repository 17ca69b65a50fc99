"""Tasks out of a dataset of the Hub: its pictures, with its prompts or with given questions."""

from collections.abc import Iterator

from rlhfv.corrections.conversation import Prompt
from rlhfv.corrections.exchange import RowProblem
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.tasks import NewTask, validate_task
from rlhfv.errors import InvalidData, StudioError
from rlhfv.publishing.formats.pictures import read_picture
from rlhfv.publishing.formats.source import Row, open_rows

IMAGES = ("image", "images", "picture")
QUESTIONS = ("question", "prompt", "instruction")


def read_hub_tasks(
    repo: str,
    shelf: ImageShelf,
    questions: tuple[str, ...] = (),
    batch: str = "",
    limit: int | None = None,
    token: str | None = None,
) -> Iterator[NewTask | RowProblem]:
    """The first `limit` rows of a dataset, streamed: good rows become tasks, bad ones are told with a reason.

    The picture stands in a column `image`, `images` or `picture`; each is asked every one of `questions`, or without
    them what its column `question`, `prompt` or `instruction` says. Without a token the dataset is read as nobody.

    Raises:
        InvalidData: there is no such dataset, or nobody may read it with this token.
    """
    for count, row in enumerate(open_rows(repo, token if token is not None else False)):
        if limit is not None and count == limit:
            return
        try:
            prompts = list(_prompts(row, shelf, questions))
        except StudioError as error:
            yield row.problem(error)
            continue
        for prompt in prompts:
            task = NewTask(prompt, source=f"{repo}/{row.file}/{row.number}", batch=batch, row=row.number)
            try:
                validate_task(task)
                yield task
            except StudioError as error:
                yield row.problem(error)


def _prompts(row: Row, shelf: ImageShelf, questions: tuple[str, ...]) -> Iterator[Prompt]:
    columns = row.columns()
    cells = next((columns[name] for name in IMAGES if columns.get(name) is not None), None)
    names = tuple(
        shelf.intake(read_picture(cell, row.folder)).name for cell in (cells if isinstance(cells, list) else [cells])
    )
    asked = questions or tuple(value for name in QUESTIONS if isinstance(value := columns.get(name), str))[:1]
    if not asked:
        raise InvalidData(
            "The row has no question.",
            f"Its columns are {', '.join(columns)}; a question stands in {' or '.join(QUESTIONS)}.",
            "Give a question for all rows.",
        )
    for question in asked:
        yield Prompt(question, names)
