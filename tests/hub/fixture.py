"""Fixtures for whoever needs a Hub: the Hub itself, its two transports, and clients that know no other one.

`huggingface_hub` and `datasets` read HF_ENDPOINT when they are imported. So a test calls `HfApi(endpoint=hub.endpoint,
token=...)`, or it calls `connect(token)`, which makes this Hub the one of this process until the test ends
(`load_dataset` needs that), or it starts a process with `hub.environment(token, home)`.
"""

import pytest

from tests.hub.hub import Hub


@pytest.fixture
def hub(tmp_path_factory):
    """A started Hub. The test fails if the Hub itself failed, or was asked for what it does not have."""
    with Hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub
        assert hub.crashes == [], "\n".join(hub.crashes)
        assert hub.unknown == [], f"no route for {hub.unknown}"


@pytest.fixture
def connect(hub, monkeypatch, tmp_path_factory):
    """`connect(token)` makes `hub` the Hub of this process and `token` the machine's own; gives an `HfApi` for both.

    Caches are empty, and no variable of the real environment is left. Without a token nobody is signed in.
    """

    def connect(token: str | None = None):
        import datasets
        import huggingface_hub

        home = tmp_path_factory.mktemp("home")
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_XET_CACHE"):
            monkeypatch.delenv(name, raising=False)
        constants, config = huggingface_hub.constants, datasets.config
        for name, text in hub.settings(token, home, xet=not constants.HF_HUB_DISABLE_XET).items():
            monkeypatch.setenv(name, text)
        template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        for owner, name, value in (
            (constants, "ENDPOINT", hub.endpoint),
            (constants, "HUGGINGFACE_CO_URL_TEMPLATE", template),
            (constants, "HF_HUB_CACHE", str(home / "hub")),
            (constants, "HF_TOKEN_PATH", str(home / "token")),
            (constants, "AGENT_HARNESSES_PATH", str(home / "agents.json")),
            (constants, "HF_HUB_OFFLINE", False),
            (config, "HF_ENDPOINT", hub.endpoint),
            (config, "HUB_DATASETS_URL", f"{hub.endpoint}/datasets/{{repo_id}}/resolve/{{revision}}/{{path}}"),
            (config, "HF_DATASETS_CACHE", home / "datasets"),
            (config, "HF_HUB_OFFLINE", False),
            (config, "HF_UPDATE_DOWNLOAD_COUNTS", False),
            (huggingface_hub.hf_api.api, "endpoint", hub.endpoint),
            # Else the first test of a process has one request more than the others.
            (huggingface_hub.utils._detect_agent, "_registry", {"standardEnvVars": [], "harnesses": {}}),
        ):
            monkeypatch.setattr(owner, name, value)
        huggingface_hub.HfFileSystem.clear_instance_cache()
        return huggingface_hub.HfApi(endpoint=hub.endpoint, token=token or False)

    return connect


@pytest.fixture(params=["lfs", "xet"])
def transport(request, monkeypatch):
    """Runs the test twice: uploads and downloads of this process go over plain LFS, then over real Xet."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", request.param == "lfs")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1" if request.param == "lfs" else "0")
    return request.param
