"""`kill -9` of the app and of a run: nothing confirmed is lost, and what is shown afterwards is true."""

import os
import signal
import time

import pytest

from rlhfv.services import build_services, local_actor
from rlhfv.settings import Settings
from tests.apps import free_port, start_app, wait_until_ready

pytestmark = pytest.mark.slow
ENDED = ("done", "failed", "stopped")


def wait_for(services, run_id: str, reached, seconds: float = 300):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        run = services.training.run(local_actor(), run_id)
        if reached(run):
            return run
        assert run.state not in ENDED, (run.state, run.error, run.lines)
        time.sleep(0.3)
    raise AssertionError(f"the run is still {run.state} at step {run.step}")


def test_a_run_outlives_the_app_and_tells_of_its_own_death(tmp_path):
    actor, data_dir, port = local_actor(), tmp_path / "data", free_port()
    services = build_services(Settings(data_dir=data_dir))
    *_, (made, wanted) = services.training.add_oracle_pairs(actor, 32)
    assert made == wanted
    app = start_app(data_dir, port)
    wait_until_ready(port, app)
    config = services.training.recipes()["demo"].changed(steps=30, batch_size=4, eval_fraction=0)
    run_id = services.training.start(actor, config)
    wait_for(services, run_id, lambda run: run.step >= 2)

    app.send_signal(signal.SIGKILL)
    app.wait()
    at = services.training.run(actor, run_id).step
    wait_for(services, run_id, lambda run: run.step > at + 2)

    [worker] = {record.process.pid for _, record in services.training.local._all_records() if record.process}
    os.killpg(worker, signal.SIGKILL)
    time.sleep(1)
    fresh = build_services(Settings(data_dir=data_dir))
    killed = fresh.training.run(actor, run_id)
    assert killed.state == "failed" and killed.error and killed.lines
    assert len(fresh.corrections.mine(actor)) == 32, "a pair that was confirmed is gone"

    app = start_app(data_dir, port)
    try:
        wait_until_ready(port, app)
        fresh.training.resume(actor, run_id)
        done = wait_for(fresh, run_id, lambda run: run.state == "done")
        assert done.step == 30 and done.has_adapter
        assert fresh.training.voice_of(actor, run_id)
    finally:
        app.terminate()
        app.wait(30)
