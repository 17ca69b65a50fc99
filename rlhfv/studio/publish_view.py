"""What the Publish tab shows: who is signed in, what waits, what stays, what came of a push; as nodes of views."""

from typing import TYPE_CHECKING

from rlhfv.services.publishing import PublishingStatus
from rlhfv.studio.chat_view import alert
from rlhfv.studio.jobs import Job
from rlhfv.studio.pairs_view import moment, problem_table
from rlhfv.studio.view import Node, button, empty, h, link, progress

if TYPE_CHECKING:
    from rlhfv.publishing.adapters import PushedAdapter
    from rlhfv.publishing.puller import Pulled
    from rlhfv.publishing.pusher import Pushed

SHOWN_LEFT_OUT = 100
WHAT_TO_DO = {
    "not accepted yet": "A reviewer accepts them first.",
    "no consent to publication": "Whoever made them can agree in Correct, under “Name, licence and consent”, and save "
    "them again.",
    "no licence": "Whoever made them can choose one in Correct, under “Name, licence and consent”, and save "
    "them again.",
    "not to be published": "That was chosen as their licence. They train here and stay here.",
    "withheld for good": "They were taken out for good, and never go out again.",
    "not meant for the data set": "Trial items and answers that lost a comparison of two annotators.",
}
TITLES = {
    "push": "Pushing",
    "propose": "Opening a pull request",
    "pull": "Pulling",
    "adapter": "Pushing the adapter",
}


def refused() -> list[Node]:
    return [
        empty(
            "Publishing is for reviewers.",
            "Here accepted corrections become a data set on the Hugging Face Hub. Your visit may not send any, so "
            "there is nothing to do for you on this page; what you save is kept, and a reviewer publishes it.",
        )
    ]


def session(name: str | None, waiting: int, on_hub: bool = False, ended: bool = False) -> list[Node]:
    """Who is signed in, or that somebody has to: here, or `on_hub`; `ended` says that they were."""
    if name and on_hub:
        return [
            h("p", "In the name of ", h("strong", name, dir="auto"), "."),
            h(
                "p.hint",
                "With the permission you gave on the Hub. It is in this program's memory only, and serves you.",
            ),
        ]
    if name:
        return [
            h(
                "div.subject",
                h("p", "Signed in as ", h("strong", name, dir="auto"), "."),
                button("Sign out", "sign-out", kind="quiet"),
            ),
            h("p.hint", "The token is in this program's memory only, for eight hours at most, and serves only you."),
        ]
    again = "Your sign-in has ended. " if ended else ""
    kept = f" {_rows(waiting)} {'waits' if waiting == 1 else 'wait'} until then; nothing is lost." if waiting else ""
    if on_hub:
        return [
            h(
                "p",
                h("strong", f"{again}Sign in {'again' if ended else 'to publish'}."),
                f" The data set becomes yours, and each push stands there in your name.{kept}",
            ),
            h(
                "p.hint",
                "For that this Space asks to make repositories for you (contribute-repos). It reaches those it made "
                "and none of your others. Chatting and correcting need no account.",
            ),
        ]
    told = f"{again}Sign in to continue."
    return [h("p", h("strong", told), f" The Hub takes data only from somebody it knows.{kept}")]


def standing(status: PublishingStatus, address: str, commit_address: str) -> list[Node]:
    """The data set: where it is, what waits, and what stays here."""
    waiting = status.waiting
    if not (status.repo or waiting.total or status.unpublishable):
        return [
            empty(
                "Nothing to publish yet.",
                "Publishing makes a data set of your corrections on the Hugging Face Hub: pictures, questions, the "
                "corrected and the original answers, ready to train with. It is private unless you say otherwise, and "
                "only corrections whose makers agreed are sent. Correct an answer first; then it waits here.",
            )
        ]
    return [*_place(status, address, commit_address), *_waiting(status), *_staying(status.unpublishable)]


def _place(status: PublishingStatus, address: str, commit_address: str) -> list[Node]:
    nodes = []
    if status.commit:
        nodes.append(
            h(
                "div.subject",
                h("p.asked", link(status.repo, address)),
                h("p.by", f"pushed {moment(status.pushed)} · commit ", link(status.commit[:10], commit_address))
                if status.pushed
                else h("p.by", "commit ", link(status.commit[:10], commit_address)),
            )
        )
    elif status.repo:
        nodes.append(h("p", h("strong", status.repo), " was not pushed from here yet."))
    else:
        nodes.append(
            h(
                "p",
                "No data set yet. ",
                "A push makes one on the Hugging Face Hub, private unless you say otherwise, and fills it with what "
                "waits. Later pushes bring what was added, edited and deleted since.",
            )
        )
    if status.pull_request:
        nodes.append(
            h(
                "div.hint.notice",
                "A pull request is open: ",
                link("look at it", status.pull_request),
                ". What is in it waits here until it is merged; the next push then sees that.",
            )
        )
    if status.background:
        told = f"This machine keeps {status.background} up to date by itself, at most once a minute."
        nodes.append(h("p.hint", told))
    if status.trouble:
        nodes.append(h("div.warning", h("strong", "It could not: "), status.trouble, role="status"))
    return nodes


