"""Models that are known by a short name: data, no code. What a line says comes from the model's own page or paper.

No commit is named here: none could be checked against the Hub while this was written. A studio that is started with
a short name notes the commit that it got at first and takes that one from then on.
"""

from dataclasses import dataclass

from rlhfv.corrections.conversation import Sampling


@dataclass(frozen=True)
class Known:
    """A model of the Hub and how its makers use it.

    `billions` are its parameters, as its page rounds them; what it takes is counted from its config before its
    weights are fetched. `aligned` is a LoRA adapter of that base, as (Hub id, title, licence). `beside` names another
    whole model that is its aligned counterpart: the two share no weights. `decoding` is what the chat begins with, and
    `makers` how the makers decode. `square` says that pictures are padded to a square, as the model was trained, and
    `like` that the checkpoint is one of the original LLaVA code, to be laid out like this model of transformers.
    `gated` says that its owner asks for an agreement first.
    """

    name: str
    title: str
    source: str
    licence: str
    billions: float
    makers: str
    decoding: Sampling
    aligned: tuple[str, str, str] | None = None
    beside: str = ""
    square: bool = False
    like: str = ""
    note: str = ""
    gated: bool = False

    @property
    def weights(self) -> float:
        """Bytes of the weights at 16 bits each; what answers take comes on top of them."""
        return self.billions * 2e9


SENTINEL = "Aligned by SENTINEL (arXiv 2507.12455)"
LLAVA_15 = "llava-hf/llava-1.5-7b-hf"

KNOWN = (
    Known(
        "qwen2-vl-2b",
        "Qwen2-VL-2B-Instruct",
        "Qwen/Qwen2-VL-2B-Instruct",
        "apache-2.0",
        2.2,
        "The likeliest token each time (top-k 1); 128 tokens in the examples of its page.",
        Sampling(max_new_tokens=512),
        aligned=("psp-dada/Qwen2-VL-2B-Instruct-SENTINEL", SENTINEL, "apache-2.0"),
        note="The smallest base with a published aligned adapter.",
    ),
    Known(
        "qwen2.5-vl-7b",
        "Qwen2.5-VL-7B-Instruct",
        "Qwen/Qwen2.5-VL-7B-Instruct",
        "apache-2.0",
        8.3,
        "The likeliest token each time; its own repetition penalty stays in force here.",
        Sampling(max_new_tokens=512),
        aligned=("psp-dada/Qwen2.5-VL-7B-Instruct-SENTINEL", SENTINEL, "apache-2.0"),
    ),
    Known(
        "llava-1.5-7b",
        "LLaVA-1.5-7B",
        LLAVA_15,
        "llama2",
        7.1,
        "Greedy; 200 tokens in the example of its page.",
        Sampling(max_new_tokens=1024),
        beside="rlaif-v-7b",
        square=True,
        note="Stands beside RLAIF-V-7B: two whole models. Both see pictures padded to a square.",
    ),
    Known(
        "rlaif-v-7b",
        "RLAIF-V-7B",
        "openbmb/RLAIF-V-7B",
        "apache-2.0",
        7.1,
        "Three beams and 1,024 tokens in its chat; here greedy, as beams cannot be streamed.",
        Sampling(max_new_tokens=1024),
        square=True,
        like=LLAVA_15,
        note="A checkpoint of the original LLaVA code: it is converted once, which takes its size on the disk again. "
        "Made from LLaVA-1.5, so the Llama 2 licence may matter too; its data is cc-by-nc-4.0.",
    ),
    Known(
        "llava-1.6-7b",
        "LLaVA-1.6-Vicuna-7B",
        "llava-hf/llava-v1.6-vicuna-7b-hf",
        "llama2",
        7.1,
        "Greedy; 100 tokens in the example of its page.",
        Sampling(max_new_tokens=512),
        aligned=("psp-dada/LLaVA-v1.6-Vicuna-7B-SENTINEL", SENTINEL, "apache-2.0"),
    ),
    Known(
        "instructblip-7b",
        "InstructBLIP-Vicuna-7B",
        "Salesforce/instructblip-vicuna-7b",
        "other (research, non-commercial)",
        7.9,
        "Five beams, repetition penalty 1.5, 256 tokens in the example of its page; here greedy.",
        Sampling(max_new_tokens=256),
        note="Answers about one picture; the two answers are made one after the other.",
    ),
    Known(
        "idefics3-8b",
        "Idefics3-8B-Llama3",
        "HuggingFaceM4/Idefics3-8B-Llama3",
        "apache-2.0",
        8.5,
        "Greedy; 500 tokens in the example of its page.",
        Sampling(max_new_tokens=500),
    ),
    Known(
        "internvl3-2b",
        "InternVL3-2B",
        "OpenGVLab/InternVL3-2B-hf",
        "other (see its page)",
        2.1,
        "Up to 1,024 tokens in the example of its makers.",
        Sampling(max_new_tokens=512),
        note="The repository whose name ends in -hf; the other one would run code of its own.",
    ),
    Known(
        "gemma-3-4b",
        "Gemma 3 4B",
        "google/gemma-3-4b-it",
        "gemma",
        4.3,
        "Greedy, 100 tokens in the example of its page; its settings file samples (top-k 64, top-p 0.95).",
        Sampling(max_new_tokens=512),
        note="Google asks you to accept its terms on the model's page first.",
        gated=True,
    ),
    Known(
        "smolvlm",
        "SmolVLM-500M-Instruct",
        "HuggingFaceTB/SmolVLM-500M-Instruct",
        "apache-2.0",
        0.5,
        "Greedy; 500 tokens in the example of its page.",
        Sampling(max_new_tokens=500),
        note="A baseline only: there is no aligned SmolVLM.",
    ),
)


def find_known(name: str) -> Known | None:
    """The model of that short name or Hub id."""
    return next((one for one in KNOWN if name in (one.name, one.source)), None)
