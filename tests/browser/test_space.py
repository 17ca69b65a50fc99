"""The studio as a Space has it: the deployed files alone, and ZeroGPU, in a real browser."""

import importlib.util
import os
import subprocess
import sys

import pytest

from tests.apps import ROOT, free_port, start_app, wait_until_ready
from tests.browser.test_loop import ask, describe_new_scene
from tests.publishing.test_photographs import put_dataset

pytestmark = pytest.mark.browser


@pytest.mark.slow
def test_what_was_deployed_answers_from_its_own_folder_alone(hub, connect, open_page, tmp_path):
    """Deployed to a Hub, fetched from there as a Space is built, and started in a folder with nothing else."""
    commit = put_dataset(hub, connect, tmp_path)
    api = connect(hub.user("ann"))
    told = subprocess.run(
        [sys.executable, ROOT / "spaces" / "deploy.py", "--to", "ann/studio"],
        env=dict(os.environ),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "created    ann/studio" in told and "files in all" in told
    assert f"photos     3 of openbmb/RLHF-V-Dataset@{commit} (cc-by-nc-4.0)" in told
    space = tmp_path / "space"
    api.snapshot_download("ann/studio", repo_type="space", local_dir=space)
    assert not (space / "tests").exists() and not (space / "spaces").exists()
    variables = {name: text for name, text in os.environ.items() if not name.startswith(("HF_", "PYTHONPATH"))}
    variables |= {"HF_HUB_OFFLINE": "1", "SPACE_ID": "ann/studio"}
    where = [sys.executable, "-c", "import rlhfv; print(rlhfv.__file__)"]
    found = subprocess.run(where, cwd=space, env=variables, capture_output=True, text=True, check=True).stdout
    assert found.startswith(str(space)), "the project's own folder is not on the path"
    port = free_port()
    process = start_app(tmp_path / "data", port, space, variables)
    try:
        wait_until_ready(port, process)
        page = open_page(f"http://127.0.0.1:{port}/")
        opened = page.get_by_role("region", name="A recorded comparison")
        opened.get_by_text(f"at commit {commit[:12]}, row 8, there from LCS-558K (cc-by-nc-4.0").wait_for()
        assert opened.locator("mark").all_inner_texts() == ["long blue", "red"]
        page.locator("body[data-ready]").wait_for()
        opened.get_by_role("button", name="Another one").click()
        opened.get_by_text(", row 9,").wait_for()
        describe_new_scene(page)
        assert page.get_by_role("button", name="Correct the left answer").count() == 1
        page.context.close()
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
@pytest.mark.skipif(
    (importlib.util.find_spec("spaces") or importlib.util.find_spec("os")).origin is None,
    reason="the package `spaces` is not installed",
)
def test_on_zero_gpu_the_page_says_when_the_quota_is_used_up(open_page, tmp_path):
    from PIL import Image

    from tests.models.tiny import add_random_adapter, build_llava
    from tests.spaces.device import Device, visitor_token
    from tests.spaces.test_zero import start_zero

    Image.linear_gradient("L").convert("RGB").save(tmp_path / "picture.png")
    base = build_llava(tmp_path / "base")
    adapter = add_random_adapter(base, tmp_path / "adapter")
    device, token = Device(), visitor_token(user="ann")
    with start_zero(tmp_path, device, "page", "--model", str(base), "--adapter", str(adapter)) as (port, _):
        page = open_page(f"http://127.0.0.1:{port}/", extra_http_headers={"x-ip-token": token})
        page.locator("#chat-picture input[type=file]").set_input_files(tmp_path / "picture.png")
        page.locator("#chat-picture img").wait_for()
        ask(page, "what is in this image")
        assert [wanted["token"] for wanted in device.to("/schedule")] == [token], "one call, paid by the visitor"
        device.refusals.append((429, {"left": 3, "wait": 3600}))
        page.locator("#question textarea").fill("and now")
        page.locator("#question textarea").press("Enter")
        page.get_by_text("The GPU time that you have for today is used up.").wait_for()
        assert page.get_by_text("which needs no GPU and knows drawn scenes only").count()
        assert page.locator("#question textarea").input_value() == "and now"
        asked = len(device.calls)
        ask(page, "and now")
        assert page.get_by_text("Demo model: baseline").count() and len(device.calls) == asked
        page.context.close()
    device.close()
