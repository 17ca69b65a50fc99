"""What the Train tab shows beside its form: pairs, check, command and the questions asked again, as nodes of views."""

from collections import Counter

from rlhfv.ddpo.outcome import describe_outcome
from rlhfv.run_folder import RunFolder
from rlhfv.runs.state import Run
from rlhfv.studio import runs_view
from rlhfv.studio.chat_view import thumb
from rlhfv.studio.view import Node, button, empty, h, progress
from rlhfv.units import human_bytes, human_seconds

EMPTY = (
    "No training run yet.",
    "Correct some answers, or add oracle pairs, then start one on the left. It goes on when you close the page.",
)
TONES = {"mended": "ok", "still wrong": "bad", "no longer mentioned": ""}


def counts(found) -> list[Node]:
    """How many pairs there are, and what to expect of so many."""
    kinds = [h(f"span.kind.{kind}", f"{kind} {count}") for kind, count in sorted(found.kinds.items())]
    return [
        h(
            "div.counts",
            h("p", h("strong", f"{found.own:,}"), " of your own"),
            h("p", h("strong", f"{found.oracle:,}"), " by the oracle") if found.oracle else None,
            h("p.facts", *kinds),
        ),
        h("p.hint", found.advice),
    ]


def check(report) -> list[Node]:
    skipped = Counter(reason for _, reason in report.skipped)
    facts = [
        h("li", h("strong", f"{report.usable:,}"), f" usable pair{'s' if report.usable != 1 else ''}"),
        h("li", h("strong", f"{report.steps:,}"), " steps") if report.steps else None,
        h("li", "about ", h("strong", human_seconds(report.seconds)), " on this machine") if report.seconds else None,
        h("li", "about ", h("strong", human_bytes(report.memory)), f" of memory, {human_bytes(report.available)} free")
        if report.memory
        else None,
    ]
    nodes = [h("ul.check", *facts)]
    if skipped:
        rows = [h("li", f"{count} × {reason}" if count > 1 else reason) for reason, count in skipped.most_common(20)]
        nodes.append(
            h(
                "details",
                h("summary", f"{len(report.skipped):,} left out, and why"),
                h("ul", *rows),
                open=report.usable == 0,
            )
        )
    nodes += [h("div.warning", h("strong", "Warning: "), str(warning), role="status") for warning in report.warnings]
    return [h("div.checked", *nodes, role="status")]


def command(text: str) -> list[Node]:
    return [
        h(
            "div.command",
            h("span.label", "The same from the command line"),
            h("pre", text, data_copy="", tabindex="0"),
            button("Copy", "copy", kind="quiet", aria_label="Copy the command"),
            data_copied_from="",
        )
    ]


def acts(run: Run, confirming: bool) -> list[Node]:
    """What can be done with a run in its state."""
    if confirming:
        return runs_view.confirm_delete(run)
    stoppable = run.state in ("queued", "starting", "running")
    return [
        *(
            [button("Chat with it", "chat", run.id, "primary", data_event="edit")]
            if run.state == "done" and run.has_adapter
            else []
        ),
        *([button("Stop", "stop", run.id, "danger")] if stoppable else []),
        *([button("Stop now", "stop", run.id, "danger")] if run.state == "stopping" else []),
        *([button("Resume", "resume", run.id, "primary")] if run.state in ("stopped", "failed") else []),
        button("Duplicate", "duplicate", run.id),
        *([button("Delete", "ask-delete", run.id, "quiet")] if run.state not in runs_view.ALIVE else []),
    ]


def outcome(run: Run, folder: RunFolder) -> list[Node]:
    """What the run took beside what was estimated, once it is done."""
    text = describe_outcome(folder.read_results()) if run.state == "done" else ""
    return [h("p.hint", text)] if text else []


def legend(titles: list[str]) -> list[Node]:
    """Which colour is which run, where several are compared: their names are too long for the plots' own legends."""
    if len(titles) == 1:
        return []
    runs = [h("li", h(f"span.swatch.shade-{number}"), title) for number, title in enumerate(titles)]
    return [h("ul.legend", *runs), h("p.hint", "Dark: train, corrected. Light: held out, original.")]


def copied(run_id: str, title: str) -> list[Node]:
    """Says that the form holds the settings of another run, whose pairs will be used."""
    return [
        h(
            "p.hint.notice",
            f"A copy of “{title}”: the same frozen pairs, the settings below. ",
            button("Use my present pairs instead", "forget", run_id, "quiet"),
        )
    ]


def reasked(results, total: int | None = None) -> list[Node]:
    """The corrected questions asked again: verdicts first, the new answers behind them. While it runs, `total` is how
    many there are to ask."""
    if not results and not total:
        return [
            empty(
                "Nothing to ask again.",
                "This run learnt from oracle pairs only; correct an answer yourself and train again.",
            )
        ]
    verdicts = Counter(verdict.verdict for result in results for verdict in result.verdicts)
    summary = " · ".join(f"{count} {name}" for name, count in verdicts.most_common())
    by = {result.judged_by for result in results}
    how = (
        " Judged by words alone where the truth is not known."
        if "lexical" in by
        else " Judged by the oracle, which knows the scenes."
    )
    nodes = []
    if total:
        nodes.append(progress(len(results) / total, f"{len(results)} of {total} asked again"))
        nodes.append(button("Stop", "stop", kind="quiet"))
    if results:
        nodes.append(h("p.done", h("strong", summary), h("span.by", how), role="status"))
    return [*nodes, h("ul.reasked", *(_reasked(result) for result in results))]


def _reasked(result) -> Node:
    pair = result.pair
    pictures = pair.prompt.all_images
    edits = [
        h(
            "li",
            h(f"span.badge{'.' + TONES[verdict.verdict] if TONES.get(verdict.verdict) else ''}", verdict.verdict),
            h(
                "span.edit",
                *([h("del", verdict.wrong), " "] if verdict.wrong else []),
                *([h("ins", verdict.right)] if verdict.right else []),
            ),
        )
        for verdict in result.verdicts
    ]
    return h(
        "li",
        thumb(pictures[-1]) if pictures else None,
        h(
            "div",
            h("strong", pair.prompt.question, dir="auto"),
            h("span.by", " ", result.judged_by),
            h("ul.verdicts", *edits),
            h("details", h("summary", "Its new answer"), h("p.answer-text", result.new_answer, dir="auto")),
        ),
    )


def label(run: Run, runs) -> str:
    """The run's title, with its id where another run has the same title."""
    return run.title if sum(other.title == run.title for other in runs) == 1 else f"{run.title} ({run.id[-4:]})"


def source(config) -> list[Node]:
    return [h("p.hint", config.source)]
