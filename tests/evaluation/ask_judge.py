"""Asking a judge in tests; as a process one that asks about N items, to be killed: URL, file of replies, N."""

import json
import sys
from pathlib import Path

from rlhfv.evaluation.judge import Case, Judge, Judged, Wording
from rlhfv.evaluation.mmhal import read_rating
from rlhfv.models.refusals import Patience
from rlhfv.remote_voices import RemoteVoice

WORDING = Wording("prompt of the test", 0.0, 64)
PATIENT = Patience(connect=5.0, first=20.0, idle=20.0, whole=30.0)
KEY = "sk-very-secret-0123456789"
OWN_TOKEN = "hf_this_machines_own_token_000000000000"


def cases(number: int) -> list[Case]:
    return [Case(str(one), ({"role": "user", "content": f"Rate item <{one}>."},)) for one in range(number)]


def judge_of(server, log: Path, model="gpt-4", key_env="TEST_JUDGE_KEY", **fields) -> Judge:
    voice = RemoteVoice(model, server.url, model, key_env=key_env, flag="--judge")
    return Judge(voice, log, **{"patience": PATIENT, **fields})


def ask(judge: Judge, number: int) -> Judged:
    return judge.ask(cases(number), WORDING, read_rating)


def events(log: Path) -> list[str]:
    return [json.loads(line)["event"] for line in log.read_bytes().splitlines()]


if __name__ == "__main__":
    url, log, number = sys.argv[1:]
    voice = RemoteVoice("judge", url, "gpt-4", key_env="TEST_JUDGE_KEY", flag="--judge")
    ask(Judge(voice, Path(log)), int(number))
