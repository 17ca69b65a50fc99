"""`runs pack|send|offers|work|queue`: runs that train on another machine."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.commands.terminal import count, one_line, open_services, read_token, show, show_json, tell
from rlhfv.publishing.token import Token
from rlhfv.runs import bundle
from rlhfv.runs.leash import work_folder
from rlhfv.runs.machine import machine_name, show_age, show_machine
from rlhfv.settings import settings_from_arguments
from rlhfv.units import human_bytes

if TYPE_CHECKING:
    from rlhfv.runs.hub_runs import HubRuns
    from rlhfv.runs.state import Run
    from rlhfv.services import Actor, Services
    from rlhfv.services.backends import JobOffer


def pack(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    run, runs = services.training.run(actor, arguments.id), services.training.local
    folder = bundle.pack(runs.open(run.id), arguments.folder, runs.base_path(run.config), arguments.with_base)
    if arguments.json:
        return show_json({"run": run.id, "folder": str(folder)})
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    tell(
        f"{one_line(run.title)}: {human_bytes(size)}. On another machine, with Python {bundle.python_version()}:",
        f"  pip install -r {folder.name}/{bundle.REQUIREMENTS} {folder.name}/*.whl",
        f"  python -m rlhfv runs work {folder.name}",
    )
    show(str(folder))


def send(arguments: argparse.Namespace) -> None:
    services, actor = sign_in(arguments)
    run = send_away(services, actor, arguments, arguments.id, arguments.repo)
    if arguments.json:
        return show_json(run.to_dict())
    if not arguments.flavor:
        tell(f"{one_line(run.title)} waits in {arguments.repo}. A machine that shall take it runs:")
        show(f"python -m rlhfv runs work {arguments.repo}")


def send_away(services: "Services", actor: "Actor", arguments: argparse.Namespace, run_id: str, repo: str) -> "Run":
    """A frozen run goes to a repository; with `--flavor` a job is started for it, its price told before."""
    if not arguments.flavor:
        return services.backends.send(actor, run_id, repo, arguments.with_base)
    tell("Asking for machines and prices …")
    for offer in services.backends.offers(actor, repo, run_id):
        if offer.flavor.name == arguments.flavor:
            tell(show_offer(offer))
    timeout = None if arguments.timeout is None else arguments.timeout * 60
    return services.backends.launch(
        actor, run_id, repo, arguments.flavor, timeout, arguments.image, arguments.with_base
    )


def offers(arguments: argparse.Namespace) -> None:
    services, actor = sign_in(arguments)
    found = services.backends.offers(actor, arguments.repo, arguments.id)
    if arguments.json:
        return show_json([asdict(offer) for offer in found])
    show(*(show_offer(offer) for offer in found))


def show_offer(offer: "JobOffer") -> str:
    """One line: the machine, its price, and what the run takes on it."""
    told = offer.estimate
    takes = f"about {told.seconds / 60:.0f} minutes, ${told.cost:.2f}" if told.seconds else "time unknown"
    limit = f"at most ${told.most:.2f} in {told.timeout // 60} minutes"
    return f"{offer.flavor.name:14}  ${offer.flavor.price:.2f}/h  {takes}; {limit}  {offer.flavor.title}"


def work(arguments: argparse.Namespace) -> int:
    folder = Path(arguments.where).expanduser()
    if folder.is_dir():
        ended = work_folder(folder, show_json if arguments.json else _tell_event)
        for run, state in ended:
            tell(f"{run.id}: {state}")
        return 0 if all(state == "done" for _, state in ended) else 1
    from rlhfv.runs.worker import Worker

    repo, _, commit = arguments.where.partition("@")
    name = arguments.name or machine_name()
    place = settings_from_arguments(arguments).data_dir / "worker" / name
    worker = Worker(_open_repo(arguments, repo), place, name, tell=tell)
    tell(f"{name} ({show_machine(worker.about)}) takes runs from {repo}. Ctrl-C gives a run back with a checkpoint.")
    worked = worker.work(arguments.once, arguments.run, commit or None)
    if arguments.json:
        show_json([{"run": run.id, "state": run.state, "error": run.error} for run in worked])
    for run in worked:
        if run.error:
            tell(f"{run.id}: {run.error}")
    return 1 if any(run.state == "failed" for run in worked) else 0


def queue(arguments: argparse.Namespace) -> None:
    runs = _open_repo(arguments, arguments.repo)
    found, workers = runs.look(), runs.workers()
    if arguments.json:
        listed = [{"id": run.id, "state": run.state, "worker": run.worker, "seen": run.seen} for run in found]
        machines = [{"name": one.name, "about": one.about, "run": one.run, "seen": one.seen} for one in workers]
        return show_json({"runs": listed, "workers": machines})
    for run in found:
        done = f"{run.step}/{run.total_steps}" if run.total_steps else ""
        state = "no sign" if runs.is_lapsed(run) else run.state
        show(f"{run.id}  {state:8}  {done:>9}  {run.worker:20}  {one_line(run.title)}")
    for one in workers:
        work = f", at work on {one_line(one.run)}" if one.run else ""
        show(f"{one.name}: {show_machine(one.about)}{work}, seen {show_age(one.seen)}")
    tell(f"{count(len(found), 'run')}, {count(len(workers), 'worker')}")


def sign_in(arguments: argparse.Namespace) -> "tuple[Services, Actor]":
    services, actor = open_services(arguments)
    services.publishing.sign_in(actor, read_token(arguments))
    return services, actor


def _open_repo(arguments: argparse.Namespace, repo: str) -> "HubRuns":
    from rlhfv.publishing.hub import Hub
    from rlhfv.runs.hub_runs import HubRuns

    return HubRuns(Hub(Token(read_token(arguments))), repo)


def _tell_event(event: dict) -> None:
    if event["kind"] == "step" and "loss" in event:
        tell(f"step {event.get('step')} of {event.get('total_steps')}: loss {event['loss']}")
    elif event["kind"] in ("state", "warn", "error", "done"):
        tell(" ".join(str(event[part]) for part in ("message", "text", "what", "why", "fix") if event.get(part)))
