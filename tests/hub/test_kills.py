"""A client that dies in the middle of an upload, by kill -9."""

import hashlib
import subprocess
import sys
import time

import pytest

from tests.apps import ROOT
from tests.hub.conftest import noise

UPLOAD = """
import sys
from huggingface_hub import CommitOperationAdd, HfApi
folder, number = sys.argv[1], int(sys.argv[2])
operations = [CommitOperationAdd(f"data/{at}.parquet", f"{folder}/{at}.parquet") for at in range(number)]
HfApi().create_commit("ann/pairs", operations, commit_message="Pairs", repo_type="dataset", num_threads=1)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("over", "moment"), [("lfs", "upload"), ("lfs", "commit"), ("xet", "commit")])
def test_a_dead_upload_leaves_nothing_and_is_taken_up_again(hub, ann, tmp_path, over, moment):
    ann.create_repo("ann/pairs", repo_type="dataset")
    size = 3_000_000
    for at in range(3):
        (tmp_path / f"{at}.parquet").write_bytes(noise(size, at))
    command = [sys.executable, "-c", UPLOAD, str(tmp_path), "3"]
    environment = hub.environment(hub.user("ann"), tmp_path / "home", xet=over == "xet")

    def start():
        return subprocess.Popen(command, cwd=ROOT, env=environment)

    def wait_for(condition) -> None:
        until = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.01)

    last = hashlib.sha256(noise(size, 2)).hexdigest()
    fault = hub.fail(f"^PUT .*{last}" if moment == "upload" else "/commit/", delay=1.0, drop="during")
    process = start()
    wait_for(lambda: fault.hits)
    process.kill()
    process.wait()
    wait_for(lambda: all(request.done for request in list(hub.requests)))
    assert len(hub.commits("ann/pairs")) == 1
    hub.requests.clear()
    before = hub.xet_bytes
    assert start().wait() == 0
    missing = size if moment == "upload" else 0
    assert missing <= hub.received_bytes < missing + 20_000 and hub.xet_bytes - before < 20_000
    for at in range(3):
        assert hub.file("ann/pairs", f"data/{at}.parquet") == noise(size, at)
