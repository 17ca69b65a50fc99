"""Memory that nobody uses any more goes back to the system.

glibc keeps what is freed for what comes next, apart for each thread. Sixty people's questions, a model's batches among
them, leave holes that differ from minute to minute; without this the process would take tens of megabytes more at one
time than at another, for the same work, and never be as small again as it was.
"""

import ctypes
import threading
import time

EVERY_SECONDS = 15.0


def give_back() -> None:
    """Returns the holes in all heaps of this process; does nothing where the C library is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def start() -> None:
    """Gives back from now on, every few seconds, for as long as the process lives."""
    threading.Thread(target=_work, name="heap", daemon=True).start()


def _work() -> None:
    while True:
        time.sleep(EVERY_SECONDS)
        give_back()
