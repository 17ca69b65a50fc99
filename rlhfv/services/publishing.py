"""The data set on the Hub, for whoever may publish: what waits, push, pull, adapters, and whose token does it.

A visitor's token lives in the memory of this process, until they sign out or it expires, and serves that visitor only.
The machine's own token serves its owner, who asks for it by name.
"""

import atexit
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.published import Published, Waiting
from rlhfv.corrections.store import Store
from rlhfv.errors import Forbidden, StudioError
from rlhfv.publishing.token import SignInNeeded, Token
from rlhfv.services.actor import Actor
from rlhfv.services.terms import annotator_name
from rlhfv.services.training import Training
from rlhfv.settings import Settings

if TYPE_CHECKING:
    from rlhfv.publishing.adapters import PushedAdapter
    from rlhfv.publishing.hub import Hub
    from rlhfv.publishing.puller import Pulled
    from rlhfv.publishing.pusher import Erased, Pushed

SECONDS_BETWEEN_PUSHES = 60.0
SECONDS_TO_END = 10.0
USUAL_NAME = "rlhfv-corrections"
"""What a data set is called when nobody names it."""

Progress = Callable[[str, int, int], None]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishingStatus:
    """`repo` is the data set that was named, or used last, empty when there is none yet. `unpublishable` counts pairs
    by the reason why they stay here, `left_out` names what the last push could not send: (id, reason).
    `pull_request` is the address of one that is not merged yet, as far as is known. `background` is the data set that
    the owner's pusher keeps up to date, and `trouble` what stopped it, if something did.
    """

    repo: str
    commit: str
    pushed: str
    waiting: Waiting
    unpublishable: dict[str, int]
    left_out: tuple[tuple[str, str], ...]
    pull_request: str
    repos: tuple[str, ...]
    signed_in_as: str | None
    background: str
    trouble: str


@dataclass(frozen=True)
class _Session:
    token: Token
    name: str
    until: float


