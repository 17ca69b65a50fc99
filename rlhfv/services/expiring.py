"""On a page for passing visitors: what nobody judged or corrected goes after a while, and the page says when."""

import logging
import threading
import time

from rlhfv.corrections.expiry import Expiry
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.store import Store
from rlhfv.errors import StudioError
from rlhfv.evaluation.answer_sets import forget_imports
from rlhfv.settings import Settings

_log = logging.getLogger(__name__)


class Expiring:
    """Deletes every few minutes what `settings.forget_hours` says; without it nothing goes."""

    def __init__(self, settings: Settings, store: Store, shelf: ImageShelf):
        self.hours, self._shelf, self._sets = settings.forget_hours, shelf, settings.data_dir / "evaluations"
        self._expiry = Expiry(store.path) if self.hours else None

    @property
    def notice(self) -> str:
        """What visitors are told beside the place where they add a picture; "" where nothing goes."""
        if not self.hours:
            return ""
        after = f"{self.hours:g} hour{'s' if self.hours != 1 else ''}"
        if self.hours < 1:
            after = f"{max(1, round(60 * self.hours))} minutes"
        return f"Pictures and chats that nobody judged or corrected are deleted {after} after your last question."

    def start(self) -> None:
        if self._expiry is None:
            return
        self._expiry.watch()
        threading.Thread(target=self._work, name="expiry", daemon=True).start()

    def forget(self, now: float | None = None) -> tuple[int, int]:
        """Deletes what has had its time, answers to a benchmark that visitors took in too; returns how many answers
        and pictures went."""
        before = (time.time() if now is None else now) - 3600 * self.hours
        forget_imports(self._sets, before)
        return self._expiry.forget(before), self._expiry.forget_pictures(self._shelf.folder, before)

    def _work(self) -> None:
        while True:
            try:
                self.forget()
            except (StudioError, OSError) as error:
                _log.warning("What nobody corrected could not be deleted: %s", error)
            except Exception:  # the next look may work, and nobody else would tell
                _log.exception("the deletion of what nobody corrected stopped")
            time.sleep(min(300.0, 600 * self.hours))
