import ctypes
import os
import threading
from pathlib import Path

import pytest

from rlhfv.services import heap

glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim") or not Path("/proc/self/statm").exists(),
    reason="the C library is not glibc",
)


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@glibc
def test_holes_between_what_is_kept_go_back_to_the_system():
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    kept = []

    def leave_holes():
        pieces = [libc.malloc(64_000) for _ in range(1600)]
        for piece in pieces:
            ctypes.memset(piece, 1, 64_000)
        for number, piece in enumerate(pieces):
            kept.append(piece) if number % 16 == 15 else libc.free(piece)

    thread = threading.Thread(target=leave_holes)
    thread.start()
    thread.join()
    before = resident()
    heap.give_back()
    assert resident() < before - 60, "of 100 MB a sixteenth is in use"
    for piece in kept:
        libc.free(piece)


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    heap.give_back()
