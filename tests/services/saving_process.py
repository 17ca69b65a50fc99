"""A studio in which several visitors save, undo, delete and revise at once, until it is ended.

`python -m tests.services.saving_process` reads lines "SEED POINT SIGNAL FOLDER PLACE", starts a worker for each and
prints its process id. A worker ends itself with the signal when it has come to the point a few times, or goes on. What
its visitors were told stands in FOLDER/told, one line each, flushed before the visitor would see it.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

from rlhfv.corrections.edits import Edit
from rlhfv.corrections.store import Store
from rlhfv.publishing.places import FolderPlace
from rlhfv.services import build_services
from rlhfv.services.actor import Actor
from rlhfv.services.durable import Durable
from rlhfv.services.terms import Terms
from rlhfv.settings import Settings, read_durable
from tests.services.copied_studio import TEXT, make_answer

POINTS = {
    "kept here": (Store, "save"),
    "before a copy": (Durable, "_send"),
    "a picture lies there": (FolderPlace, "write"),
    "the copy lies there": (Durable, "_send"),
    "before it is told": (Durable, "confirm"),
    "the log begins": (Durable, "_begin_log"),
}
BEFORE = ("before a copy", "the log begins")
VISITORS = 3


def work(seed: int, point: str, number: int, folder: Path, place: str) -> None:
    chance = random.Random(seed)
    end_at(point, number, chance)
    services = build_services(Settings(data_dir=folder / "data", durable=read_durable(place), single_user=False))
    services.durable.end_on_signal()
    (folder / "data" / "visitors.key").write_bytes(b"k" * 32)
    services.durable.start()
    told = open(folder / "told", "a", encoding="utf-8")  # noqa: SIM115 (until the end of the process)
    lock = threading.Lock()

    def tell(**what) -> None:
        with lock:
            told.write(json.dumps(what) + "\n")
            told.flush()

    for index in range(VISITORS):
        who = Actor(f"{seed:08x}{index:024x}")
        threading.Thread(target=visit, args=(services, who, random.Random(seed + index), tell), daemon=True).start()
    while True:
        time.sleep(0.01)


def visit(services, who: Actor, chance: random.Random, tell) -> None:
    corrections = services.corrections
    corrections.set_terms(who, Terms("cc0-1.0", True, "somebody"))
    mine = []
    while True:
        deed = chance.random()
        if mine and deed < 0.2:
            id = chance.choice(mine)
            tell(deed="delete", pair=id)
            revision = corrections.delete(who, id) if services.store.has_pair(id) else None
            if revision and services.durable.confirm() == "":
                tell(deed="deleted", pair=id, revision=revision.number)
            mine.remove(id)
            continue
        answer = make_answer(who, (corrections.shelf.intake(picture(chance)).name,))
        services.store.add_answer(answer)
        for word in ("spoon", "cup")[: chance.choice([1, 1, 2])]:
            saved = corrections.save(who, answer.id, TEXT, [Edit(15, 19, word, "object")])
            if saved.message.startswith("Saved"):
                tell(deed="saved", pair=saved.pair_id, revision=saved.revision, word=word)
        mine.append(saved.pair_id)


def picture(chance: random.Random) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.frombytes("RGB", (8, 8), chance.randbytes(192)).save(buffer, "PNG")
    return buffer.getvalue()


def end_at(point: str, number: int, chance: random.Random) -> None:
    if point not in POINTS:
        return
    kind, name = POINTS[point]
    do, left = getattr(kind, name), [1 if point == "the log begins" else chance.randrange(1, 8)]

    def come(given) -> None:
        wanted = point != "a picture lies there" or any(name.startswith("images/") for name in given[1])
        left[0] -= wanted
        if left[0] == 0:
            os.kill(os.getpid(), number)

    def ending(*given):
        if point in BEFORE:
            come(given)
        if point == "a picture lies there" and len(given[1]) > 1:
            pictures = {name: path for name, path in given[1].items() if name.startswith("images/")}
            do(given[0], pictures)
            come(given)
            return do(given[0], {name: data for name, data in given[1].items() if name not in pictures}, *given[2:])
        made = do(*given)
        if point not in (*BEFORE, "a picture lies there"):
            come(given)
        return made

    setattr(kind, name, ending)


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        seed, point, number, folder, place = line.rstrip("\n").split("\t")
        worker = os.fork()
        if not worker:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                work(int(seed), point, int(number), Path(folder), place)
            finally:
                os._exit(70)
        print(worker, flush=True)
        _, status = os.waitpid(worker, 0)
        print(status, flush=True)


if __name__ == "__main__":
    main()
