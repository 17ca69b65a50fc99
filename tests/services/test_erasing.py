import io
import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rlhfv.corrections.edits import Edit
from rlhfv.errors import Forbidden, InvalidData, NotFound, RunFailed, StudioError
from rlhfv.run_folder import RunFolder
from rlhfv.services.actor import local_actor
from rlhfv.services.backends import Place
from rlhfv.services.terms import Terms

ME = local_actor("Ada")
SECRET = "Is Zebulon at home?"


def ask(services, picture: bytes, question: str, who=ME):
    """Asks in a new conversation about a picture; the stored answer of the left column."""
    services.chat.new_conversation(who)
    name = services.chat.add_image(who, picture).name
    services.chat.set_images(who, (name,))
    return ask_on(services, question, who), name


def ask_on(services, question: str, who=ME):
    *_, state = services.chat.ask(who, question, threading.Event())
    return services.store.answer(state.turns[-1].left.answer_id)


def correct(services, answer, replacement: str, who=ME) -> str:
    services.corrections.set_terms(who, Terms(consent=True))
    start = answer.text.index("says")
    return services.corrections.save(
        who, answer.id, answer.text, [Edit(start, start + 4, replacement, "other")]
    ).pair_id


def bytes_of(folder) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def frozen(services, pair_ids, name="run-1") -> RunFolder:
    """A finished run that learnt from the pairs."""
    rows = [services.store.pair(id).to_row() for id in pair_ids]
    folder = RunFolder(services.settings.data_dir / "runs" / name)
    config = {"kind": "training", "title": "a run", "base": {"name": "scripted", "revision": "0"}, "training": {}}
    folder.create(config, rows, services.corrections.shelf.path)
    folder.adapter.mkdir()
    return folder


@pytest.fixture
def other_picture():
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (40, 24), "orange").save(buffer, "PNG")
    return buffer.getvalue()


def test_no_byte_of_text_or_picture_stays(services, picture, other_picture):
    answer, name = ask(services, picture, SECRET)
    pair = correct(services, answer, "whispers")
    services.corrections.delete(ME, pair)
    services.corrections.undelete(ME, pair)
    services.corrections.save_draft(ME, answer.id, [Edit(0, 0, "Hark, ", "other")])
    later = ask_on(services, "And who else is there?")
    assert later.prompt.history[0].question == SECRET
    kept_answer, kept_name = ask(services, other_picture, "What is it?")
    kept = correct(services, kept_answer, "shouts")
    data = services.settings.data_dir
    folder = frozen(services, [pair, kept])
    image_bytes = services.corrections.shelf.path(name).read_bytes()
    before = bytes_of(data)
    assert b"Zebulon" in before and image_bytes in before

    erased = services.erasing.erase(ME, [pair])

    after = bytes_of(data)
    for trace in (b"Zebulon", b"zebulon", b"whispers", b"Hark", name.encode(), image_bytes):
        assert trace not in after, trace
    assert erased.found.pairs == (pair,)
    assert {answer.id, later.id} < {*erased.found.answers}
    assert erased.found.images == (name,) and erased.found.shared == ()
    assert erased.runs == (folder.id,)
    assert any(folder.id in sentence for sentence in erased.unreached), "an adapter cannot forget"
    with pytest.raises(NotFound):
        services.store.history(pair)
    assert services.corrections.pair(ME, kept).chosen.endswith("shouts: What is it? #0")
    assert services.corrections.find(ME, text="shouts").total == 1
    assert [row["id"] for row in folder.read_rows()] == [kept]
    assert [path.name for path in folder.images.iterdir()] == [kept_name]
    assert services.chat.open(ME).turns, "another conversation stays"


