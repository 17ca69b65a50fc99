"""What the page opens on: recorded by the answering service, shipped for the case that nothing else is there."""

from dataclasses import replace

import pytest

from rlhfv.cli import main
from rlhfv.corrections.recorded import Source, credit, find_recorded, read_recorded
from rlhfv.errors import Forbidden, GenerationFailed, InvalidData, NotFound
from rlhfv.models.demo.world import DemoWorld
from rlhfv.services import Actor, build_services, local_actor
from rlhfv.services import recorded as room
from rlhfv.services.guide import false_claims
from rlhfv.settings import Settings, parse_app_arguments
from rlhfv.studio.welcome import label, names, panel
from tests.services.fakes import ScriptedModel, load_instead, scripted_entry
from tests.studio.conftest import texts

MINE = Source("my camera", "CC-BY-4.0", "Ann")


class TwoMinds(ScriptedModel):
    """Says something else in each row."""

    def answer_both(self, rows, sampling, image_path, stop):
        self.finished = getattr(self, "finished", True)
        said = yield from super().answer_both(rows, sampling, image_path, stop)
        return tuple(
            replace(one, text=f"{one.text} {place}", finished=self.finished) for place, one in enumerate(said)
        )


@pytest.fixture
def recording(services, picture, tmp_path):
    services.host._model = TwoMinds()

    def record(folder="recorded/1", question="What is there?", **given):
        given = {"source": MINE, **given}
        return services.recorded.record(local_actor(), tmp_path / folder, picture, question, ("", ""), **given)

    return record


def test_two_voices_are_recorded_with_who_they_are_and_nothing_stays_in_the_store(services, recording, tmp_path, ada):
    made = recording()
    assert (made.left.text, made.right.text) == tuple(f"baseline says: What is there? #0 {row}" for row in (0, 1))
    assert made.left.model == f"scripted@{'0' * 40}" and made.left.voice == "Scripted: baseline"
    assert services.chat.open(local_actor()).turns == ()
    shown = build_services(replace(services.settings, recorded=tmp_path / "recorded")).recorded
    (one,) = shown.shown(ada)
    assert one.recorded == made and one.can_ask
    assert shown.picture_path(ada, made.picture) == tmp_path / "recorded" / "1" / made.picture
    assert shown.picture_path(ada, "a.png") is None


def test_half_an_answer_or_the_same_twice_is_no_comparison(services, recording, tmp_path):
    services.host._model.finished = False
    with pytest.raises(GenerationFailed, match="did not come to its end"):
        recording()
    services.host._model = ScriptedModel()
    with pytest.raises(InvalidData, match="Both answers are the same"):
        recording()
    with pytest.raises(Forbidden):
        services.recorded.record(Actor("v" * 32, rights=frozenset({"chat"})), tmp_path, b"", "?", ("", ""))
    assert not (tmp_path / "recorded").exists()


def test_it_can_be_asked_about(services, recording, tmp_path, ada):
    made = recording(question="Where is it?")
    services = build_services(replace(services.settings, recorded=tmp_path / "recorded"))
    assert services.recorded.put_into_chat(ada, 0) == "Where is it?"
    assert services.chat.open(ada).pending_images == (made.picture,)
    with pytest.raises(NotFound):
        services.recorded.put_into_chat(ada, 7)


def test_what_ships_is_true_of_its_scene_and_of_the_model_that_ships(tmp_path):
    """The left answer is wrong about the scene and the right one is not; both are of the weights in the package."""
    world, (folder,) = DemoWorld(), find_recorded(room.SHIPPED)
    recorded = read_recorded(folder)
    assert recorded.scene == world.first_scene and recorded.question == world.description_question
    assert (folder / recorded.picture).read_bytes() == world.picture(recorded.scene)
    claims = [
        false_claims(world, recorded.scene, recorded.question, side.text) for side in (recorded.left, recorded.right)
    ]
    assert len(claims[0]) == 2 and claims[1] == ()
    services = build_services(Settings(data_dir=tmp_path))
    _, aligned, *_ = services.host.voices(local_actor())
    assert recorded.left.model == str(services.host.identity)
    assert recorded.right.model == str(replace(services.host.identity, adapter=aligned.id))
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert size < 60_000


