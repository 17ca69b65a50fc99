"""A process that asks a judge about N items, to be killed: URL, file of replies, N."""

import sys
from pathlib import Path

from rlhfv.evaluation.judge import Case, Judge, Wording
from rlhfv.evaluation.mmhal import read_rating
from rlhfv.remote_voices import RemoteVoice

WORDING = Wording("prompt of the test", 0.0, 64)


def cases(number: int) -> list[Case]:
    return [Case(str(one), ({"role": "user", "content": f"Rate item <{one}>."},)) for one in range(number)]


if __name__ == "__main__":
    url, log, number = sys.argv[1:]
    voice = RemoteVoice("judge", url, "gpt-4", key_env="TEST_JUDGE_KEY", flag="--judge")
    Judge(voice, Path(log)).ask(cases(int(number)), WORDING, read_rating)
