"""`python -m tests.hub`, as a person starts it."""

import re
import signal
import subprocess
import sys

from huggingface_hub import HfApi

from tests.apps import ROOT, free_port


def test_the_printed_environment_leads_to_it(connect):
    connect()
    port = free_port()
    command = [sys.executable, "-m", "tests.hub", "--port", str(port), "--user", "ann:hf_ann", "--user", "bob"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        lines = []
        while "plain LFS" not in "".join(lines):
            lines.append(process.stdout.readline())
            assert lines[-1], "it ended"
        exported = re.findall(r"export (\w+)=(\S+)", "".join(lines))
        assert dict(exported)["HF_ENDPOINT"] == f"http://127.0.0.1:{port}"
        tokens = [text for name, text in exported if name == "HF_TOKEN"]
        assert tokens[0] == "hf_ann"
        for name, token in zip(("ann", "bob"), tokens, strict=True):
            assert HfApi(endpoint=f"http://127.0.0.1:{port}", token=token).whoami()["name"] == name
        assert process.stdout.readline() == "# 200 GET /api/whoami-v2\n"
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        process.stdout.close()
