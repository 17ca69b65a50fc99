"""On a page for passing visitors what nobody corrected goes, and they are told."""

import time

import pytest

from rlhfv.services import Actor, build_services
from rlhfv.services.actor import RIGHTS
from rlhfv.settings import Settings, parse_app_arguments
from rlhfv.studio.app import build_app
from tests.services.fakes import scripted_entry
from tests.services.made_benchmark import make_pope, write_pope_answers


@pytest.mark.parametrize(
    ("hours", "notice"),
    [
        (1.0, "Pictures and chats that nobody judged or corrected are deleted 1 hour after your last question."),
        (0.5, "Pictures and chats that nobody judged or corrected are deleted 30 minutes after your last question."),
        (24.0, "Pictures and chats that nobody judged or corrected are deleted 24 hours after your last question."),
        (None, ""),
    ],
)
def test_visitors_are_told(tmp_path, hours, notice):
    assert build_services(Settings(data_dir=tmp_path, forget_hours=hours)).expiring.notice == notice


def test_a_space_forgets_after_an_hour_and_a_laptop_never(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "ann/studio")
    assert parse_app_arguments([]).forget_hours == 1.0
    assert parse_app_arguments(["--forget-after", "0"]).forget_hours is None
    monkeypatch.delenv("SPACE_ID")
    assert parse_app_arguments([]).forget_hours is None
    assert parse_app_arguments(["--forget-after", "2.5"]).forget_hours == 2.5


def test_it_happens_by_itself_and_a_picture_may_be_sent_again(tmp_path, picture):
    services = build_services(Settings(data_dir=tmp_path, forget_hours=0.0001))
    shelf = services.corrections.shelf
    name = shelf.intake(picture).name
    time.sleep(0.5)
    services.expiring.start()
    until = time.monotonic() + 5
    while (shelf.folder / name).exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not (shelf.folder / name).exists()
    assert shelf.intake(picture).name == name


def test_the_page_says_so_beside_the_picture_and_gradio_keeps_no_upload_longer(tmp_path, monkeypatch):
    monkeypatch.setattr("rlhfv.services.model_host.find_entry", lambda *_: scripted_entry())
    services = build_services(Settings(data_dir=tmp_path, model="scripted", forget_hours=1.0))
    page = build_app(services)
    assert services.expiring.notice in repr(page.get_config_file())
    assert page.delete_cache == (300, 3600)


def test_a_set_that_cannot_be_opened_keeps_nothing_else_here(tmp_path):
    services = build_services(Settings(data_dir=tmp_path / "data", single_user=False, forget_hours=1))
    make_pope(services.benchmarking.root)
    visitor = Actor("v" * 32, rights=RIGHTS - {"manage"})
    sets = sorted(
        services.reporting.take_in(visitor, "pope-random", write_pope_answers(tmp_path / f"{said}.jsonl", [said] * 5))
        for said in ("yes", "no")
    )
    (services.benchmarking.sets / sets[0] / "judge.jsonl").mkdir()
    remains = services.benchmarking.sets / ".gone-1"
    remains.mkdir()
    services.expiring._expiry.watch()
    assert services.expiring.forget(time.time() + 7200) == (0, 0), "chats and pictures are reached"
    assert [one.id for one in services.benchmarking.answer_sets(visitor)] == sets[:1] and not remains.exists()