class Publishing:
    def __init__(self, settings: Settings, store: Store, shelf: ImageShelf, training: Training):
        self.settings, self.store, self.shelf, self.training = settings, store, shelf, training
        self.published = Published(store.path)
        self._sessions: dict[str, _Session] = {}
        self._ended: set[str] = set()
        self._trouble, self._refused = "", None
        self._folder = settings.data_dir / "publishing"

    # ---- whose token

    def sign_in(self, actor: Actor, secret: str | None, name: str = "", seconds: float = 8 * 3600) -> None:
        """Keeps the actor's token for `seconds` at most. `name` is who they are on the Hub, if known.

        Raises SignInNeeded when there is no token in `secret`.
        """
        actor.require("chat")
        self._sessions[actor.visitor] = _Session(Token(secret), name, time.monotonic() + seconds)
        self._ended.discard(actor.visitor)

    def sign_in_by_hand(self, actor: Actor, secret: str | None) -> None:
        """`sign_in` with a token that somebody typed, once the Hub has said whose it is.

        Raises HubRefused for a token that the Hub does not know, HubBusy when it cannot be asked, Forbidden where
        people sign in on the Hub itself: a public page is no place to paste a token into.
        """
        actor.require("chat")
        if self.settings.hub_sign_in:
            raise Forbidden(
                "You gave a token.",
                "In this Space one signs in on the Hub, which gives it a token for just what it needs.",
                "Use the button “Sign in with Hugging Face”.",
            )
        self.sign_in(actor, secret, self._open(Token(secret)).person())

    def may_sign_in_as_owner(self, actor: Actor) -> bool:
        """Where strangers come in without a login, nobody is known to own the machine's token."""
        return "manage" in actor.rights and (self.settings.single_user or self.settings.team)

    def sign_in_as_owner(self, actor: Actor) -> None:
        """The token of this machine (HF_TOKEN, or what `hf auth login` saved), for its owner only."""
        actor.require("manage")
        if not self.may_sign_in_as_owner(actor):
            raise Forbidden(
                "You asked for the token of this machine.",
                "Anybody can open this studio, so it does not know who its owner is.",
                "Sign in with a token of your own.",
            )
        self.sign_in(actor, read_machine_token().secret, "the owner of this machine")

    def sign_out(self, actor: Actor) -> None:
        actor.require("chat")
        self._sessions.pop(actor.visitor, None)
        self._ended.discard(actor.visitor)

    def signed_in_as(self, actor: Actor) -> str | None:
        """Who the actor is on the Hub, "somebody" when they gave a token without a name; None when signed out."""
        actor.require("chat")
        session = self._session(actor)
        return (session.name or "somebody") if session else None

    def has_ended(self, actor: Actor) -> bool:
        """Whether the actor was signed in until the time was over or the Hub refused the token."""
        actor.require("chat")
        return self._session(actor) is None and actor.visitor in self._ended

    def own_token(self, actor: Actor) -> str | None:
        """The token that the actor gave, for what they read from the Hub; None when signed out."""
        actor.require("chat")
        session = self._session(actor)
        return session.token.secret if session else None

    def _session(self, actor: Actor) -> _Session | None:
        session = self._sessions.get(actor.visitor)
        if session is not None and session.until < time.monotonic():
            self._end(actor.visitor, session)
            return None
        return session

    def _end(self, visitor: str, session: _Session) -> None:
        # Not a newer one: the refusal of an old token may come late.
        if self._sessions.get(visitor) is session:
            del self._sessions[visitor]
            self._ended.add(visitor)

    def hub(self, actor: Actor) -> "Hub":
        """The Hub with the token that the actor gave. Raises SignInNeeded for one who gave none."""
        actor.require("chat")
        return self._hub(actor)

    def _hub(self, actor: Actor) -> "Hub":
        session = self._session(actor)
        if session is None:
            ended = actor.visitor in self._ended
            raise SignInNeeded(
                "Your sign-in to the Hub has ended." if ended else "You are not signed in to the Hub.",
                "What is done there is done in somebody's name, and nobody else's token is used for it.",
                f"Sign in {'again ' * ended}to continue; what waits is kept.",
            )
        return self._open(session.token, lambda: self._end(actor.visitor, session))

    def _open(self, token: Token | Literal[False], when_refused: Callable[[], None] = lambda: None) -> "Hub":
        from rlhfv.publishing.hub import Hub

        return Hub(token, when_refused=when_refused)

    # ---- whose pairs

    def _whose(self, actor: Actor) -> str | None:
        """The visitor whose items are published; None is everybody's. On a public page each has their own, but for
        those who review what the others made."""
        everybodys = self.settings.single_user or self.settings.team or "review" in actor.rights
        return None if everybodys else actor.visitor

    def _repos(self, actor: Actor) -> list[str]:
        """The data sets that the actor may know of, the latest first: where each publishes their own, their own."""
        whose = self._whose(actor)
        return (
            self.published.remotes() if whose is None else (self.store.recall(f"repos:{whose}") or {}).get("all", [])
        )

    # ---- the data set

    def status(self, actor: Actor, repo: str | None = None) -> PublishingStatus:
        """How things stand, as far as this machine knows: the Hub is not asked."""
        actor.require("publish")
        repos, whose, name = self._repos(actor), self._whose(actor), self.signed_in_as(actor)
        background = "" if whose else self.settings.publish_to or ""
        repo = repo or background or next(iter(repos), "")
        if not repo and name and self.settings.hub_sign_in:
            repo = f"{name}/{USUAL_NAME}"
        known = "" if whose and repo not in repos else repo  # how others' data sets stand is not told
        remote = self.published.remote(known)
        return PublishingStatus(
            repo=repo,
            commit=remote.head,
            pushed=remote.pushed,
            waiting=self.published.waiting(known, whose),
            unpublishable=self.published.unpublishable(whose),
            left_out=tuple((id, reason) for id, reason in remote.left_out),
            pull_request=next((one.url for one in self.published.attempts(known) if one.url), ""),
            repos=tuple(repos),
            signed_in_as=name,
            background=background,
            trouble=self._trouble if background else "",
        )

    def push(
        self,
        actor: Actor,
        repo: str,
        private: bool = True,
        as_pull_request: bool = False,
        on_progress: Progress | None = None,
    ) -> "Pushed":
        """Brings the data set up to date in the actor's name; raises what `Pusher.push` raises, and SignInNeeded."""
        actor.require("publish")
        whose = self._whose(actor)
        pushed = self._push(self._hub(actor), repo, private, as_pull_request, on_progress, whose=whose)
        if whose:
            self.store.remember(f"repos:{whose}", {"all": list(dict.fromkeys([repo, *self._repos(actor)]))})
        return pushed

    def _push(self, hub: "Hub", *arguments, whose: str | None = None) -> "Pushed":
        from rlhfv.publishing.pusher import Pusher

        return Pusher(self.published, self.shelf, self._folder, hub, whose=whose).push(*arguments)

    def pull(self, actor: Actor, repo: str, on_progress: Progress | None = None) -> "Pulled":
        """Takes the data set in; raises what `Puller.pull` raises. A public one is read without signing in."""
        actor.require("manage")
        from rlhfv.publishing.puller import Puller

        hub = self._hub(actor) if self._session(actor) else self._open(False)
        return Puller(self.published, self.shelf, self._folder, hub).pull(repo, on_progress)

    def remove_everywhere(
        self,
        actor: Actor,
        repo: str,
        items: list[str],
        forget_history: bool = False,
        on_progress: Progress | None = None,
    ) -> "Erased":
        """Takes pairs and judgements out of a data set for good, with its history if asked."""
        actor.require("manage")
        from rlhfv.publishing.pusher import Pusher

        pusher = Pusher(self.published, self.shelf, self._folder, self._hub(actor))
        return pusher.remove_everywhere(repo, items, forget_history, on_progress)

    def address(self, repo: str, commit: str = "", kind: str = "dataset") -> str:
        """Where people look at a repository, or at one commit of it."""
        from huggingface_hub import constants

        place = f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{repo}"
        return f"{place}/commit/{commit}" if commit else place

    def published_name(self, actor: Actor) -> tuple[str, str]:
        """The name that the actor's pairs carry here, and the one that stands for it in published data."""
        actor.require("correct")
        name = annotator_name(self.store, actor)
        return name, self.published.shown_names([name])[name]

    def set_named(self, actor: Actor, named: bool) -> None:
        """Whether the name that the actor's pairs carry may be published; otherwise a pseudonym stands for it.

        Raises Forbidden for a name that others carry too: they were not asked; SignInNeeded where only the Hub knows
        whether the name is the actor's.
        """
        actor.require("correct")
        if named and self.settings.hub_sign_in and not actor.name:
            raise SignInNeeded(
                "You are not signed in to the Hub.", "Anybody could write your name.", "Sign in, then choose it again."
            )
        name = annotator_name(self.store, actor)
        if named and not self.settings.single_user and self.published.is_borne_by_others(name, actor.visitor):
            raise Forbidden(
                f"Pairs of somebody else carry the name {name!r} too.",
                "Publishing it would name them as well.",
                "Give yourself another name first.",
            )
        self.published.set_named(name, named)

    # ---- adapters

    def push_adapter(
        self, actor: Actor, run_id: str, repo: str, private: bool = True, on_progress: Progress | None = None
    ) -> "PushedAdapter":
        """Publishes what a training run made, linked to the data set that all its pairs stand in, if one is known."""
        actor.require("publish")
        from rlhfv.publishing.adapters import DataLink, push_adapter, read_adapter
        from rlhfv.publishing.pusher import silence

        hub = self._hub(actor)
        folder = self.training.folder(actor, run_id)
        source = folder.adapter if folder.adapter.is_dir() else folder.path / "model"
        pairs = read_adapter(source)["pairs"]
        data, ids = None, {*pairs["ids"]}
        for name in self._repos(actor):
            if data is None and ids and self.published.placed(name, ids) == ids:
                data = DataLink(name, self.published.remote(name).head)
        shown = self.published.shown_names(name for name in pairs["annotators"] if name != "unnamed")
        pushed = push_adapter(
            source,
            repo,
            hub,
            self._folder / f"adapter-{folder.id}",
            {"unnamed": "unnamed", **shown},
            data,
            private,
            on_progress or silence,
        )
        self.store.remember(f"adapter:{folder.id}", {"repo": pushed.repo, "commit": pushed.commit})
        return pushed

    def pushed_adapter(self, actor: Actor, run_id: str) -> "PushedAdapter | None":
        """Where the adapter of a run was published last."""
        from rlhfv.publishing.adapters import PushedAdapter

        kept = self.store.recall(f"adapter:{self.training.folder(actor, run_id).id}")
        return PushedAdapter(**kept) if kept else None

    # ---- in the background

    def start_background(self, seconds: float = SECONDS_BETWEEN_PUSHES) -> "BackgroundPusher | None":
        """Keeps `settings.publish_to` up to date with the token of this machine, if the owner asked for that. When the
        process ends, or is asked to, it pushes once more.
        """
        if not self.settings.publish_to:
            return None
        pusher = BackgroundPusher(self, self.settings.publish_to, seconds).start()
        atexit.register(pusher.close)
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGTERM)

            def end(number: int, frame) -> None:
                pusher.close()
                signal.signal(signal.SIGTERM, before)
                os.kill(os.getpid(), number)

            signal.signal(signal.SIGTERM, end)
        return pusher

    def push_as_owner(self, repo: str) -> None:
        """One push of the owner's pusher. What stops it stands in the status; a token that was refused is not tried
        again.
        """
        from rlhfv.publishing.hub import HubRefused

        token = None
        try:
            if self.published.waiting(repo).total:
                token = read_machine_token()
                if token == self._refused:
                    return
                self._push(self._open(token), repo)
            self._trouble = ""
        except StudioError as error:
            self._trouble = str(error)
            if isinstance(error, HubRefused):
                self._refused = token
        except Exception as error:  # whatever it was, the next push may work, and nobody else would tell
            self._trouble = f"The push stopped: {type(error).__name__}. What waits is kept."
            _log.exception("the push to %s stopped", repo)


