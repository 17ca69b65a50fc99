"""What letting voices answer a benchmark shows: how far each is, what failed, and which files are missing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlhfv.evaluation.files import WantedFile
from rlhfv.evaluation.score import Item
from rlhfv.services.asking import Failure
from rlhfv.services.benchmarking import Offered
from rlhfv.services.model_host import Voice
from rlhfv.studio.chat_view import alert
from rlhfv.studio.view import Node, h, progress
from rlhfv.units import human_seconds

if TYPE_CHECKING:
    from rlhfv.studio.benchmark_answers import Answering, Turn

SHOWN_FAILURES = 5
ON_ITS_WAY = "You may close this page: it goes on. Each batch is kept as soon as it is answered."


def name(offered: Offered, judge: bool) -> str:
    """What the list calls a benchmark; one that only a judge can count says so before it is answered, and whether
    this studio has one."""
    what = offered.benchmark
    if not _needs_judge(offered):
        return what.title
    return f"{what.title} · counted by a judge" if judge else f"{what.title} · counted by a judge, which is not here"


def start_a_judge(offered: Sequence[Offered]) -> list[Node]:
    """For whoever manages a studio without a judge: how it gets one."""
    if not any(one.ready and _needs_judge(one) for one in offered):
        return []
    return [
        h(
            "p.hint",
            "What a judge counts can be answered now and is counted once there is one. To have one, start the studio "
            "with ",
            h("code", "python app.py --judge URL#MODEL"),
            ", and with ",
            h("code", "--judge-key-env VARIABLE"),
            " where its server asks for a key.",
        )
    ]


def _needs_judge(offered: Offered) -> bool:
    return offered.benchmark.variant() in offered.benchmark.judged


def voice(one: Voice) -> str:
    return f"{one.title} ({one.notice})" if one.server else one.title


def sending(items: Sequence[Item], voices: Sequence[Voice]) -> list[Node]:
    """Before anything is sent: how many questions go to which server."""
    pictures = " with their pictures" if any(item.image for item in items) else ""
    questions = "1 question" if len(items) == 1 else f"Up to {len(items):,} questions"
    rows = [h("li", f"{questions}{pictures} to {one.server}, for {one.title}", dir="auto") for one in voices]
    return [
        h(
            "div.warning",
            h("strong", "Answer sends to a server, which charges for it what it charges its customers:"),
            h("ul.reasons", *rows),
            h("p.by", "What is answered already is not sent again."),
            role="status",
        )
    ]


def standing(answering: "Answering", running: bool) -> list[Node]:
    """How far each voice is, in the order in which they answer."""
    nodes: list[Node] = [h("p.by", f"{answering.title}, {answering.decoding}")]
    for turn in answering.ended:
        nodes += [] if turn.error else _ended(turn)
    refused: dict[tuple, list[str]] = {}
    for turn in answering.ended:
        if turn.error:
            refused.setdefault(turn.error, []).append(turn.voice.title)
    for (what, why, fix), titles in refused.items():
        nodes += alert(f"{' and '.join(titles)}: {what}", why, fix)
    waiting = [turn for turn in answering.turns if not turn.ended]
    if running and waiting:
        nodes += _under_way(waiting[0], answering.stop.is_set(), [turn.voice.title for turn in waiting[1:]])
    elif not running and answering.stop.is_set():
        nodes.append(h("p.hint", "Stopped. What was answered is kept, and Answer goes on there."))
    return [*nodes, *_failures(answering.turns)]


def _under_way(turn: "Turn", stopping: bool, later: Sequence[str]) -> list[Node]:
    state, title = turn.progress, turn.voice.title
    if stopping:
        return [progress(None, "Stopping: what is under way ends first …", "Answering")]
    if state is None:
        return [progress(None, f"{title}: loading the model …", "Answering"), h("p.hint", ON_ITS_WAY)]
    left = f", about {human_seconds(state.seconds_left)} left" if state.seconds_left else ""
    text = f"{title}: {state.done:,} of {state.total:,} items{left}"
    then = f"Then {' and '.join(later)}. " if later else ""
    return [
        progress(state.done / state.total if state.total else None, text, f"{title} answers"),
        h("p.hint", f"{then}{ON_ITS_WAY}"),
    ]


def _ended(turn: "Turn") -> list[Node]:
    state = turn.progress
    if state is None:
        return []
    told = f"{turn.voice.title}: {state.done:,} of {state.total:,} items have an answer."
    whole = "done" if state.done == state.total else "hint"
    return [h(f"p.{whole}", told, role="status", dir="auto")]


def _failures(turns: Sequence["Turn"]) -> list[Node]:
    """What failed with each voice; what failed with several alike, such as a picture that is missing, is told once."""
    alike: dict[tuple, list[Turn]] = {}
    for turn in turns:
        if turn.progress and turn.progress.failures:
            alike.setdefault(tuple((one.item, str(one.error)) for one in turn.progress.failures), []).append(turn)
    return [
        _failed(" and ".join(turn.voice.title for turn in those), those[0].progress.failures)
        for those in alike.values()
    ]


def _failed(who: str, failures: Sequence[Failure]) -> Node:
    """The first few by item, the others counted; why, and what to do, once for all that it is true of."""
    items = "1 item has no answer" if len(failures) == 1 else f"{len(failures):,} items have no answer"
    causes: dict[tuple[str, str], list[Node]] = {}
    for one in failures[:SHOWN_FAILURES]:
        row = h("li", h("code", one.item), f" {one.error.what}", dir="auto")
        causes.setdefault((one.error.why, one.error.fix), []).append(row)
    more = len(failures) - SHOWN_FAILURES
    return h(
        "div.warning",
        h("strong", f"{items}; Answer asks again. "),
        h("span.by", who, dir="auto"),
        *(part for told, rows in causes.items() for part in (h("ul.reasons", *rows), h("p.by", " ".join(told)))),
        h("p.by", f"And {more:,} more.") if more > 0 else None,
        role="status",
    )


def no_files(folder: str, offered: Sequence[Offered]) -> list[Node]:
    """Why no benchmark is offered; `folder` is "" for whoever cannot put files there."""
    if not folder:
        return [h("p.hint", "This studio has no benchmark's files. Ask its owner, or run a studio of your own.")]
    return [
        h(
            "div.warning",
            h("strong", "No benchmark's files are here yet. "),
            f"The studio brings none along; they are looked for in {folder}.",
        ),
        *other_files(folder, offered),
    ]


def other_files(folder: str, offered: Sequence[Offered]) -> list[Node]:
    """Which files the benchmarks want that are not offered, and where they come from."""
    missing = [one for one in offered if not one.ready]
    if not folder or not missing:
        return []
    rows = [
        h(
            "li",
            h("strong", one.benchmark.title),
            h("ul.reasons", *(_wanted(file.wanted) for file in one.files if not file.there and file.wanted.required)),
        )
        for one in missing
    ]
    return [h("details", h("summary", "Benchmarks whose files are missing"), h("ul.missing-files", *rows))]


def _wanted(file: WantedFile) -> Node:
    return h("li", h("code", file.path), f": {file.what}; from {file.source}")
