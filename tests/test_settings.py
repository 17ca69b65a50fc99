"""Flags and environment become one frozen value."""

from argparse import Namespace
from pathlib import Path

import pytest

from rlhfv.settings import DEMO_MODEL, parse_app_arguments, settings_from_arguments


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in ("RLHFV_DATA_DIR", "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "SPACE_ID"):
        monkeypatch.delenv(name, raising=False)


def test_without_flags_it_is_one_person_on_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = parse_app_arguments([])
    assert settings.data_dir == tmp_path.resolve() / ".local" / "share" / "rlhfv"
    assert (settings.host, settings.port, settings.model) == ("127.0.0.1", 7860, DEMO_MODEL)
    assert settings.single_user and not settings.open_browser and settings.adapters == () and settings.revision is None
    assert settings_from_arguments(Namespace(data_dir=None)) == settings


def test_every_flag_is_kept(tmp_path):
    words = f"--host 0.0.0.0 --port 8000 --data-dir {tmp_path} --model a/b --revision c --adapter d --adapter e --open"
    settings = parse_app_arguments(words.split())
    assert (settings.host, settings.port, settings.data_dir) == ("0.0.0.0", 8000, tmp_path.resolve())
    assert (settings.model, settings.revision, settings.adapters) == ("a/b", "c", ("d", "e"))
    assert settings.open_browser


def test_the_environment_gives_the_defaults(monkeypatch):
    monkeypatch.setenv("RLHFV_DATA_DIR", "~/mine")
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    monkeypatch.setenv("GRADIO_SERVER_PORT", "7000")
    monkeypatch.setenv("SPACE_ID", "somebody/studio")
    settings = parse_app_arguments([])
    assert settings.data_dir == Path.home().resolve() / "mine"
    assert (settings.host, settings.port, settings.single_user) == ("0.0.0.0", 7000, False)
    assert parse_app_arguments(["--port", "7001"]).port == 7001


@pytest.mark.parametrize("port", ["abc", "0", "-1", "65536", "80.5", "٣"])
@pytest.mark.parametrize("by", ["flag", "environment"])
def test_a_port_that_is_none_is_told(port, by, monkeypatch, capsys):
    if by == "environment":
        monkeypatch.setenv("GRADIO_SERVER_PORT", port)
    with pytest.raises(SystemExit) as ended:
        parse_app_arguments([] if by == "environment" else [f"--port={port}"])
    assert ended.value.code == 2 and "from 1 to 65535" in capsys.readouterr().err