def test_a_picture_that_others_need_stays_and_is_named(services, picture):
    first, name = ask(services, picture, SECRET)
    second, same = ask(services, picture, "What is it?")
    assert name == same
    pair = correct(services, first, "whispers")
    erased = services.erasing.erase(ME, [pair])
    assert erased.found.shared == (name,)
    assert services.corrections.shelf.path(name).exists()
    assert services.store.answer(second.id) == second
    assert b"Zebulon" not in bytes_of(services.settings.data_dir)


def test_by_picture_everything_about_it_goes(services, picture, other_picture):
    _, name = ask(services, picture, SECRET)
    ask(services, picture, "What is it?")
    other, _ = ask(services, other_picture, "What is it?")
    erased = services.erasing.erase(ME, images=[name])
    assert len(erased.found.answers) == 4, "two questions, two columns"
    assert services.store.answer(other.id) == other
    assert name.encode() not in bytes_of(services.settings.data_dir)


def test_the_picture_as_it_was_imported_goes_too(services, tmp_path):
    import io

    from PIL import Image

    photo = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "Zebulon's garden"
    Image.new("RGB", (40, 24), "orange").save(photo, "JPEG", exif=exif)
    folder = tmp_path / "came"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(photo.getvalue())
    text = json.dumps({"question": SECRET, "chosen": "No.", "rejected": "Yes."})
    row = {"ds_name": "x", "image": "photo.jpg", "text": text, "origin_dataset": "x", "origin_split": "{}", "idx": 1}
    (folder / "rows.jsonl").write_text(json.dumps({**row, "image_path": "photo.jpg"}) + "\n")
    services.corrections.import_from(ME, folder / "rows.jsonl")
    data = services.settings.data_dir
    [pair] = services.corrections.mine(ME)
    assert list(data.rglob("*.original"))
    services.erasing.erase(ME, [pair.id])
    assert not list(data.rglob("*.original"))
    left = b"".join(p.read_bytes() for p in data.rglob("*") if p.is_file() and not p.is_relative_to(folder))
    assert b"Zebulon" not in left


def test_history_stays_append_only_for_everybody_else(services, picture):
    answer, _ = ask(services, picture, SECRET)
    pair = correct(services, answer, "whispers")
    other, _ = ask(services, picture, "What is it?")
    kept = correct(services, other, "shouts")
    services.erasing.erase(ME, [pair])
    import sqlite3

    with pytest.raises(sqlite3.DatabaseError, match="append-only"):
        services.store._connection.execute("DELETE FROM revisions WHERE pair = ?", (kept,))


def test_what_is_found_is_told_before(services, picture):
    answer, name = ask(services, picture, SECRET)
    pair = correct(services, answer, "whispers")
    found = services.erasing.find(ME, [pair])
    assert found.pairs == (pair,) and found.images == (name,)
    assert services.store.pair(pair), "looking erases nothing"


def test_refusals(services, picture, ada):
    answer, _ = ask(services, picture, SECRET)
    pair = correct(services, answer, "whispers")
    with pytest.raises(Forbidden):
        services.erasing.erase(replace(ada, rights=ada.rights - {"manage"}), [pair])
    with pytest.raises(InvalidData, match="Nothing"):
        services.erasing.erase(ME)
    with pytest.raises(NotFound):
        services.erasing.erase(ME, ["no-such-pair"])
    assert json.loads(json.dumps(services.store.pair(pair).to_row()))


def rows_at_head(hub, repo: str) -> str:
    """All that the data set's current files say, with what Parquet has compressed."""
    import pyarrow.parquet as parquet

    told = []
    for path in hub.paths(repo):
        data = hub.file(repo, path)
        told.append(str(parquet.read_table(io.BytesIO(data)).to_pylist()) if path.endswith(".parquet") else str(data))
    return "\n".join(told)


