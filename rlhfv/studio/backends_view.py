"""What the choice of a place to train shows: who is signed in, machines with what they have, prices, and what one has
to agree to before a run is sent; as nodes of views."""

from rlhfv.runs.hub_runs import HubWorker
from rlhfv.runs.machine import show_age, show_machine
from rlhfv.services.backends import JobOffer
from rlhfv.studio.view import Node, button, empty, h
from rlhfv.units import human_bytes, human_seconds

WITH_BASE = "+base"
"""At the end of an answer to a question that named the base's files: they may go along."""
CHANGED = (
    "The form was changed after the question.",
    "The answer was to what stood there before, with its place and its price.",
    "Look at the form, and start once more.",
)


def session(name: str | None, on_hub: bool = False, ended: bool = False) -> list[Node]:
    """Who is signed in, or that somebody has to: here, or `on_hub`; `ended` says that they were."""
    if name:
        told = h("p.hint", "Signed in to the Hub as ", h("strong", name, dir="auto"), ".")
        if on_hub:
            return [told]
        return [h("div.subject", told, button("Sign out", "sign-out", kind="quiet"))]
    again = "Your sign-in has ended. " if ended else ""
    if on_hub:
        told = "Sign in again." if ended else "Sign in to train on your own account."
        return [
            h("p", h("strong", again + told), " A job runs on a machine of the Hub in your name, and you pay for it."),
            h(
                "p.hint",
                "For that this Space asks to start jobs for you (jobs) and to make the private repository that the "
                "run travels through (contribute-repos). Training on the demo model here needs no account.",
            ),
        ]
    return [
        h(
            "p",
            h("strong", f"{again}Sign in to the Hub."),
            " Other machines get the run from a private repository there, in your name.",
        )
    ]


def machines(workers: list[HubWorker], repo: str) -> list[Node]:
    """The machines that take runs from the repository: what each has, and when it was last seen."""
    command = h(
        "div.command",
        h("span.label", "On a machine with a GPU, with a token of yours in HF_TOKEN"),
        h("pre", f"python -m rlhfv runs work {repo}", data_copy="", tabindex="0"),
        button("Copy", "copy", kind="quiet", aria_label="Copy the command"),
        data_copied_from="",
    )
    if not workers:
        told = empty("No machine has taken runs from here yet.", "What is sent waits until one does.")
        return [h("div.elsewhere", told, command)]
    rows = [
        h(
            "li",
            h("strong", worker.name),
            h("span", show_machine(worker.about)),
            h("span.by", f"at work on “{worker.run}”, " if worker.run else "", f"seen {show_age(worker.seen)}"),
        )
        for worker in workers
    ]
    return [h("div.elsewhere", h("ul.machines", *rows), h("details", h("summary", "Another machine"), command))]


def ask_with_base(repo: str, size: int) -> list[Node]:
    """Asked before a base that is a folder of this machine leaves it."""
    return [
        h(
            "div.warning.ask",
            h("p", h("strong", f"The base is a folder of this machine ({human_bytes(size)})."), _goes_along(repo)),
            h(
                "p.facts",
                button("Send it with the run", "send" + WITH_BASE, kind="primary"),
                button("Not now", "cancel", kind="quiet"),
            ),
            role="alert",
        )
    ]


def ask_for_machine(
    offers: tuple[JobOffer, ...], repo: str, base_size: int = 0, timeout: int | None = None, run_id: str = ""
) -> list[Node]:
    """The machines of the Hub with price, time and cost; each can be chosen, which starts the job.

    Args:
        timeout: seconds, where somebody named them; else as in the offers.
        run_id: the run to resume; empty for a new one.
    """
    act = "job" + (WITH_BASE if base_size else "")
    base = [h("p", f"The base, a folder of this machine ({human_bytes(base_size)}), goes along.", _goes_along(repo))]
    return [
        h(
            "div.checked.ask",
            h(
                "p",
                h("strong", "On which machine? "),
                f"{repo.partition('/')[0]} pays, by the second, as long as it runs.",
            ),
            *(base if base_size else []),
            h("ul.machines.offers", *(_offer(offer, timeout, act, run_id) for offer in offers)),
            h(
                "p.hint",
                "Prices as of now. Times are right within a factor of about two, the start included. At "
                "the timeout the Hub ends the job; the last checkpoint that was pushed stays.",
            ),
            h("p.facts", button("Not now", "cancel", kind="quiet")),
            role="alert",
        )
    ]


def _offer(offer: JobOffer, timeout: int | None, act: str, run_id: str) -> Node:
    flavor, told = offer.flavor, offer.estimate
    limit = timeout or told.timeout
    takes = f"about {human_seconds(told.seconds)}, {_dollars(told.cost)}" if told.seconds else "time unknown"
    return h(
        "li",
        h("strong", flavor.title),
        h("span", f"{_dollars(flavor.price)} an hour"),
        h("span", takes, h("span.by", f" · at most {_dollars(flavor.price * limit / 3600)} in {limit // 60} min")),
        button("Train on it", act, f"{flavor.name} {run_id}", aria_label=f"Train on {flavor.title}"),
    )


def _goes_along(repo: str) -> str:
    return f" Its files go to the private repository {repo}, for another machine cannot fetch it by a name."


def _dollars(price: float) -> str:
    return f"${price:.2f}"
