"""What the Tasks tab shows: how far the work is, what came in, how well people agree, as nodes of views."""

from rlhfv.corrections.agreement import Agreement
from rlhfv.corrections.tasks import Task, TaskCounts
from rlhfv.services.answering import Written
from rlhfv.services.queue import GoldScore, Intake, Status
from rlhfv.studio.chat_view import alert, thumb
from rlhfv.studio.jobs import Job
from rlhfv.studio.pairs_view import problem_table
from rlhfv.studio.view import Node, empty, h, progress

DUE = {
    "answer": "waits for an answer",
    "first": "waits for a judgement",
    "second": "waits for a second annotator",
    "": "done",
}
ANY = "any"
SHOWN_FAILURES = 50
GOLD = '"gold": [{"start": 2, "end": 5, "replacement": "blue", "kind": "attribute"}]'


def refused() -> list[Node]:
    return [
        empty(
            "What comes in is up to the owner.",
            "Here pictures and questions become tasks, and the model answers them in advance. What there is for you "
            "to do waits in Correct.",
        )
    ]


def standing(status: Status, with_second: bool) -> list[Node]:
    """The counts, and how much of the work is done."""
    counts = status.counts
    if not counts.total:
        return [
            empty(
                "No tasks yet.",
                "Give pictures and what to ask about them: each becomes a task. Then let the model answer them in "
                "advance, and everything to correct waits in Correct.",
            )
        ]
    shown = (
        (counts.unanswered, "wait for an answer"),
        (counts.first, "wait for a judgement"),
        *([(counts.second, "wait for a second annotator")] if with_second else []),
        (status.open_elsewhere, "open at others now"),
        (counts.done, "done"),
    )
    return [
        h(
            "div.counts",
            *(h("p", h("strong", f"{number:,}"), f" {what}") for number, what in shown),
            role="group",
            aria_label="Tasks",
        ),
        progress(counts.done / counts.total, f"{counts.done:,} of {counts.total:,} tasks done", "Tasks done"),
    ]


def listing(tasks: list[Task]) -> list[Node]:
    if not tasks:
        return [h("p.hint", "None of that kind.")]
    return [h("ul.pairs", *map(_item, tasks))]


def _item(task: Task) -> Node:
    pictures = task.prompt.all_images
    return h(
        "li.pair-item.still",
        thumb(pictures[-1]) if pictures else h("span.thumb.none"),
        h(
            "span.pair-text",
            h("strong", task.prompt.question, dir="auto"),
            h(
                "span.facts",
                h("span.chip", DUE[task.due]),
                h("span.by", " · ".join(filter(None, (task.batch, task.source))), dir="auto"),
            ),
        ),
        data_key=task.id,
    )


def quality(agreement: Agreement, scores: tuple[GoldScore, ...], gold: int) -> list[Node]:
    """How far two annotators agree, and how well each does on items whose corrections are known."""
    nodes = [h("h3", "Agreement")]
    if agreement.items:
        nodes.append(
            h(
                "p",
                f"Over {_answers(agreement.items)} that two people judged without seeing each other's work: span F1 ",
                h("strong", f"{agreement.exact_f1:.2f}"),
                " exact, ",
                h("strong", f"{agreement.overlapping_f1:.2f}"),
                " overlapping; κ on flagged words ",
                h("strong", f"{agreement.kappa:.2f}"),
                ".",
            )
        )
    else:
        nodes.append(h("p.hint", "Shown as soon as two people judged the same answer."))
    nodes.append(h("h3", "Gold items"))
    if not gold:
        return [
            *nodes,
            h(
                "p.hint",
                "None. A row of a file with an answer and its known corrections is one, and is mixed in unseen. They "
                "stand in the field gold, start and end counted in characters of the answer: ",
                h("code", GOLD),
            ),
        ]
    if not scores:
        return [*nodes, h("p.hint", f"{gold:,}, and nobody came across one yet.")]
    rows = [
        h(
            "tr",
            h("th", score.annotator or "no name given", scope="row", dir="auto"),
            h("td", f"{score.agreement.items:,}"),
            h("td", f"{score.agreement.exact_f1:.2f}"),
            h("td", f"{score.agreement.overlapping_f1:.2f}"),
            h("td", f"{score.agreement.kappa:.2f}"),
        )
        for score in scores
    ]
    names = ("Annotator", f"Of {gold:,} items", "Span F1, exact", "Overlapping", "κ on words")
    head = h("tr", *(h("th", name, scope="col") for name in names))
    return [*nodes, h("div.scroll", h("table.plain", h("thead", head), h("tbody", *rows)))]


def reading(job: Job) -> list[Node]:
    return [progress(None, f"Taking in: {job.done:,} read …" if job.done else "Taking in …", "Taking in")]


def taken_in(came: Intake) -> list[Node]:
    """What came of a file, a folder or a dataset."""
    here = f", {len(came.duplicates):,} here already" if came.duplicates else ""
    bad = f", {len(came.problems):,} left out" if came.problems else ""
    nodes = [h("p.done", f"{_tasks(len(came.added))} added{here}{bad}.", role="status")]
    return [*nodes, problem_table(came.problems)] if came.problems else nodes


def writing(job: Job) -> list[Node]:
    """How far answers in advance are."""
    if job.error:
        return alert(*job.error)
    if job.running:
        if not job.total:
            return [progress(None, "Loading the model …", "Answering")]
        return [
            progress(job.done / job.total, f"Answering: {job.done:,} of {job.total:,} tasks", "Answering"),
            h("p.hint", "You may close this page: it goes on. Each batch is kept as soon as it is written."),
        ]
    state: Written | None = job.result
    if state is None:
        return []
    if not state.total:
        return [h("p.done", "No task waits for an answer.", role="status")]
    left = state.total - state.done
    nodes = [
        h(
            "p.done",
            f"{_answers(state.written)} written" + (f", {_tasks(left)} left." if left else "."),
            role="status",
        )
    ]
    if state.failures:
        rows = [h("li", h("code", failure.task_id[:8]), f" {failure.error}") for failure in state.failures]
        nodes.append(
            h(
                "div.warning",
                h("strong", f"{_tasks(len(state.failures))} could not be answered and wait on."),
                h("ul.reasons", *rows[:SHOWN_FAILURES]),
                role="status",
            )
        )
    return nodes


def number(counts: TaskCounts, of_kind: str) -> int:
    """How many tasks the list has."""
    return {
        ANY: counts.total,
        "answer": counts.unanswered,
        "first": counts.first,
        "second": counts.second,
        "": counts.done,
    }[of_kind]


def due_choices() -> list[tuple[str, str]]:
    return [(ANY, ANY), *((title.capitalize(), due) for due, title in DUE.items())]


def _tasks(number: int) -> str:
    return f"{number:,} task{'s' if number != 1 else ''}"


def _answers(number: int) -> str:
    return f"{number:,} answer{'s' if number != 1 else ''}"