@pytest.mark.parametrize("forget", [False, True], ids=["head", "history"])
def test_nothing_stays_in_the_head_of_a_data_set(services, hub, connect, picture, other_picture, forget):
    """The other rows stay, the next push brings nothing back, and earlier commits go only when asked."""
    connect()
    answer, name = ask(services, picture, SECRET)
    pair = correct(services, answer, "whispers")
    kept_answer, kept_name = ask(services, other_picture, "What is it?")
    kept = correct(services, kept_answer, "shouts")
    services.publishing.sign_in(ME, hub.user("ann"))
    services.publishing.push(ME, "ann/pairs")
    image = services.corrections.shelf.path(name).read_bytes()
    kept_image = services.corrections.shelf.path(kept_name).read_bytes()
    assert "Zebulon" in rows_at_head(hub, "ann/pairs") and hub.find(image)

    erased = services.erasing.erase(ME, [pair], forget_history=forget)

    assert erased.repos == ("ann/pairs",) and erased.waiting == ()
    head = rows_at_head(hub, "ann/pairs")
    assert "Zebulon" not in head and pair not in head and name not in head and not hub.find(image)
    assert kept in head and hub.find(kept_image)
    assert bool(hub.find(image, history=True)) != forget
    assert any("earlier commits" in sentence for sentence in erased.unreached) != forget
    again = services.publishing.push(ME, "ann/pairs")
    assert (again.added, again.changed, again.removed) == (0, 0, 0)
    assert "Zebulon" not in rows_at_head(hub, "ann/pairs") and not hub.leaks


def test_signed_out_the_rows_wait_and_the_next_push_takes_them_out(services, hub, connect, picture):
    connect()
    answer, name = ask(services, picture, SECRET)
    pair = correct(services, answer, "whispers")
    services.publishing.sign_in(ME, token := hub.user("ann"))
    services.publishing.push(ME, "ann/pairs")
    services.publishing.sign_out(ME)
    image = services.corrections.shelf.path(name).read_bytes()
    erased = services.erasing.erase(ME, [pair])
    [(repo, reason)] = erased.waiting
    assert repo == "ann/pairs" and "sign in" in reason and hub.find(image)
    services.publishing.sign_in(ME, token)
    services.publishing.push(ME, "ann/pairs")
    assert "Zebulon" not in rows_at_head(hub, "ann/pairs") and not hub.find(image)


RUNS = "ann/runs"


@pytest.fixture
def sent(services, hub, connect, picture, other_picture, monkeypatch):
    """Two pairs in a run that was sent to a repository and has ended there; `sent.erased` is the one to erase."""
    from rlhfv.ddpo.check import CheckReport
    from rlhfv.ddpo.config import TrainingConfig

    connect()
    answer, name = ask(services, picture, SECRET)
    kept_answer, kept_name = ask(services, other_picture, "What is it?")
    pair, kept = correct(services, answer, "whispers"), correct(services, kept_answer, "shouts")
    token = hub.user("ann")
    services.publishing.sign_in(ME, token)
    monkeypatch.setattr("rlhfv.services.training.check_run", lambda pairs, *_, **__: CheckReport(len(pairs), ()))
    run = services.backends.start(ME, TrainingConfig(), Place(RUNS))
    image = services.corrections.shelf.path(name).read_bytes()
    kept_image = services.corrections.shelf.path(kept_name).read_bytes()
    assert hub.find("Zebulon") and hub.find(image) and hub.find(kept_image)
    return SimpleNamespace(
        run=run.id, pair=pair, kept=kept, name=name, image=image, kept_image=kept_image, token=token
    )


