"""What the page and the command line both call: one frozen dataclass of everything below.

The rooms below know nothing of visitors; here every call takes an `Actor`, and its right is checked once.
"""

from dataclasses import dataclass

from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.store import Store
from rlhfv.runs.local import LocalRuns
from rlhfv.services.actor import Actor, local_actor
from rlhfv.services.answering import Answering
from rlhfv.services.backends import Backends
from rlhfv.services.benchmarking import Benchmarking
from rlhfv.services.chat import Chat
from rlhfv.services.consent import Consent
from rlhfv.services.correcting import Correcting
from rlhfv.services.durable import Durable
from rlhfv.services.erasing import Erasing
from rlhfv.services.evaluating import Evaluating
from rlhfv.services.expiring import Expiring
from rlhfv.services.guide import Guide
from rlhfv.services.hints import Hints
from rlhfv.services.judged_answers import JudgedAnswers
from rlhfv.services.limits import Limits
from rlhfv.services.members import Members
from rlhfv.services.model_host import ModelHost
from rlhfv.services.models import Models
from rlhfv.services.publishing import Publishing
from rlhfv.services.queue import Queue
from rlhfv.services.recorded import RecordedComparisons
from rlhfv.services.reporting import Reporting
from rlhfv.services.reviewing import Reviewing
from rlhfv.services.sent_runs import SentRuns
from rlhfv.services.sharing import Sharing
from rlhfv.services.training import Training
from rlhfv.settings import Settings

__all__ = ["Actor", "Services", "build_services", "local_actor"]


@dataclass(frozen=True)
class Services:
    settings: Settings
    store: Store
    host: ModelHost
    models: Models
    chat: Chat
    corrections: Correcting
    hints: Hints
    queue: Queue
    answering: Answering
    reviewing: Reviewing
    training: Training
    publishing: Publishing
    backends: Backends
    erasing: Erasing
    members: Members
    evaluation: Evaluating
    benchmarking: Benchmarking
    judged: JudgedAnswers
    reporting: Reporting
    sharing: Sharing
    recorded: RecordedComparisons
    guide: Guide
    limits: Limits
    consent: Consent
    durable: Durable
    expiring: Expiring


def build_services(settings: Settings) -> Services:
    """Opens the data folder and wires the rooms. Loads no model: that happens at the first question."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    durable = Durable(settings)
    durable.restore()
    store = Store(settings.data_dir / "studio.sqlite3", team=settings.team)
    shelf = ImageShelf(settings.data_dir / "images")
    limits = Limits(settings.answers_per_minute, settings.answers_in_all)
    runs = LocalRuns(settings.data_dir, settings.run_seconds)
    host = ModelHost(settings, runs)
    consent = Consent(settings, store)
    corrections = Correcting(settings, store, shelf, durable, consent, limits)
    training = Training(settings, store, shelf, host, runs, limits)
    publishing = Publishing(settings, store, shelf, training)
    evaluation = Evaluating(settings, store, shelf, host, runs, limits)
    benchmarking = Benchmarking(settings, host, limits)
    judged = JudgedAnswers(settings, benchmarking)
    sent = SentRuns(store, runs)
    chat = Chat(store, shelf, host, limits, consent)
    recorded = RecordedComparisons(settings, store, shelf, host, chat)
    return Services(
        settings=settings,
        store=store,
        host=host,
        models=Models(host, chat),
        chat=chat,
        corrections=corrections,
        hints=Hints(store, shelf, host, corrections),
        queue=Queue(settings, store, shelf),
        answering=Answering(store, shelf, host),
        reviewing=Reviewing(settings, store),
        training=training,
        publishing=publishing,
        backends=Backends(training, publishing, sent),
        erasing=Erasing(settings, store, shelf, runs, publishing, sent, durable),
        members=Members(settings),
        evaluation=evaluation,
        benchmarking=benchmarking,
        judged=judged,
        reporting=Reporting(shelf, host, training, evaluation, benchmarking, judged),
        sharing=Sharing(settings, store, shelf, chat),
        recorded=recorded,
        guide=Guide(settings, store, shelf, host, chat, training, recorded),
        limits=limits,
        consent=consent,
        durable=durable,
        expiring=Expiring(settings, store, shelf),
    )
