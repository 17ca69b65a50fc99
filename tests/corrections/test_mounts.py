"""A folder that is a mounted bucket is known, and no write-ahead log is used there."""

import sqlite3

import pytest

from rlhfv.corrections import mounts
from rlhfv.corrections.store import Store

PLAIN = "overlay / overlay rw 0 0\nproc /proc proc rw 0 0\n"


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    def mount(line):
        (tmp_path / "mounts").write_text(PLAIN + line.format(tmp_path), encoding="utf-8")
        monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mounts")

    return mount


@pytest.mark.parametrize(
    ("line", "space", "bucket"),
    [
        ("", True, False),
        ("hf-mount {0}/data fuse rw,nosuid 0 0\n", False, True),
        ("hf-mount {0}/data fuse rw,nosuid 0 0\ntmpfs {0}/data/inner tmpfs rw 0 0\n", False, True),
        ("server:/export {0}/data nfs4 rw 0 0\n", False, False),
        ("server:/export {0}/data nfs4 rw 0 0\n", True, True),
        ("/dev/sda1 {0}/data ext4 rw 0 0\n", True, False),
        ("hf-mount {0}/data\\040more fuse rw 0 0\n", False, False),
    ],
)
def test_a_bucket_is_known_by_how_it_is_mounted(mounted, monkeypatch, tmp_path, line, space, bucket):
    monkeypatch.setenv("SYSTEM", "spaces" if space else "linux")
    mounted(line)
    assert mounts.is_bucket_mount(tmp_path / "data" / "studio") is bucket
    assert mounts.is_bucket_mount(tmp_path / "other") is False


def test_no_write_ahead_log_on_a_bucket(mounted, tmp_path):
    mounted("hf-mount {0}/data fuse rw 0 0\n")
    for folder, mode in (("data", "delete"), ("disk", "wal")):
        store = Store(tmp_path / folder / "studio.db")
        store.remember("a", 1)
        assert sqlite3.connect(store.path).execute("PRAGMA journal_mode").fetchone()[0] == mode
        assert sorted(path.name for path in store.path.parent.iterdir())[1:] == (
            [] if mode == "delete" else ["studio.db-shm", "studio.db-wal"]
        )


def test_without_a_list_of_mounts_there_is_no_bucket(monkeypatch, tmp_path):
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "nothing")
    assert not mounts.is_bucket_mount(tmp_path)
