"""`train` and `runs list|show|follow|stop|resume|export`: work that outlives the terminal."""

import argparse
import math
import time
from typing import TYPE_CHECKING

from rlhfv.commands.terminal import (
    count,
    one_line,
    open_services,
    printable,
    progress,
    read_token,
    show,
    show_json,
    tell,
)
from rlhfv.commands.workers import send_away
from rlhfv.corrections.pairs import load_pairs, pairs_file
from rlhfv.ddpo.config import TrainingConfig, describe_fields
from rlhfv.ddpo.outcome import describe_outcome
from rlhfv.errors import NotFound, RunFailed
from rlhfv.runs.state import ALIVE
from rlhfv.runs.supervisor import Supervisor
from rlhfv.services.memory import ANYWAY, ELSEWHERE

if TYPE_CHECKING:
    from rlhfv.runs.state import Run
    from rlhfv.services import Actor, Services
    from rlhfv.services.own_runs import OwnRuns

POLL_SECONDS = 0.3
REMOTE_SECONDS = 5.0


def add_run_flags(verb) -> None:
    verb.add_argument("--title", default="", help="name of the run")
    verb.add_argument("--detach", action="store_true", help="print the run's id and return at once")


def train(arguments: argparse.Namespace) -> int:
    services, actor = open_services(arguments)
    changes = {one["name"]: getattr(arguments, one["name"]) for one in training_fields()}
    config = TrainingConfig.from_dict(
        {"recipe": arguments.recipe, **{name: value for name, value in changes.items() if value is not None}}
    )
    pairs = None if arguments.data is None else load_pairs(arguments.data)
    if arguments.backend:
        services.publishing.sign_in(actor, read_token(arguments))  # refused before anything is frozen
    room = ELSEWHERE if arguments.backend else ANYWAY
    tell("Checking pairs, memory and time …")
    if pairs is None:
        run_id = services.training.start(actor, config, arguments.title, room)
    else:
        images = pairs_file(arguments.data).parent / "images"
        run_id = services.training.start_with(actor, pairs, config, images.joinpath, arguments.title, room)
    if arguments.backend:
        with services.backends.fresh(actor, run_id):
            send_away(services, actor, arguments, run_id, arguments.backend)
    return started(arguments, services, services.training, actor, run_id)


def started(
    arguments: argparse.Namespace, services: "Services", service: "OwnRuns", actor: "Actor", run_id: str
) -> int:
    if arguments.detach:
        show_json({"run": run_id}) if arguments.json else show(run_id)
        if service.run(actor, run_id).state == "queued":
            tell(f"It waits for its turn, which `python -m rlhfv runs follow {run_id}` or an open studio gives it.")
        return 0
    tell(f"Run {run_id}. It goes on without this terminal; `python -m rlhfv runs stop {run_id}` ends it.")
    code = follow(services, service, actor, run_id, as_json=False)
    run, folder = service.run(actor, run_id), service.folder(actor, run_id)
    results = folder.read_results()
    if arguments.json:
        show_json({**run.to_dict(), "results": results})
    elif code == 0 and run.kind == "evaluation" and results:
        from rlhfv.evaluation.report import render_table

        show(render_table(results))
    elif code == 0 and (run.has_adapter or run.has_model):
        tell(*filter(None, [describe_outcome(results)]))
        show(str(folder.adapter if run.has_adapter else folder.model))
    return code


def training_fields() -> list[dict]:
    """The settings that are flags of `train`; recipe and source are not settings of their own."""
    return [one for one in describe_fields() if one["name"] not in ("recipe", "source")]


