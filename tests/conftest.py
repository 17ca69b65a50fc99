"""Fixtures that several rooms share."""

import gc
import re
import shutil
import signal
from pathlib import Path

import pytest

from rlhfv.runs import bundle
from rlhfv.runs.bundle import write_wheel
from tests.hub.fixture import connect, hub, transport
from tests.hub.people import ISSUED

__all__ = ["connect", "hub", "transport"]

LONGEST = (
    "ddpo/test_train.py",
    "models/test_architectures.py",
    "ddpo/test_devices.py",
    "runs/test_hub_jobs.py",
    "runs/test_hub_runs.py",
    "ddpo/test_counted.py",
    "models/test_engine.py",
    "test_house_rules.py",
    "studio/test_crowd.py",
    "ddpo/test_packing.py",
    "models/test_adapters.py",
    "models/test_local.py",
    "commands/test_workers.py",
    "test_readme.py",
    "studio/test_api.py",
    "publishing/test_trouble.py",
    "ddpo/test_warmup.py",
)
"""Files that workers should not begin last."""

# A shell that starts the tests in the background makes them deaf to Ctrl-C, and what they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    order = {here / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is imported by now stays. Every training run collects garbage, and would look through all of it again: half
    a second a time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def one_wheel(tmp_path_factory):
    """Equal sources are packed once for all the runs that are sent; tests/runs/test_bundle.py packs them anew."""
    made: dict[str, Path] = {}

    def copy_wheel(folder: Path) -> Path:
        version = bundle._version(dict(bundle._sources()))
        if version not in made:
            made[version] = write_wheel(tmp_path_factory.mktemp("wheel"))
        return Path(shutil.copy(made[version], folder))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "write_wheel", copy_wheel)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_token_is_left_behind(tmp_path_factory):
    """Whatever the tests left in their folders (stores, runs, events, cards, repositories, logs, caches) is searched
    for the tokens that they used.
    """
    yield
    place = tmp_path_factory.getbasetemp()
    found = [
        str(file.relative_to(place))
        for file in place.rglob("*")
        if file.is_file() and ISSUED & {token.decode() for token in re.findall(rb"hf_[0-9a-f]{34}", file.read_bytes())}
    ]
    assert found == [], f"{len(found)} files hold a token"
