"""Who may sign in to a shared studio, with which role: one JSON file that holds password hashes, never passwords."""

import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rlhfv.errors import Forbidden, InvalidData, NotFound
from rlhfv.services.actor import RIGHTS, Actor

VISITOR = frozenset({"chat", "correct"})
ANNOTATOR = VISITOR | {"annotate"}
REVIEWER = ANNOTATOR | {"review", "publish"}
ROLES = {"visitor": VISITOR, "annotator": ANNOTATOR, "reviewer": REVIEWER, "owner": RIGHTS}
"""What each role may do; a later one may do all that the ones before it may."""

MIN_PASSWORD, MAX_PASSWORD = 10, 1_000
SCRYPT = {"n": 2**14, "r": 8, "p": 1}
"""16 MB and about 50 ms a try (RFC 7914); a file keeps the numbers it was made with."""
PATIENCE_SECONDS = 1.0
"""How long a name has to wait after a wrong password; doubled with each further one, at most to a minute."""

_NAME = re.compile(r"[\w][\w .@+-]{0,63}")


@dataclass(frozen=True)
class User:
    """Somebody who may sign in. `password` is "scrypt$n$r$p$salt$hash" in hexadecimal."""

    name: str
    role: str
    password: str
    enabled: bool = True

    @property
    def visitor(self) -> str:
        """The id that drafts and conversations of this person belong to, in every browser; no name can be read off."""
        return hashlib.sha256(f"user:{self.name}".encode()).hexdigest()[:32]


class People:
    """The users in the file at `path`. Every call reads the file, so what the command line changes holds at once."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[int, float]] = {}

    def users(self) -> tuple[User, ...]:
        """Everybody, in the order of adding. Raises InvalidData when the file cannot be understood."""
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            users = tuple(User(**row) for row in document["users"])
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InvalidData(
                f"The file of users, {self.path.name}, cannot be read: {type(error).__name__}.",
                "It is JSON as `python -m rlhfv users add` writes it.",
                "Restore a copy of it, or move it away and add the users again.",
            ) from error
        for user in users:
            _check_role(user.role)
        return users

    def user(self, name: str) -> User:
        for user in self.users():
            if user.name == name:
                return user
        raise NotFound(
            f"There is no user {name!r:.80}.", "Nobody was added under that name.", "See `python -m rlhfv users list`."
        )

    def require_owner(self) -> None:
        """Raises InvalidData unless somebody could manage the studio."""
        if not _owners(self.users()):
            raise InvalidData(
                f"No owner is in {self.path.name}.",
                "With sign-in required, nobody could manage the studio.",
                f"Add one: python -m rlhfv users add NAME --role owner --auth {self.path.name}",
            )

    # ---- changes

    def add(self, name: str, role: str, password: str) -> User:
        """Raises InvalidData for a name that is taken or odd, an unknown role, a password that is too short."""
        if not _NAME.fullmatch(name) or name != name.strip():
            raise InvalidData(
                f"The name is {name!r:.80}.",
                "A name begins with a letter or digit and has at most 64 letters, digits, blanks and . @ + -.",
                "Choose another name.",
            )
        _check_role(role)
        with self._changing() as users:
            if any(user.name.casefold() == name.casefold() for user in users):
                raise InvalidData(
                    f"There is a user {name!r} already.",
                    "Names differ in more than capital letters.",
                    "Choose another name, or `users reset` for a new password.",
                )
            users.append(User(name, role, hash_password(password)))
        return users[-1]

    def disable(self, name: str) -> User:
        """The user cannot sign in any more and what is open stops working; pairs and history stay.

        Raises InvalidData for the last owner: nobody could manage the studio any more.
        """
        return self._change(name, enabled=False)

    def reset(self, name: str, password: str) -> User:
        """A new password; a disabled user may sign in again."""
        return self._change(name, password=hash_password(password), enabled=True)

    def _change(self, name: str, **fields) -> User:
        self.user(name)
        with self._changing() as users:
            (place,) = [number for number, user in enumerate(users) if user.name == name]
            managed = _owners(users)
            users[place] = replace(users[place], **fields)
            if managed and not _owners(users):
                raise InvalidData(
                    f"{name} is the last owner.",
                    "Nobody could manage the studio any more.",
                    "Add another owner first.",
                )
        return users[place]

    @contextmanager
    def _changing(self) -> Iterator[list[User]]:
        """The users to change; written whole, readable by its owner only, when the block ends without an error."""
        import fcntl

        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.with_name(f".{self.path.name}.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            users = list(self.users())
            yield users
            with tempfile.NamedTemporaryFile("w", dir=self.path.parent, delete=False, encoding="utf-8") as file:
                os.fchmod(file.fileno(), stat.S_IRUSR | stat.S_IWUSR)
                json.dump({"v": 1, "users": [asdict(user) for user in users]}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.replace(file.name, self.path)

    # ---- signing in

    def check(self, name: str, password: str) -> bool:
        """Whether this person may sign in now. Costs the same for a name that is unknown, and after a wrong password
        a name has to wait, so that guessing is slow.
        """
        with self._lock:
            failures, until = self._waiting.get(name, (0, 0.0))
            if time.monotonic() < until:
                return False
        known = next((user for user in self.users() if user.name == name and user.enabled), None)
        right = verify_password(password, known.password if known else _NOBODY) and known is not None
        with self._lock:
            self._waiting.pop(name, None)
            if not right:
                pause = min(60.0, PATIENCE_SECONDS * 2 ** min(failures, 6))
                self._waiting[name] = (failures + 1, time.monotonic() + pause)
                if len(self._waiting) > 10_000:  # names are free to invent: the memory for them is not
                    self._waiting.pop(next(iter(self._waiting)))
        return right

    def actor(self, name: str) -> Actor:
        """The signed-in person with the rights of the present role; raises Forbidden once disabled."""
        user = next((user for user in self.users() if user.name == name and user.enabled), None)
        if user is None:
            raise Forbidden(
                "You are signed in as somebody who has no access any more.",
                "The owner of this studio disabled that account.",
                "Ask the owner; what you saved is kept.",
            )
        return Actor(user.visitor, user.name, ROLES[user.role])


def hash_password(password: str) -> str:
    """Raises InvalidData for a password that is too short or too long."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise InvalidData(
            f"The password has {len(password)} characters.",
            f"It needs {MIN_PASSWORD} to {MAX_PASSWORD}, because whoever guesses it acts in that name.",
            "Choose another one, such as four words.",
        )
    salt = secrets.token_bytes(16)
    digest = _scrypt(password, salt, **SCRYPT)
    return "$".join(("scrypt", *(str(SCRYPT[name]) for name in "nrp"), salt.hex(), digest.hex()))


def verify_password(password: str, kept: str) -> bool:
    _, n, r, p, salt, digest = kept.split("$")
    tried = _scrypt(password[: MAX_PASSWORD + 1], bytes.fromhex(salt), n=int(n), r=int(r), p=int(p))
    return hmac.compare_digest(tried, bytes.fromhex(digest))


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    secret = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(secret, salt=salt, n=n, r=r, p=p, maxmem=2**26)


def _owners(users: Iterable[User]) -> list[User]:
    return [user for user in users if user.enabled and user.role == "owner"]


def _check_role(role: str) -> None:
    if not isinstance(role, str) or role not in ROLES:
        raise InvalidData(f"The role is {role!r:.80}.", f"The roles are {', '.join(ROLES)}.", "Choose one of them.")


_NOBODY = "$".join(("scrypt", *(str(SCRYPT[name]) for name in "nrp"), "00" * 16, "00" * 64))
