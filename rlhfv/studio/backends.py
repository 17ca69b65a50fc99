"""Where to train: this machine, a machine that takes runs from a private repository, or a job of the Hub."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from rlhfv.ddpo.config import TrainingConfig
from rlhfv.errors import InvalidData
from rlhfv.runs.hub_runs import ENDED
from rlhfv.runs.state import Run
from rlhfv.services import Actor, Services
from rlhfv.services.backends import Place
from rlhfv.studio import backends_view as shown
from rlhfv.studio.chat_view import alert
from rlhfv.studio.events import HUB, explain, private
from rlhfv.studio.sign_in_form import build_form
from rlhfv.studio.view import Node, progress, view
from rlhfv.studio.visitor import actor

HERE, WORKER, JOB = "here", "worker", "job"
PLACES = [("This machine", HERE), ("A machine of mine", WORKER), ("A job of the Hub", JOB)]
START = {HERE: "Start training", WORKER: "Send the run", JOB: "Choose a machine …"}
LONGEST_TIMEOUT = 7 * 24 * 60


@dataclass(frozen=True)
class Backends:
    """`inputs` say where to train; `show(who, where, repo)` fills the choice as it stands, without asking the Hub.

    `question` gets what one has to agree to first, empty when there is nothing; `place` is where the run goes
    then, `flags` names it on the command line, `limits` are timeout and image for a job that goes on, and `note` tells
    how a run is followed that trains there.
    """

    inputs: tuple
    outputs: tuple
    show: Callable[..., dict]
    question: Callable[..., list[Node]]
    place: Callable[..., Place]
    flags: Callable[..., str]
    limits: Callable[..., tuple[int | None, str | None]]
    note: Callable[[Actor, Run], str]


def build(services: Services) -> Backends:
    backends, publishing, on_hub = services.backends, services.publishing, services.settings.hub_sign_in

    where = gr.Radio(PLACES, value=HERE, label="Train on", elem_id="train-where")
    with gr.Column(visible=False, elem_id="train-away") as away:
        session = view(elem_id="away-session")
        with gr.Column(visible=False, elem_id="away-sign-in") as signing:
            token, sign_in, machine = build_form(
                "away",
                on_hub,
                "Of the role “write”. It stays in this program's memory, and serves only you. For jobs it also goes "
                "to the job, as its secret.",
            )
        repo = gr.Textbox(
            label="Private repository",
            placeholder="owner/name",
            info="Runs wait there with their pairs and pictures, until you delete them. It is created if need be.",
            max_length=200,
            elem_id="away-repo",
        )
        with gr.Row(elem_classes="form-grid", visible=False) as of_job:
            timeout = gr.Number(
                0,
                precision=0,
                label="Timeout",
                info="Minutes; 0 is twice the estimate.",
                min_width=150,
                elem_id="away-timeout",
            )
            image = gr.Textbox(
                label="Container image",
                placeholder="python of this version",
                info="Another one has to have Python and pip.",
                max_length=300,
                min_width=150,
                elem_id="away-image",
            )
        machines = view(elem_id="away-machines", label="Machines")

    inputs = (where, repo, timeout, image)
    outputs = (away, session, signing, machine, repo, of_job, machines)

    def show(who: Actor, chosen: str = HERE, name: str = "") -> dict:
        signed_in = publishing.signed_in_as(who)
        return {
            away: gr.Column(visible=chosen != HERE),
            session: shown.session(signed_in, on_hub, publishing.has_ended(who)),
            signing: gr.Column(visible=signed_in is None),
            machine: gr.Button(visible=publishing.may_sign_in_as_owner(who)),
            repo: gr.skip() if (name or "").strip() else _usual_repo(services, who, signed_in),
            of_job: gr.Row(visible=chosen == JOB),
            machines: gr.skip() if chosen == WORKER else [],
        }

    def look(who: Actor, chosen: str, name: str):
        """The choice, and for machines of one's own those that the repository knows."""
        told = show(who, chosen, name)
        name = (name or "").strip() or (told[repo] if isinstance(told[repo], str) else "")
        if chosen != WORKER or not name or publishing.signed_in_as(who) is None:
            yield {**told, machines: []}
            return
        yield {**told, machines: [progress(None, "Asking which machines there are …")]}
        try:
            found = backends.workers(who, name)
        except Exception as error:
            yield {machines: alert(*explain(error))}
        else:
            yield {machines: shown.machines(found, name)}

    def choose(chosen: str, name: str, request: gr.Request):
        yield from look(actor(request), chosen, name)

    def sign_in_by_hand(secret: str, chosen: str, name: str, request: gr.Request):
        yield from signed(actor(request), chosen, name, lambda who: publishing.sign_in_by_hand(who, secret))

    def sign_in_as_owner(chosen: str, name: str, request: gr.Request):
        yield from signed(actor(request), chosen, name, publishing.sign_in_as_owner)

    def sign_out(chosen: str, name: str, request: gr.Request):
        yield from signed(actor(request), chosen, name, publishing.sign_out)

    def signed(who: Actor, chosen: str, name: str, act: Callable[[Actor], None]):
        try:
            act(who)
        except Exception as error:
            yield {machines: alert(*explain(error)), token: ""}
            return
        for update in look(who, chosen, name):
            yield {**update, token: ""}

    def question(who: Actor, chosen: str, name: str, minutes, config: TrainingConfig, copy_of: str) -> list[Node]:
        name = (name or "").strip()
        plan = backends.plan(who, name, config, copy_of, job=chosen == JOB)
        if chosen == JOB:
            return shown.ask_for_machine(plan.offers, name, plan.base_size, _seconds(minutes))
        return shown.ask_with_base(name, plan.base_size) if plan.base_size else []

    def place(name: str, minutes, container: str, flavor: str, with_base: bool) -> Place:
        return Place((name or "").strip(), flavor, _seconds(minutes), (container or "").strip() or None, with_base)

    def flags(chosen: str, name: str, minutes, container: str) -> str:
        if chosen == HERE:
            return ""
        words = ["--backend", (name or "").strip() or "OWNER/NAME"]
        if chosen == JOB:
            words += ["--flavor", "FLAVOR", *(["--timeout", f"{minutes:.0f}"] if minutes else [])]
            words += ["--image", container.strip()] if (container or "").strip() else []
        return f" {shlex.join(words)}"

    def limits(chosen: str, _: str, minutes, container: str) -> tuple[int | None, str | None]:
        return (_seconds(minutes), (container or "").strip() or None) if chosen == JOB else (None, None)

    def note(who: Actor, run: Run) -> str:
        if not run.remote or run.state in ENDED:
            return ""
        if publishing.signed_in_as(who) is None:
            return "Sign in to the Hub to follow it."
        return backends.trouble(who, run.id)

    shows = list(outputs)
    private(where.input, choose, [where, repo], shows, trigger_mode="always_last", **HUB)
    for event in (repo.submit, repo.blur):
        private(event, choose, [where, repo], shows, **HUB)
    for event in (sign_in.click, token.submit):
        private(event, sign_in_by_hand, [token, where, repo], [*shows, token], **HUB)
    private(machine.click, sign_in_as_owner, [where, repo], [*shows, token], **HUB)
    private(session.select, sign_out, [where, repo], [*shows, token], **HUB)
    return Backends(inputs, outputs, show, question, place, flags, limits, note)


def _usual_repo(services: Services, who: Actor, signed_in: str | None) -> str:
    """The repository used last, else one of the visitor's own name."""
    used = next((run.remote["repo"] for run in services.training.runs(who) if run.remote), "")
    own = f"{signed_in}/rlhfv-runs" if signed_in and " " not in signed_in and signed_in != "somebody" else ""
    return used or own


def _seconds(minutes) -> int | None:
    if not minutes:
        return None
    if not 1 <= minutes <= LONGEST_TIMEOUT:
        raise InvalidData(
            f"A timeout of {minutes:.0f} minutes was asked for.",
            "A job may take between one minute and a week.",
            "Name another, or 0 for twice the estimate.",
        )
    return int(minutes) * 60