@pytest.mark.parametrize("forget", [False, True], ids=["head", "history"])
@pytest.mark.parametrize("known", [True, False], ids=["known run", "run deleted here"])
def test_nothing_stays_in_the_head_of_a_repository_of_runs(services, hub, sent, forget, known):
    services.backends.stop(ME, sent.run)
    hub.commit_as("ann", RUNS, {f"runs/{sent.run}/adapter/adapter_config.json": b"{}"}, repo_type="model")
    if not known:
        services.training.delete(ME, sent.run)
    erased = services.erasing.erase(ME, [sent.pair], forget_history=forget)
    assert erased.repos == (RUNS,) and erased.waiting == ()
    for trace in ("Zebulon", sent.pair, sent.name, sent.image):
        assert not hub.find(trace), trace
        assert bool(hub.find(trace, history=True)) != forget, trace
    assert hub.find(sent.kept) and hub.find(sent.kept_image)
    rows = hub.file(RUNS, f"runs/{sent.run}/pairs.jsonl", repo_type="model").decode().splitlines()
    assert [json.loads(row)["id"] for row in rows] == [sent.kept]
    told = " ".join(erased.unreached)
    assert f"what the run {sent.run} learnt, in {RUNS}" in told and f"machines that took runs from {RUNS}" in told
    assert (f"earlier commits of {RUNS}" in told) != forget
    if known:
        resumed = services.backends.resume(ME, sent.run)
        assert resumed.state == "queued", "it can go on, without the pair"
        warnings = [event for event in services.training.events(ME, sent.run)[0] if event["kind"] == "warn"]
        assert len({event["message"] for event in warnings}) == 1 and len(warnings) == 2, "told here and there"
    assert hub.leaks == []


def test_a_run_that_waits_there_is_stopped_first(services, hub, sent):
    with pytest.raises(RunFailed, match="queued and learns from"):
        services.erasing.erase(ME, [sent.pair])
    services.training.local.note_remote(sent.run, {**services.training.run(ME, sent.run).remote, "state": "stopped"})
    [(repo, reason)] = services.erasing.erase(ME, [sent.pair]).waiting
    assert repo == RUNS and f"The run '{sent.run}' is queued in {RUNS}" in reason and hub.find("Zebulon")
    services.backends.refresh(ME, sent.run)
    services.backends.stop(ME, sent.run)
    assert services.erasing.erase_waiting(ME).repos == (RUNS,) and not hub.find("Zebulon")
    assert services.erasing.erase_waiting(ME).repos == (), "nothing waits any longer"


@pytest.mark.parametrize("again", ["start", "resume"])
def test_signed_out_it_waits_and_the_next_run_takes_it_out(services, hub, sent, again):
    from rlhfv.ddpo.config import TrainingConfig

    services.backends.stop(ME, sent.run)
    services.publishing.sign_out(ME)
    erased = services.erasing.erase(ME, [sent.pair])
    [(repo, reason)] = erased.waiting
    assert repo == RUNS and "sign in" in reason and hub.find("Zebulon")
    services.publishing.sign_in(ME, sent.token)
    if again == "resume":
        services.backends.resume(ME, sent.run)
    else:
        services.backends.start(ME, TrainingConfig(), Place(RUNS))
    assert not hub.find("Zebulon") and not hub.find(sent.image)


def test_a_repository_that_its_owner_sees_no_longer_is_gone_and_holds_nothing(services, hub, connect, sent):
    services.backends.stop(ME, sent.run)
    connect(sent.token).delete_repo(RUNS)
    erased = services.erasing.erase(ME, [sent.pair])
    assert erased.waiting == () and any("if it was renamed" in sentence for sentence in erased.unreached)


def test_what_a_stranger_does_not_see_waits_for_its_owner(services, hub, sent):
    from rlhfv.ddpo.config import TrainingConfig

    services.backends.stop(ME, sent.run)
    services.publishing.sign_in(ME, hub.user("eve"))
    [(repo, reason)] = services.erasing.erase(ME, [sent.pair]).waiting
    assert repo == RUNS and f"no repository {RUNS} that this token sees" in reason and "its owner" in reason
    with pytest.raises(StudioError):
        services.backends.start(ME, TrainingConfig(), Place(RUNS))
    assert services.backends.sent.waiting() == [RUNS] and hub.find("Zebulon"), "a stranger's try settles nothing"
    services.publishing.sign_in(ME, sent.token)
    assert services.erasing.erase_waiting(ME).repos == (RUNS,) and not hub.find("Zebulon")
