"""The Hub as the pusher and the puller use it: an explicit token, timeouts, and errors that a person can act on."""

import re
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import httpx2
from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import disable_progress_bars, parse_ratelimit_headers
from huggingface_hub.utils._http import default_client_factory

from rlhfv.errors import InvalidData, StudioError
from rlhfv.publishing.token import SignInNeeded, Token, scrub

Answer = TypeVar("Answer")

SECONDS = 60
CONNECT_SECONDS = 10
REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)

READ = "read the repository (permission 'repo.content.read')"
WRITE = "write to the repository (role 'write', permission 'repo.write'; OAuth 'contribute-repos' or 'write-repos')"
_CREATE = "create repositories there (role 'write', permission 'repo.write'; OAuth 'contribute-repos')"
_DISCUSS = "open pull requests (role 'write', permission 'discussion.write')"
_STATUS = re.compile(r"\b(40[1-9]|412|429|50[0-9])\b")
_setup = threading.Lock()
_ready = False


class HubRefused(StudioError):
    """The Hub will give the same answer again: a right is missing, a name is wrong, a repository is gone."""


class TokenRefused(HubRefused):
    """The Hub does not know the token, or not any longer."""


class HubBusy(StudioError):
    """It may work later. `wait` is how many seconds the Hub asked for, if it did."""

    wait: float | None = None


class HubMoved(StudioError):
    """Somebody else committed in between, or is about to."""


def require_repo_id(repo: str) -> str:
    if not REPO_ID.fullmatch(repo) or ".." in repo or "--" in repo:
        raise InvalidData(
            f"The repository is named {repo!r:.80}.",
            "A name on the Hub has an owner and a name, parted by one slash.",
            "Write it as owner/name.",
        )
    return repo


