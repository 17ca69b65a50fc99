"""The Publish tab: who signs in to the Hub, what waits for the data set there, push and pull, and adapters."""

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from rlhfv.services import Actor, Services
from rlhfv.studio import publish_view as shown
from rlhfv.studio.chat_view import alert
from rlhfv.studio.events import explain, private, script
from rlhfv.studio.jobs import Jobs, Tell
from rlhfv.studio.sign_in_form import build_form
from rlhfv.studio.view import Node, h, view
from rlhfv.studio.visitor import actor

SHOW_MESSAGE = "() => document.getElementById('publish-message')?.scrollIntoView({ block: 'nearest' })"


@dataclass(frozen=True)
class PublishTab:
    """`show(who, *kept)` fills the tab; `kept` are the data set and the run that were chosen in it. `session` sends
    `change` when somebody signed in or out."""

    session: gr.HTML
    outputs: tuple
    kept: tuple
    show: Callable[..., dict]


def build(services: Services) -> PublishTab:
    publishing, jobs, on_hub = services.publishing, Jobs(), services.settings.hub_sign_in

    with gr.Row(elem_classes="workbench", elem_id="publish") as desk:
        with gr.Column(scale=5, min_width=300, elem_classes="side"):
            with gr.Column(elem_id="publish-session"):
                session = view(elem_id="hub-session")
                with gr.Column(elem_id="hub-sign-in") as signing:
                    token, sign_in, machine = build_form(
                        "hub",
                        on_hub,
                        "From “Access Tokens” in your settings on the Hub, of the role “write”. Nobody else sees it, "
                        "and it is not stored.",
                        variant="primary",
                    )
            with gr.Column(elem_id="publish-form"):
                repo = gr.Textbox(label="Data set", placeholder="owner/name", max_length=200, elem_id="publish-repo")
                public = gr.Checkbox(
                    False,
                    label="Public",
                    info="Anybody may see, load and copy it; what was copied cannot be called back. Only counts when "
                    "this push makes the data set; change it later on the Hub.",
                    elem_id="publish-public",
                )
                propose = gr.Checkbox(
                    False,
                    label="As a pull request",
                    info="The data set changes when somebody merges it on the Hub; until then all of it waits here.",
                    elem_id="publish-propose",
                )
                with gr.Row(elem_classes="tight"):
                    push = gr.Button("Push", variant="primary", size="sm", elem_id="publish-push")
                    pull = gr.Button("Pull into this studio", size="sm", elem_id="publish-pull")
                pulling = view(elem_id="publish-pulling")
            with gr.Column(elem_id="publish-naming"):
                named = gr.Checkbox(False, label="Show my name in published data", elem_id="publish-named")
                naming = view(elem_id="publish-name")
        with gr.Column(scale=9, min_width=300):
            message = view(elem_id="publish-message")
            standing = view(elem_id="publish-status", label="The data set")
            with gr.Column(elem_id="publish-adapter") as models:
                view(
                    h("h3", "Publish an adapter"),
                    h("p.hint", "What a training run made, with a card that says how, and on which pairs."),
                    elem_id="adapter-intro",
                )
                run = gr.Dropdown([], label="Training run", elem_id="adapter-run")
                adapter_status = view(elem_id="adapter-status")
                model = gr.Textbox(label="Model", placeholder="owner/name", max_length=200, elem_id="adapter-repo")
                model_public = gr.Checkbox(
                    False,
                    label="Public",
                    info="Anybody may see, load and copy it. Only counts when this push makes the model.",
                    elem_id="adapter-public",
                )
                send = gr.Button("Push the adapter", size="sm", elem_id="adapter-push")
    refusal = view(elem_id="publish-refused")
    timer = gr.Timer(0.6, active=False)

    kept = (repo, run)
    outputs = (
        *(refusal, desk, session, signing, token, machine, repo, pull, pulling, named, naming, message, standing),
        *(models, run, adapter_status, model, timer),
    )

    def show(who: Actor, chosen: str = "", run_id: str | None = None, note: list[Node] | None = None) -> dict:
        """The whole tab for whoever may publish; for others, why there is nothing."""
        if "publish" not in who.rights:
            return {refusal: shown.refused(), desk: gr.Row(visible=False), timer: gr.Timer(active=False)}
        status = publishing.status(who, (chosen or "").strip() or None)
        signed_in = status.signed_in_as is not None
        job = jobs.of(who.visitor)
        running = job is not None and job.running
        if note is None and job is not None:
            note = shown.course(job) if running else shown.outcome(job, publishing.address)
        places = [publishing.address(status.repo, commit) for commit in ("", status.commit)]
        name, published = publishing.published_name(who)
        manages = "manage" in who.rights
        return {
            refusal: [],
            desk: gr.Row(visible=True),
            session: shown.session(status.signed_in_as, status.waiting.total, on_hub, publishing.has_ended(who)),
            signing: gr.Column(visible=not signed_in),
            machine: gr.Button(visible=publishing.may_sign_in_as_owner(who)),
            # What is typed while this is on its way stays.
            repo: gr.skip() if status.repo == (chosen or "").strip() else status.repo,
            pull: gr.Button(visible=manages),
            pulling: [] if manages else [h("p.hint", "To pull data into this studio is up to its owner.")],
            named: gr.Checkbox(value=bool(name) and name == published, visible=bool(name)),
            naming: shown.naming(name, published),
            message: note or [],
            standing: shown.standing(status, *places),
            timer: gr.Timer(active=running),
            **show_runs(who, run_id),
        }

    def show_runs(who: Actor, run_id: str | None) -> dict:
        if "train" not in who.rights:
            return {models: gr.Column(visible=False)}
        ready = [
            each
            for each in services.training.runs(who)
            if each.state == "done" and (each.has_adapter or each.has_model)
        ]
        if not ready:
            return {models: gr.Column(visible=False)}
        choices = [(f"{each.title} ({each.created[:10]}, {each.id[-4:]})", each.id) for each in ready]
        chosen = run_id if run_id in [each.id for each in ready] else ready[0].id
        return {
            models: gr.Column(visible=True),
            run: gr.Dropdown(choices, value=chosen),
            **show_adapter(who, chosen),
        }

    def show_adapter(who: Actor, run_id: str) -> dict:
        pushed = publishing.pushed_adapter(who, run_id)
        return {
            adapter_status: shown.adapter(pushed, publishing.address),
            model: pushed.repo if pushed else gr.skip(),
        }

    def attempt(who: Actor, chosen: str, run_id: str | None, act: Callable[[], object]) -> dict:
        """The tab after `act`, or with what went wrong."""
        try:
            act()
        except Exception as error:
            return show(who, chosen, run_id, alert(*explain(error)))
        return show(who, chosen, run_id)

    def begin(who: Actor, kind: str, work: Callable[[Tell], object], chosen: str, run_id: str | None) -> dict:
        # Most refusals come at once, so that the page need not show a course that is over.
        return attempt(who, chosen, run_id, lambda: jobs.begin(who.visitor, kind, work).wait(0.3))

    def sign_in_by_hand(secret: str, chosen, run_id, request: gr.Request):
        who = actor(request)
        jobs.clear(who.visitor)
        done = attempt(who, chosen, run_id, lambda: publishing.sign_in_by_hand(who, secret))
        return {**done, token: ""}

    def sign_in_as_owner(chosen, run_id, request: gr.Request):
        who = actor(request)
        jobs.clear(who.visitor)
        done = attempt(who, chosen, run_id, lambda: publishing.sign_in_as_owner(who))
        return {**done, token: ""}

    def sign_out(chosen, run_id, request: gr.Request):
        who = actor(request)
        jobs.clear(who.visitor)
        return attempt(who, chosen, run_id, lambda: publishing.sign_out(who))

    def begin_push(is_public, as_proposal, chosen, run_id, request: gr.Request):
        who, name = actor(request), (chosen or "").strip()
        kind = "propose" if as_proposal else "push"

        def work(tell: Tell):
            return publishing.push(who, name, not is_public, bool(as_proposal), tell)

        return begin(who, kind, work, name, run_id)

    def begin_pull(chosen, run_id, request: gr.Request):
        who, name = actor(request), (chosen or "").strip()
        return begin(who, "pull", lambda tell: publishing.pull(who, name, tell), name, run_id)

    def begin_adapter(place, is_public, chosen, run_id, request: gr.Request):
        who, name = actor(request), (place or "").strip()

        def work(tell: Tell):
            return publishing.push_adapter(who, run_id or "", name, not is_public, tell)

        return begin(who, "adapter", work, chosen, run_id)

    def tick(chosen, run_id, request: gr.Request):
        who = actor(request)
        job = jobs.of(who.visitor)
        return {message: shown.course(job)} if job is not None and job.running else show(who, chosen, run_id)

    def look(chosen, run_id, request: gr.Request):
        # Leaving the field by a click on Push asks twice at once: how the push goes is for the other answer to say.
        told = show(actor(request), chosen, run_id)
        return {part: value for part, value in told.items() if part not in (message, timer)}

    def choose_run(run_id, request: gr.Request):
        return show_adapter(actor(request), run_id) if run_id else gr.skip()

    def set_named(wanted, chosen, run_id, request: gr.Request):
        who = actor(request)
        shown_then = attempt(who, chosen, run_id, lambda: publishing.set_named(who, bool(wanted)))
        done = "Your name goes with your pairs." if wanted else "Your pairs carry no name."
        told = services.durable.told(done)
        return shown_then if told == done else {**shown_then, message: [h("p.done", told, role="status")]}

    places = list(outputs)
    for event in (sign_in.click, token.submit):
        private(event, sign_in_by_hand, [token, *kept], places)
    private(machine.click, sign_in_as_owner, list(kept), places)
    private(session.select, sign_out, list(kept), places)
    for event in (repo.submit, repo.blur):
        private(event, look, list(kept), places)
    for event, function, given in (
        (push.click, begin_push, [public, propose, *kept]),
        (pull.click, begin_pull, list(kept)),
        (send.click, begin_adapter, [model, model_public, *kept]),
    ):
        script(private(event, function, given, places).then, SHOW_MESSAGE)
    private(run.input, choose_run, run, [adapter_status, model])
    private(named.input, set_named, [named, *kept], places)
    private(timer.tick, tick, list(kept), places, concurrency_limit=None, concurrency_id=None)

    return PublishTab(session, outputs, kept, show)