def _waiting(status: PublishingStatus) -> list[Node]:
    waiting = status.waiting
    counts = (
        (waiting.added, "to add"),
        (waiting.changed, "changed"),
        (waiting.removed, "to remove"),
        (waiting.judgements, "judgement" if waiting.judgements == 1 else "judgements"),
    )
    nodes = [h("h3", "Waiting")]
    if waiting.total:
        rows = [h("p", h("strong", f"{number:,}"), f" {what}") for number, what in counts]
        nodes.append(h("div.counts", *rows, role="group", aria_label="Waiting"))
    else:
        nodes.append(h("p.hint", "Nothing. What is published is what is here."))
    if status.left_out:
        shown = [h("li", h("code", id), f": {reason}") for id, reason in status.left_out[:SHOWN_LEFT_OUT]]
        more = len(status.left_out) - SHOWN_LEFT_OUT
        shown += [h("li", f"… and {more:,} more.")] if more > 0 else []
        nodes.append(
            h(
                "details",
                h("summary", f"The last push left {_rows(len(status.left_out))} out, and why"),
                h("ul.reasons", *shown),
            )
        )
    return nodes


def _staying(reasons: dict[str, int]) -> list[Node]:
    if not reasons:
        return []
    rows = [
        h(
            "tr",
            h("td", f"{number:,}"),
            h("td", reason),
            h("td", WHAT_TO_DO.get(reason, "")),
        )
        for reason, number in sorted(reasons.items(), key=lambda each: -each[1])
    ]
    head = h("tr", *(h("th", name, scope="col") for name in ("Pairs", "Why", "What to do")))
    return [
        h("h3", "Stays here"),
        h("div.scroll", h("table.plain", h("thead", head), h("tbody", *rows))),
    ]


def naming(name: str, shown: str) -> list[Node]:
    """How the annotator is called in published data."""
    if not name:
        return [h("p.hint", "Your corrections carry no name. You can give one in Correct.")]
    if name == shown:
        return [h("p.hint", "In published data you are ", h("strong", shown, dir="auto"), ", as here.")]
    return [
        h(
            "p.hint",
            "In published data “",
            h("span", name, dir="auto"),
            "” is called ",
            h("strong", shown),
            ": always the same, so that your work can be told apart, but nobody reads your name in it.",
        )
    ]


def course(job: Job) -> list[Node]:
    """How far a job is."""
    stage = job.stages[-1] if job.stages else "looking at the Hub"
    known = job.total > 1 and job.done > 0
    text = f"{stage.capitalize()}: {job.done} of {job.total}" if known else f"{stage.capitalize()} …"
    before = [h("li", f"✓ {each}") for each in job.stages[:-1]]
    return [
        h("h3", f"{TITLES[job.kind]} …"),
        h("ul.facts.stages", *before) if before else h("p.hint", "You may close this page: it goes on."),
        progress(job.done / job.total if known else None, text, TITLES[job.kind]),
    ]


def outcome(job: Job, address) -> list[Node]:
    """What came of a job; `address(repo, commit, kind)` is where to look at it."""
    if job.error:
        return alert(*job.error)
    if job.kind == "adapter":
        return [h("p.done", h("span", "The adapter is at ", *_adapter(job.result, address)), role="status")]
    return _pulled(job.result, address) if job.kind == "pull" else _pushed(job.result, address)


def _pushed(pushed: "Pushed", address) -> list[Node]:
    did = _counted(
        (pushed.added, "added"),
        (pushed.changed, "changed"),
        (pushed.removed, "removed"),
        (pushed.judgements, "judgement" if pushed.judgements == 1 else "judgements"),
    )
    if pushed.url:
        return [
            h(
                "p.done",
                h("span", f"Proposed: {did or 'nothing'}, in ", link("this pull request", pushed.url), "."),
                role="status",
            )
        ]
    commit = link(pushed.commit[:10], address(pushed.repo, pushed.commit))
    said = f"Pushed: {did}. " if did else "Nothing to push. "
    landed = h("p.hint", "What an earlier push or a merged pull request had brought there is counted with it.")
    return [
        h("p.done", h("span", said, link(pushed.repo, address(pushed.repo)), " is at ", commit, "."), role="status"),
        *([landed] if pushed.landed else []),
    ]


def _pulled(pulled: "Pulled", address) -> list[Node]:
    did = _counted(
        (pulled.new, "new"),
        (pulled.changed, "changed"),
        (pulled.removed, "removed"),
        (pulled.judgements, "judgement" if pulled.judgements == 1 else "judgements"),
    )
    commit = link(pulled.commit[:10], address(pulled.repo, pulled.commit))
    said = f"Pulled: {did or 'nothing new'}. "
    nodes = [h("p.done", h("span", said, pulled.repo, " is at ", commit, "."), role="status")]
    if pulled.conflicts:
        nodes.append(
            h(
                "div.warning",
                h("strong", f"{_pairs(pulled.conflicts)} changed on both sides."),
                " What is here stands; what came from the Hub is in the history of each, in Pairs, where you can "
                "restore it.",
                role="status",
            )
        )
    if pulled.problems:
        nodes += [
            h(
                "div.warning",
                h("strong", f"{_rows(len(pulled.problems))} could not be taken."),
                " Until they are mended on the Hub nothing is pushed there, because that would overwrite them.",
                role="status",
            ),
            problem_table(pulled.problems),
        ]
    return nodes


def adapter(pushed: "PushedAdapter | None", address) -> list[Node]:
    """Where the adapter of the chosen run is."""
    if pushed is None:
        return [h("p.hint", "It was not published yet.")]
    return [h("p.hint", "Published at ", *_adapter(pushed, address))]


def _adapter(pushed: "PushedAdapter", address) -> list[Node]:
    commit = link(pushed.commit[:10], address(pushed.repo, pushed.commit, "model"))
    return [link(pushed.repo, address(pushed.repo, kind="model")), ", commit ", commit, "."]


def _counted(*counts: tuple[int, str]) -> str:
    return ", ".join(f"{number:,} {what}" for number, what in counts if number)


def _rows(number: int) -> str:
    return f"{number:,} row{'s' if number != 1 else ''}"


def _pairs(number: int) -> str:
    return f"{number:,} pair{'s' if number != 1 else ''}"
