"""What nobody corrected goes; what somebody made, or something else needs, stays."""

import os
import time
from datetime import UTC, datetime

import pytest

from rlhfv.corrections.conversation import Prompt
from rlhfv.corrections.expiry import Expiry
from rlhfv.corrections.tasks import NewTask

HOUR = 3600.0


def picture(shelf, encode, seed, age=2 * HOUR):
    from PIL import Image

    name = shelf.intake(encode(Image.new("RGB", (16, 16), (seed, 0, 0)))).name
    when = time.time() - age
    os.utime(shelf.folder / name, (when, when))
    return name


@pytest.fixture
def expiry(store):
    expiry = Expiry(store.path)
    expiry.watch()
    return expiry


@pytest.fixture
def ask(store, shelf, encode, make_answer):
    """`ask(visitor, id)` is an answer two hours old about a picture of its own, in that visitor's chat."""
    made = []

    def ask(visitor, id, in_chat=True):
        made.append(picture(shelf, encode, len(made)))
        created = datetime.fromtimestamp(time.time() - 2 * HOUR, UTC).isoformat(timespec="seconds")
        answer = make_answer(id, visitor=visitor, images=(made[-1],))
        answer = type(answer)(**{**vars(answer), "created": created})
        store.add_answer(answer)
        store.save_conversation(visitor, {"turns": [{"left": id, "images": [made[-1]]}] if in_chat else []})
        return answer

    return ask


def later(store, seconds, *visitors):
    """As if these visitors had been there last so long ago."""
    marks = ", ".join("?" * len(visitors))
    store._connection.execute(
        f"UPDATE chat_times SET seen = seen - ? WHERE visitor IN ({marks})", (int(seconds), *visitors)
    )


def forget(expiry, shelf, before=HOUR):
    before = time.time() - before
    return expiry.forget(before), expiry.forget_pictures(shelf.folder, before)


def test_what_nobody_corrected_goes_with_its_picture_chat_draft_and_hints(store, shelf, expiry, ask):
    answer = ask("v", "a")
    store.save_draft("v", "a", {"edits": []})
    store.remember("hints:a", [1])
    assert forget(expiry, shelf) == (0, 0), "the visitor was there a moment ago"
    later(store, 2 * HOUR, "v")
    assert forget(expiry, shelf) == (1, 1)
    assert store.conversation("v") is None and store.draft("v", "a") is None and store.recall("hints:a") is None
    assert store.uncorrected("v") == [] and not (shelf.folder / answer.prompt.images[0]).exists()
    assert answer.text.encode() not in store.path.read_bytes()
    assert forget(expiry, shelf) == (0, 0)


def test_what_was_corrected_stays_without_its_chat(store, shelf, expiry, ask, make_pair, make_judgement):
    answer, other = ask("v", "a"), ask("v", "b")
    store.save(make_judgement("j", "a"), make_pair(answer, "There is a spoon on the table."))
    later(store, 2 * HOUR, "v")
    assert forget(expiry, shelf) == (1, 1)
    assert store.answer("a") == answer and store.pair_of_answer("a") and store.conversation("v") is None
    assert shelf.path(answer.prompt.images[0]).exists()
    assert not (shelf.folder / other.prompt.images[0]).exists()


def test_somebody_who_is_there_keeps_the_present_chat_and_drafts_and_no_older_one(store, shelf, expiry, ask):
    ask("v", "old", in_chat=False)
    kept = ask("v", "drafted", in_chat=False)
    store.save_draft("v", "drafted", {"edits": []})
    now = ask("v", "now")
    assert forget(expiry, shelf) == (1, 1)
    assert store.uncorrected("v") == ["drafted", "now"]
    assert all(shelf.path(answer.prompt.images[0]).exists() for answer in (kept, now))


def test_pictures_of_tasks_links_scenes_and_of_just_now_stay(store, shelf, expiry, encode):
    names = [picture(shelf, encode, seed) for seed in range(100, 105)]
    store.add_tasks([NewTask(Prompt("What?", (names[0],)))])
    store.remember("shared/x", {"image": names[1]})
    store.set_image_source(names[2], "demo:pairs/1")
    fresh = picture(shelf, encode, 110, age=60)
    shelf.intake((shelf.folder / names[3]).read_bytes())
    assert forget(expiry, shelf) == (0, 1)
    assert not (shelf.folder / names[4]).exists()
    assert all((shelf.folder / name).exists() for name in (*names[:4], fresh))
    store.forget("shared/x")
    assert forget(expiry, shelf) == (0, 1), "nobody sees a link that was withdrawn"


def test_chats_from_before_the_first_look_have_their_hour_too(store, shelf, expiry, ask):
    ask("v", "a")
    store._connection.execute("DELETE FROM chat_times")
    assert forget(expiry, shelf) == (0, 0)
    later(store, 2 * HOUR, "v")
    assert forget(expiry, shelf)[0] == 1


def test_an_answer_of_the_queue_waits_for_ever(store, shelf, expiry, make_answer):
    answer = make_answer("q", visitor="")
    store.add_tasks([NewTask(answer.prompt, answer=answer)])
    assert forget(expiry, shelf) == (0, 0) and store.answer("q") == answer
