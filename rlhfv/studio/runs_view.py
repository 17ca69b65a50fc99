"""What the list of runs, one run and its warnings show, as nodes of views; for training and evaluation alike."""

from rlhfv.runs.state import ALIVE, Run
from rlhfv.services.memory import MemoryShort
from rlhfv.studio.pairs_view import moment
from rlhfv.studio.view import Node, button, empty, h, progress
from rlhfv.units import human_bytes, human_seconds

OPEN = (*ALIVE, "queued")
TONES = {
    "done": "ok",
    "failed": "bad",
    "stopped": "",
    "queued": "",
    "starting": "live",
    "running": "live",
    "stopping": "live",
}


def listing(runs: list[Run], chosen: str, title: str, hint: str) -> list[Node]:
    if not runs:
        return [empty(title, hint)]
    return [h("ul.runs", *(_item(run, run.id == chosen) for run in runs))]


def _item(run: Run, chosen: bool) -> Node:
    return h(
        "li",
        h(
            "button.run-item",
            h("span.run-title", run.title),
            h("span.facts", badge(run), h("span.by", moment(run.created))),
            type="button",
            act="open",
            ref=run.id,
            aria_current="true" if chosen else None,
        ),
        data_key=run.id,
    )


def badge(run: Run) -> Node:
    text = run.state
    if run.state == "queued" and run.place:
        text = f"queued, number {run.place}"
    elif run.state == "running" and run.total_steps:
        text = f"running, {run.progress:.0%}"
    tone = TONES.get(run.state, "")
    return h(f"span.badge{'.' + tone if tone else ''}", text)


def heading(run: Run, acts: list[Node], unit: str, elsewhere: str = "") -> list[Node]:
    """The chosen run: its title, state, how far it is, what can be done with it, and why it failed; `elsewhere` is
    told of a run that trains on another machine."""
    nodes = [
        h("div.subject", h("p.asked", h("strong", run.title), badge(run)), h("p.facts", *acts)),
    ]
    if run.state in OPEN:
        nodes.append(
            progress(run.progress if run.total_steps and run.state == "running" else None, _course(run, unit))
        )
    if elsewhere:
        nodes.append(h("p.hint.notice", elsewhere, role="status"))
    if run.state == "stopped" and run.remote.get("error"):
        nodes.append(h("p.hint.notice", run.remote["error"]))
    if run.error:
        nodes.append(h("div.alert", h("strong", "The run failed. "), run.error, role="alert"))
    return nodes


def _course(run: Run, unit: str) -> str:
    if run.memory:
        return f"Waits until {human_bytes(run.memory)} of memory are free."
    if run.remote:
        return _course_elsewhere(run, unit)
    if run.state == "queued":
        wait = f" Its turn comes in about {human_seconds(run.eta)}, or before." if run.eta else ""
        return f"Waits for its turn, number {run.place or 1} in the queue.{wait}"
    if run.state == "starting":
        return "Loading the model …"
    if run.state == "stopping":
        return "Stopping; a checkpoint is kept."
    left = f" · about {human_seconds(run.eta)} left" if run.eta else ""
    return f"{unit} {run.step:,} of {run.total_steps:,}{left}" if run.total_steps else "Running …"


def _course_elsewhere(run: Run, unit: str) -> str:
    """As it was last seen; who is signed in to the Hub sees it again every few seconds."""
    repo, job = run.remote["repo"], run.remote["job"]
    seen = f"last seen {moment(run.remote['seen'])}" if run.remote["seen"] else "not seen yet"
    if run.state == "queued" and job:
        return f"The job {job} is on its way to a machine; {seen}."
    if run.state == "queued":
        return f"Waits in {repo} for a machine that takes it; {seen}."
    if run.state == "stopping":
        return f"Asked to keep a checkpoint and to stop, through {repo}; {seen}."
    done = f"{unit} {run.step:,} of {run.total_steps:,}" if run.total_steps else "At work"
    return f"{done} on {run.remote['worker'] or 'a job'}, through {repo}; {seen}."


def ask_for_room(short: MemoryShort, ref: str) -> list[Node]:
    """What to do with a run that does not fit into the free memory; `ref` says which run the answer is about."""
    acts = (
        [button("Unload the chat while it works", "unload", ref, "primary" if short.held else "")]
        if short.held
        else []
    )
    return [
        h(
            "div.warning.ask",
            h("p", h("strong", short.what), " ", short.why),
            h(
                "p.facts",
                *acts,
                button(f"Wait until {human_bytes(short.needed)} are free", "wait", ref, "" if acts else "primary"),
                button("Start anyway", "anyway", ref),
                button("Not now", "cancel", ref, "quiet"),
            ),
            role="alert",
        )
    ]


def confirm_delete(run: Run) -> list[Node]:
    return [
        h("span", f"Delete this run with everything it made?{left_behind(run)}"),
        button("Delete for good", "delete", run.id, "danger"),
        button("Keep it", "keep", run.id),
    ]


def left_behind(run: Run) -> str:
    """What the deletion of a run does not reach, as a sentence to add; empty for a run of this machine."""
    return f" What stands in {run.remote['repo']} stays there; delete it on the Hub." if run.remote else ""


def notes(events: list[dict]) -> list[Node]:
    """Warnings, each once, in the order in which they came."""
    said = dict.fromkeys(sentence(event) for event in events if event["kind"] == "warn")
    skipped = [event for event in events if event["kind"] == "skip"]
    nodes = [h("div.warning", h("strong", "Warning: "), text, role="status") for text in said if text]
    if skipped:
        plural = "s" if len(skipped) != 1 else ""
        rows = [h("li", sentence(event)) for event in skipped[:100]]
        nodes.append(h("details", h("summary", f"{len(skipped)} pair{plural} left out"), h("ul", *rows)))
    return nodes


def sentence(event: dict) -> str:
    """An event's text: its three parts, or whatever it says."""
    parts = [str(event[name]) for name in ("what", "why", "fix") if event.get(name)]
    return " ".join(parts) or str(event.get("message") or event.get("text") or event.get("reason") or "")


def log(lines) -> list[Node]:
    if not lines:
        return []
    return [
        h(
            "details.log",
            h("summary", "Log"),
            h(
                "div",
                button("Copy", "copy", kind="quiet"),
                h("pre", "\n".join(lines), tabindex="0", data_copy="", data_stick="", aria_label="The end of the log"),
                data_copied_from="",
            ),
        )
    ]
