"""The public API as programs use it: gradio_client and plain HTTP against a running app."""

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from gradio.utils import get_upload_folder
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from rlhfv.services import Actor, build_services
from rlhfv.services.limits import Limits
from rlhfv.settings import Settings
from rlhfv.studio import app
from rlhfv.studio.visitor import COOKIE
from tests.apps import free_port
from tests.services.fakes import ScriptedModel, scripted_entry
from tests.studio.raw import PICTURE

EDITS = [{"start": 0, "end": 8, "replacement": "One", "kind": "object"}]


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """A public studio with terms of its owner's."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "terms.md").write_text("Your corrections are kept.")
    (folder / f"{folder.name}.png").write_bytes(PICTURE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlhfv.services.model_host.find_entry", lambda *_: scripted_entry())
        settings = Settings(folder / "data", model="scripted", single_user=False, terms=folder / "terms.md")
        services = build_services(settings)
        services.host._model = ScriptedModel()
        demo, port = app.build_app(services), free_port()
        app.launch(services, demo, prevent_thread_lock=True, server_port=port, quiet=True)
        address = f"http://127.0.0.1:{port}/"
        yield SimpleNamespace(address=address, services=services, picture=folder / f"{folder.name}.png", folder=folder)
        demo.close()


def client(studio) -> Client:
    return Client(studio.address, verbose=False, analytics_enabled=False, download_files=False)


def ask(studio, program, question="What is it?", **given):
    return program.predict(question, handle_file(studio.picture), api_name="/chat", **given)


def visitor(program) -> str:
    return program.cookies[COOKIE].partition(".")[0]


def test_ask_correct_and_take_away(studio):
    program = client(studio)
    said = ask(studio, program)
    assert said.keys() == {"left", "right"} and said["left"]["answer"] == "baseline says: What is it? #0"
    assert said["left"]["answer_id"] != said["right"]["answer_id"] and said["left"]["finished"]
    left = said["left"]["answer_id"]
    with pytest.raises(AppError, match="Your corrections are kept") as refused:
        program.predict(left, EDITS, api_name="/correct")
    version = studio.services.consent.house.version
    assert f"agree='{version}'" in str(refused.value)
    with pytest.raises(AppError, match="Send licence=") as refused:
        program.predict(left, EDITS, agree=version, api_name="/correct")
    saved = program.predict(left, EDITS, licence="cc-by-4.0", publish=True, api_name="/correct")
    assert saved["revision"] == 1 and saved["message"].startswith("Saved: 1 correction")
    [row] = map(json.loads, program.predict(api_name="/export").splitlines())
    assert row["id"] == saved["pair_id"] and row["chosen"] == "One says: What is it? #0"
    assert row["provenance"]["consent"] and row["provenance"]["licence"] == "cc-by-4.0"
    assert studio.services.store.agreement_of_pair(saved["pair_id"]).version == version
    assert client(studio).predict(api_name="/export") == "", "somebody else has none"


def test_a_conversation_goes_on_until_a_new_picture(studio):
    program = client(studio)
    ask(studio, program)
    assert program.predict("And now?", api_name="/chat")["right"]["answer"].endswith("And now? #1")
    assert program.predict("Anew?", fresh=True, api_name="/chat")["left"]["answer"].endswith("Anew? #0")
    assert ask(studio, program, "Other?")["left"]["answer"].endswith("Other? #0")


def test_nobody_corrects_the_answer_of_another(studio):
    left, other = ask(studio, client(studio))["left"]["answer_id"], client(studio)
    with pytest.raises(AppError, match="It was not given to you"):
        other.predict(left, EDITS, licence="cc-by-4.0", api_name="/correct")


def test_what_is_refused_leaves_the_conversation_as_it_is(studio, monkeypatch):
    program = client(studio)
    ask(studio, program)
    with pytest.raises(AppError, match="question is empty"):
        program.predict("   ", fresh=True, api_name="/chat")
    with pytest.raises(AppError, match="question is empty"):
        ask(studio, program, "")
    assert program.predict("And now?", api_name="/chat")["right"]["answer"].endswith("And now? #1")


def test_limits_hold_for_programs_too(studio, monkeypatch):
    program = client(studio)
    monkeypatch.setattr(studio.services.chat, "limits", Limits(1, 0))
    ask(studio, program)
    with pytest.raises(AppError, match="try again; what you typed is kept"):
        program.predict("And now?", api_name="/chat")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (["What is it?", {"path": "/etc/passwd"}, False], "no file that was uploaded"),
        (["What is it?", {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, False], ""),
        (["What is it?", {"path": "../../visitors.key"}, False], "no file that was uploaded"),
        (["What is it?", None, False], "There is no picture yet"),
        (["x" * 5000, None, False], "At most 4,000 fit"),
        ([{"a": 1}, None, False], "of type str"),
        (["What is it?", None, "yes"], "of type bool"),
    ],
)
def test_what_cannot_be_asked_is_told(studio, data, told):
    begun = httpx.post(f"{studio.address}gradio_api/call/chat", json={"data": data}).json()
    heard = httpx.get(f"{studio.address}gradio_api/call/chat/{begun['event_id']}").text
    assert heard.startswith("event: error") and told in heard and "root:" not in heard


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        ([], "no correction yet"),
        ([{"start": 0}], "no valid 'end'"),
        ("all of it", "must be a list"),
        ([{"start": 0, "end": 10_000, "replacement": "", "kind": "object"}], "characters"),
        ([{"start": 0, "end": 8, "replacement": "x", "kind": "colour"}], "kind"),
        ([{**EDITS[0], "text": "somebody"}], "somebody"),
    ],
)
def test_a_correction_that_does_not_hold_is_told_and_nothing_is_kept(studio, edits, told):
    program = client(studio)
    left = ask(studio, program)["left"]["answer_id"]
    with pytest.raises(AppError, match=told):
        program.predict(left, edits, licence="cc-by-4.0", api_name="/correct")
    assert program.predict(api_name="/export") == ""


def test_a_picture_is_not_left_in_the_cache(studio):
    program = client(studio)
    ask(studio, program)
    assert len(studio.services.chat.open(Actor(visitor(program))).images) == 1
    assert not list(Path(get_upload_folder()).rglob(studio.picture.name))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_shell_can_do_it_too(studio):
    """The commands of the documentation."""
    script = f"""set -e
cd {studio.folder}
HERE={studio.address}gradio_api
curl -s -c jar -b jar $HERE/info > /dev/null
FILE=$(curl -s -c jar -b jar -F files=@{studio.picture.name} $HERE/upload | tr -d '[]"')
ID=$(curl -s -c jar -b jar -H 'content-type: application/json' $HERE/call/chat -d \
  '{{"data": ["What is it?", {{"path": "'$FILE'", "meta": {{"_type": "gradio.FileData"}}}}, false]}}' | cut -d'"' -f4)
curl -s -c jar -b jar $HERE/call/chat/$ID
"""
    told = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout
    assert told.startswith("event: complete") and "baseline says: What is it? #0" in told, told