def list_runs(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    runs = [*services.training.runs(actor), *services.evaluation.runs(actor)]
    runs.sort(key=lambda run: (run.created, run.id), reverse=True)
    if arguments.json:
        return show_json([run.to_dict() for run in runs])
    for run in runs:
        show(f"{run.id}  {run.kind:10}  {run.state:8}  {run.progress:4.0%}  {one_line(run.title)}")
    tell(count(len(runs), "run"))


def show_run(arguments: argparse.Namespace) -> None:
    _, service, actor = _open_run(arguments)
    run, results = service.run(actor, arguments.id), service.folder(actor, arguments.id).read_results()
    if arguments.json:
        return show_json({**run.to_dict(), "results": results})
    show(f"{one_line(run.title)}  ({run.kind}, {run.state}, {run.progress:.0%})")
    show(*(f"  {name}: {value}" for name, value in run.config.get(run.kind, {}).items()))
    show(*(f"  | {line}" for line in run.lines))
    if outcome := describe_outcome(results):
        show(outcome)
    if run.error:
        show(f"Error: {run.error}")


def follow_run(arguments: argparse.Namespace) -> int:
    services, service, actor = _open_run(arguments)
    return follow(services, service, actor, arguments.id, arguments.json)


def stop(arguments: argparse.Namespace) -> None:
    services, service, actor = _open_run(arguments)
    away = service.run(actor, arguments.id).remote
    _tell_state(arguments, (services.backends if away else service).stop(actor, arguments.id))


def resume(arguments: argparse.Namespace) -> int:
    services, service, actor = _open_run(arguments)
    if service.run(actor, arguments.id).remote:
        timeout = None if arguments.timeout is None else arguments.timeout * 60
        run = services.backends.resume(actor, arguments.id, arguments.flavor, timeout, arguments.image)
    else:
        run = service.resume(actor, arguments.id)
    if arguments.detach:
        _tell_state(arguments, run)
        return 0
    code = follow(services, service, actor, arguments.id, as_json=False)
    if arguments.json:
        show_json(service.run(actor, arguments.id).to_dict())
    return code


def export(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    service = find_service(services, actor, arguments.id)
    if service is not services.training:
        raise RunFailed(
            f"The run {arguments.id!r} is an evaluation.",
            "Only a training run makes an adapter.",
            "Name one; `python -m rlhfv runs list` shows which is which.",
        )
    folder = services.training.export(actor, arguments.id, arguments.folder, arguments.merge)
    show_json({"folder": str(folder)}) if arguments.json else show(str(folder))


def find_service(services: "Services", actor: "Actor", run_id: str) -> "OwnRuns":
    """The service of a training run or of an evaluation. Raises NotFound for an id that names neither."""
    try:
        services.training.run(actor, run_id)
    except NotFound:
        services.evaluation.run(actor, run_id)
        return services.evaluation
    return services.training


def _open_run(arguments: argparse.Namespace) -> "tuple[Services, OwnRuns, Actor]":
    """Signed in to the Hub where the run trains elsewhere; of a run of this machine no token is read."""
    services, actor = open_services(arguments)
    service = find_service(services, actor, arguments.id)
    if service.run(actor, arguments.id).remote and hasattr(arguments, "token_env"):
        services.publishing.sign_in(actor, read_token(arguments))
    return services, service, actor


def _tell_state(arguments: argparse.Namespace, run: "Run") -> None:
    show_json(run.to_dict()) if arguments.json else tell(f"{one_line(run.title)}: {run.state}")


def follow(services: "Services", service: "OwnRuns", actor: "Actor", run_id: str, as_json: bool) -> int:
    """Shows a run until it ends: a bar and its warnings, or its events as JSON lines. Ctrl-C leaves it working."""
    run, offset, asked = service.run(actor, run_id), 0, -math.inf
    supervisor = Supervisor(service.local).start()  # nobody else may be there to start what waits
    try:
        with progress(run.title, None, "steps") as bar:
            title = bar.desc
            while True:
                run = service.run(actor, run_id)
                if run.remote and time.monotonic() - asked > REMOTE_SECONDS:
                    run = _refresh(services, actor, run)
                    asked = time.monotonic()
                events, offset = service.events(actor, run_id, offset)
                for event in events:
                    _show_event(event, bar, title, as_json)
                if run.state not in (*ALIVE, "queued"):
                    break
                state = f"{run.state}, place {run.place} in the queue" if run.place else run.state
                bar.set_postfix_str(state, refresh=state not in (bar.postfix or ""))
                time.sleep(POLL_SECONDS)
    finally:
        supervisor.close()
    tell(f"{one_line(run.title)}: {run.state}", *([run.error] if run.error else []))
    return 1 if run.state == "failed" else 0


def _refresh(services: "Services", actor: "Actor", run: "Run") -> "Run":
    from rlhfv.publishing.hub import HubBusy

    try:
        return services.backends.refresh(actor, run.id)
    except HubBusy as error:  # it comes back; the run goes on without it
        tell(error.what)
        return run


def _show_event(event: dict, bar, title: str, as_json: bool) -> None:
    if as_json:
        show_json(event)
    if event["kind"] == "step" and event.get("total_steps"):
        _move(bar, title, event.get("step") or 0, event["total_steps"])
    elif event["kind"] == "log" and event.get("total"):  # what comes before the steps: reading, reference scores
        _move(bar, f"{title}: {printable(event['text'])}", event.get("done") or 0, event["total"])
    elif event["kind"] in ("warn", "skip", "log"):
        bar.clear()
        said = [str(event[part]) for part in ("pair", "text", "reason", "what", "why", "fix") if event.get(part)]
        figures = [
            f"{name} {value:g}" for name, value in event.items() if name != "v" and isinstance(value, int | float)
        ]
        said += [f"({', '.join(figures)})"] if figures else []
        tell(f"{event['kind']}: {' '.join(said)}")


def _move(bar, title: str, done: int, total: int) -> None:
    if bar.desc != f"{title}: ":
        bar.set_description(title, refresh=False)
        bar.reset(total)
    bar.total = total
    bar.update_to(done)