class BackgroundPusher:
    """The owner's pusher: a thread that pushes what waits, at most once in `seconds`."""

    def __init__(self, publishing: Publishing, repo: str, seconds: float):
        self._publishing, self._repo, self._seconds = publishing, repo, seconds
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"pusher of {repo}", daemon=True)

    def start(self) -> "BackgroundPusher":
        self._thread.start()
        return self

    def close(self, seconds: float = SECONDS_TO_END) -> None:
        """One last push, for at most `seconds`: what does not get through waits for the next start."""
        self._ending.set()
        self._thread.join(seconds)

    def _work(self) -> None:
        import rlhfv.publishing.pusher  # noqa: F401  (now: at the end there is no time to load it)

        while True:
            last = self._ending.wait(self._seconds)
            self._publishing.push_as_owner(self._repo)
            if last:
                return


def read_machine_token() -> Token:
    """The token in HF_TOKEN, or the one that `hf auth login` saved. Raises SignInNeeded when there is none."""
    from huggingface_hub import get_token

    try:
        return Token(get_token())
    except SignInNeeded:
        raise SignInNeeded(
            "This machine has no token of the Hub.",
            "Neither is HF_TOKEN set, nor did anybody run `hf auth login` here.",
            "Do one of them, then try again; what waits is kept.",
        ) from None