def test_the_page_says_that_it_is_recorded_when_and_of_whom(tmp_path):
    services = build_services(Settings(data_dir=tmp_path))
    (one,) = services.recorded.shown(local_actor())
    told = texts(panel(one, 1))
    assert "Recorded" in told and f"on 22 November 2026 with {'Demo model'}" in label(one.recorded)
    assert "a scene drawn by this program" in told and "Ask this yourself" in told and "Another one" not in told
    assert "greedy" in names(one.recorded) and str(services.host.identity) in names(one.recorded)
    assert ["mark", {}, ", with a frisbee nearby"] in list(marks_of(panel(one, 1)))


def marks_of(nodes):
    for node in nodes:
        if isinstance(node, list):
            if node[:1] == ["mark"]:
                yield node
            yield from marks_of(node)


def test_the_demo_model_is_not_asked_about_photographs(services, recording, tmp_path, monkeypatch, ada):
    recording()
    entry = scripted_entry(world=DemoWorld())
    monkeypatch.setattr("rlhfv.services.model_host.find_entry", lambda *_: entry)
    services = build_services(replace(services.settings, recorded=tmp_path / "recorded"))
    (one,) = services.recorded.shown(ada)
    assert not one.can_ask and "Try it on a drawn scene" in texts(panel(one, 2)) and "Another" in texts(panel(one, 2))


def test_a_folder_that_was_named_is_shown_or_refused_and_one_that_was_not_is_passed_over(
    services, tmp_path, monkeypatch, ada, caplog
):
    assert parse_app_arguments(["--recorded", str(tmp_path)]).recorded == tmp_path.resolve()
    with pytest.raises(InvalidData, match="holds no recorded comparison"):
        build_services(replace(services.settings, recorded=tmp_path / "none")).recorded.shown(ada)
    (tmp_path / "beside" / "1").mkdir(parents=True)
    (tmp_path / "beside" / "1" / "comparison.json").write_text("{")
    monkeypatch.setattr(room, "BESIDE", tmp_path / "beside")
    (one,) = build_services(services.settings).recorded.shown(ada)
    assert one.recorded.scene and "are not shown" in caplog.text


@pytest.mark.parametrize(
    ("left", "right", "told"),
    [
        ("gpt-4o", "gpt-4o-mini", "gpt-4o and gpt-4o-mini"),
        ("llava:7b", "llava:13b", "llava:7b and llava:13b"),
        ("Demo model: baseline", "Demo model: aligned", "Demo model"),
    ],
)
def test_only_what_both_voices_are_called_stands_for_both(services, ada, left, right, told):
    one = services.recorded.shown(ada)[0].recorded
    named = replace(one, left=replace(one.left, voice=left), right=replace(one.right, voice=right))
    assert f" with {told}, about" in label(named)


def test_the_command_records(picture, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("rlhfv.services.model_host.find_entry", lambda *_: scripted_entry())
    load_instead(monkeypatch, lambda *_, **__: TwoMinds())
    (tmp_path / "photo.png").write_bytes(picture)
    words = [
        "record",
        "--image",
        tmp_path / "photo.png",
        "--output",
        tmp_path / "out",
        "--data-dir",
        tmp_path / "data",
    ]
    words = [str(word) for word in words]
    assert main(words) == 2 and "under which licence" in capsys.readouterr().err
    assert main([*words, "--licence", "CC0-1.0", "--author", "Ann"]) == 0
    assert "--recorded" in capsys.readouterr().err
    assert credit(read_recorded(tmp_path / "out").source) == "Picture: photo.png by Ann (CC0-1.0)."
    assert main([*words, "--licence", "CC0-1.0"]) == 2 and "is there already" in capsys.readouterr().err