class Hub:
    """One person's access to the Hub at `endpoint` (that of HF_ENDPOINT when left out).

    Args:
        token: False reads what everybody may read; nothing else can be done then.
        when_refused: called when the Hub does not know the token any longer.
    """

    def __init__(
        self,
        token: Token | Literal[False],
        endpoint: str | None = None,
        when_refused: Callable[[], None] = lambda: None,
    ):
        if token is not False and not isinstance(token, Token):
            raise TypeError("a token is always given: without one the client would take the machine's")
        _set_up()
        self._token, self._when_refused = token, when_refused
        self._scrub = token.scrub if token else scrub
        self._api = HfApi(endpoint=endpoint, token=token.secret if token else False)

    def person(self) -> str:
        """The name of whoever the token belongs to."""
        return self._whoami()["name"]

    def roles(self) -> dict[str, str]:
        """The organisations of whoever the token belongs to, each with the role there ("admin", "write",
        "contributor", "read"), which is empty where the Hub does not tell it."""
        return {one["name"]: one.get("roleInOrg") or "" for one in self._whoami().get("orgs") or ()}

    def owns(self, repo: str) -> bool:
        """Whether the repository's namespace is that person's own, or of an organisation that they administer."""
        owner = repo.partition("/")[0].lower()
        admin = [name for name, role in self.roles().items() if role == "admin"]
        return owner in (name.lower() for name in (self.person(), *admin))

    def _whoami(self) -> dict:
        return self._ask("The look at the token", "say whose it is", self._api.whoami)

    def head(self, repo: str, kind: str = "dataset", revision: str | None = None) -> str | None:
        """The newest commit of the main branch, or of the branch or tag `revision`; None when there is no such
        repository, or none that the token sees."""

        def look() -> str | None:
            try:
                return self._api.repo_info(repo, revision=revision, repo_type=kind, timeout=SECONDS).sha
            except RepositoryNotFoundError as error:
                if error.response.status_code == 404 or self._token is False:  # to nobody it says 401
                    return None
                raise

        return self._ask(f"The look at {repo}", READ, look)

    def create(self, repo: str, private: bool, kind: str = "dataset") -> bool:
        """Whether it was made; False when there is one already, which this token may not even see."""

        def create() -> bool:
            try:
                self._api.create_repo(repo, repo_type=kind, private=private)
            except HfHubHTTPError as error:
                if error.response.status_code == 409:
                    return False
                raise
            return True

        return self._ask(f"The creation of {repo}", _CREATE, create)

    def files(self, repo: str, commit: str, kind: str = "dataset") -> dict[str, list[str]]:
        """Each file with the names of its content ("sha256:…" for a large one, "git:…" for a small one)."""

        def list_files() -> dict[str, list[str]]:
            tree = self._api.list_repo_tree(repo, recursive=True, revision=commit, repo_type=kind)
            return {
                entry.path: [f"sha256:{entry.lfs.sha256}" if entry.lfs else f"git:{entry.blob_id}"]
                for entry in tree
                if isinstance(entry, RepoFile)
            }

        return self._ask(f"The list of files of {repo}", READ, list_files)

    def download(self, repo: str, path: str, commit: str, folder: Path, kind: str = "dataset") -> Path:
        download = partial(self._api.hf_hub_download, repo, path, repo_type=kind, revision=commit)
        return Path(self._ask(f"The download of {path} from {repo}", READ, partial(download, local_dir=folder)))

    def commit(
        self,
        repo: str,
        additions: Iterable[CommitOperationAdd],
        message: str,
        parent: str | None,
        pull_request: bool = False,
        kind: str = "dataset",
    ) -> CommitInfo:
        """All files or none, on top of `parent`."""
        commit = partial(self._api.create_commit, repo, additions, commit_message=message, repo_type=kind)
        needs = _DISCUSS if pull_request else WRITE
        return self._ask(f"The push to {repo}", needs, partial(commit, parent_commit=parent, create_pr=pull_request))

    def find_pull_request(self, repo: str, title: str) -> str:
        """The address of the open pull request with this title, empty if there is none."""

        def find() -> str:
            found = self._api.get_repo_discussions(
                repo, repo_type="dataset", discussion_type="pull_request", discussion_status="open"
            )
            return next((one.url for one in found if one.title == title), "")

        return self._ask(f"The list of pull requests of {repo}", READ, find)

    def forget_history(self, repo: str, message: str, kind: str = "dataset") -> None:
        """Makes one commit of all, and deletes for good what no file of it uses."""

        def forget() -> None:
            self._api.super_squash_history(repo, repo_type=kind, commit_message=message)
            used = {name for (name,) in self.files(repo, "main", kind).values() if name.startswith("sha256:")}
            large = {f"sha256:{file.file_oid}": file for file in self._api.list_lfs_files(repo, repo_type=kind)}
            unused = [file for name, file in large.items() if name not in used]
            if unused and used <= large.keys():  # else the list names files in another way, and none may be deleted
                self._api.permanently_delete_lfs_files(repo, unused, rewrite_history=False, repo_type=kind)

        self._ask(f"The deletion of the history of {repo}", WRITE, forget)

    def ask(self, doing: str, needs: str, act: Callable[[HfApi], Answer]) -> Answer:
        """What `act` gets from this person's client, its errors told like all others.

        Args:
            doing: what is done, as the beginning of a sentence ("The push to ann/pairs").
            needs: what the token has to be good for ("read the repository (…)").
        """
        return self._ask(doing, needs, partial(act, self._api))

    def scrub(self, text: str) -> str:
        """The text without this person's token, or anything else that looks like one."""
        return self._scrub(text)

    def give_secret(self) -> str:
        """The token itself, for a machine that works in this person's name."""
        if self._token is False:
            raise SignInNeeded(
                "There is no token.", "What works in somebody's name needs their token.", "Sign in to continue."
            )
        return self._token.secret

    def _ask(self, doing: str, needs: str, act: Callable):
        try:
            return act()
        except (HfHubHTTPError, httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
            told = self._explain(error, doing, needs)
        if isinstance(told, TokenRefused):
            self._when_refused()
        raise told  # outside of the handler: the original knows headers and bodies, so it is not kept as a context

    def _explain(self, error: Exception, doing: str, needs: str) -> StudioError:
        response = _response_of(error)
        said = self._scrub(_first_line(error))
        status = response.status_code if response is not None else None
        if status is None and isinstance(error, (ConnectionError, RuntimeError)):  # the uploader tells it as text only
            found = _STATUS.search(said)
            status = int(found[1]) if found else None
        what = f"{doing} did not work" + (f" ({status})." if status else ".")
        if status == 401 and self._token:
            return TokenRefused(
                what,
                f"The token is not valid any longer: its time is over, or it was taken back. The Hub says: {said}",
                "Sign in again, then try again; what waits is kept.",
            )
        if status in (401, 403):
            return HubRefused(
                what,
                f"The token is not valid any longer, or it may not {needs}. The Hub says: {said}",
                "Sign in with a token that may, then try again; what waits is kept.",
            )
        if status == 402:
            return HubRefused(
                what,
                f"The account that would pay has no credit for it. The Hub says: {said}",
                "Add credit in the billing settings of that account, or choose what costs less.",
            )
        if status in (409, 412):
            return HubMoved(what, f"Somebody else changed it at the same moment: {said}", "Try again in a minute.")
        if status in (408, 429) or (status or 0) >= 500 or (status is None and not isinstance(error, ValueError)):
            wait = _asked_wait(response) if response is not None else None
            when = f"in {wait:.0f} seconds" if wait else "in a minute"
            busy = HubBusy(what, f"It cannot be reached or is busy: {said}", f"Try again {when}; what waits is kept.")
            busy.wait = wait
            return busy
        return HubRefused(what, f"It says: {said}", "Check the name of the repository and the rights of the token.")


def _set_up() -> None:
    """The client waits for ever by default, and a silent Hub would hold a worker with it."""
    global _ready
    with _setup:
        if not _ready:
            disable_progress_bars()
            set_client_factory(_client)
            _ready = True


def _client() -> httpx2.Client:
    client = default_client_factory()
    client.timeout = httpx2.Timeout(SECONDS, connect=CONNECT_SECONDS)
    return client


def _response_of(error: BaseException | None) -> httpx2.Response | None:
    while error is not None:
        if isinstance(error, HfHubHTTPError):
            return error.response
        error = error.__cause__
    return None


def _first_line(error: Exception) -> str:
    """What the server said, else the first line of the error and its type."""
    said = getattr(error, "server_message", None) or next((line for line in str(error).splitlines() if line), "")
    return f"{said.strip() or type(error).__name__:.300}".rstrip(".") + "."


def _asked_wait(response: httpx2.Response) -> float | None:
    limits = parse_ratelimit_headers(response.headers)
    if limits is not None and limits.remaining == 0:
        return limits.reset_in_seconds
    after = response.headers.get("Retry-After", "")
    return float(after) if after.isdigit() else None
