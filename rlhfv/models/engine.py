"""Rows that a model answers or reads together: which may, in whose voice each does, what is left when one fails.

Nothing here is safe to be called by two threads at once; `LocalModel` sees to that.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from PIL import Image
from transformers import GenerationMixin, PreTrainedModel, ProcessorMixin
from transformers.utils import ModelOutput

from rlhfv.corrections.conversation import ModelIdentity, Prompt, Sampling
from rlhfv.errors import GenerationFailed, ModelUnavailable, StudioError
from rlhfv.models.adapters import CHANGES_NOTHING, AdapterInfo, inject_adapter, remove_adapter
from rlhfv.models.decoding import Search
from rlhfv.models.generated import BASELINE, NOTHING, Generated, Row
from rlhfv.models.identity import adapter_identity
from rlhfv.models.prompts import (
    answer_type,
    control_tokens,
    encode_answer,
    encode_prompt,
    encode_with_images,
    open_image,
    plain_text,
)
from rlhfv.models.rows import (
    ImageEncoder,
    hooks_restored,
    image_part,
    join_features,
    join_images,
    pad_left,
    text_part,
    with_answer,
)
from rlhfv.models.streaming import RowSampler, RowStreamer, StopWhen

BLANK = (127, 127, 127)
"""The colour of what a blind reader is shown: about the mean of natural images, which processors turn into zeros."""

MAKERS_LEFT_OUT = {"no_repeat_ngram_size": 0, "length_penalty": 1.0, "early_stopping": False}
"""Settings of a model's makers that a search replaces, beside those that it has itself."""


@dataclass(frozen=True)
class Reader:
    """Who reads an answer: a voice as in `Row`; a `blind` one is shown grey pictures of the same sizes."""

    voice: str | None
    blind: bool = False


@dataclass(frozen=True)
class Reading:
    """`offsets`: the half-open code-point range of each token of an answer; pieces of one character repeat its range.
    `log_probs`: for each reader the natural logarithm of each token's probability, given all before it.
    """

    offsets: tuple[tuple[int, int], ...]
    log_probs: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class EncodedRow:
    """A prompt as tensors, and the names of its image files with their sizes and times."""

    tensors: dict[str, torch.Tensor]
    images: tuple


class Engine:
    """A base model with its adapters and the images it encoded last."""

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin):
        self.model, self.processor, self.tokenizer = model, processor, processor.tokenizer
        self.device, self.dtype = model.device, model.dtype
        self.images = ImageEncoder(model)
        self.adapters: dict[str, AdapterInfo] = {}
        self._peft: PeftModel | None = None
        settings = model.generation_config
        configured = settings.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        self._ends = sorted({token for token in [*ends, self.tokenizer.eos_token_id] if token is not None})
        self._pad = next(
            token for token in (settings.pad_token_id, self.tokenizer.pad_token_id, *self._ends) if token is not None
        )
        # The makers' own sampling settings would otherwise be mixed into each call; penalties of theirs stay. In some
        # models (InstructBLIP) it is a text model inside that generates, by settings of its own.
        for part in model.modules():
            if isinstance(part, GenerationMixin) and (settings := part.generation_config) is not None:
                settings.do_sample = False
                settings.temperature = settings.top_p = settings.top_k = settings.min_p = settings.typical_p = None
                settings.eos_token_id, settings.pad_token_id, settings.max_length = self._ends, self._pad, None
                settings.num_beams = 1

    def attach(self, folder: Path, name: str | None, base: ModelIdentity) -> str:
        """Adds the adapter of a folder to the model `base` and returns its identity."""
        identity = adapter_identity(folder, name)
        if identity in self.adapters:
            return identity
        self._peft, info = inject_adapter(self.model, self._peft, folder, base, name)
        self.adapters[identity] = info
        try:
            with self._failures_told("trying the adapter"):
                info.changes_nothing = torch.equal(self._probe(None), self._probe(identity))
        except StudioError:
            self.detach(identity)
            raise
        info.notice = CHANGES_NOTHING if info.changes_nothing else ""
        return identity

    def detach(self, identity: str) -> None:
        if info := self.adapters.pop(identity, None):
            self._peft = remove_adapter(self.model, self._peft, info.name)

    def _probe(self, voice: str | None) -> torch.Tensor:
        """Logits [1, vocabulary] of the first token about a small picture; the tower is part of it."""
        picture = Image.linear_gradient("L").resize((96, 64)).convert("RGB")
        prompt = Prompt("What is in this image?", images=("probe",))
        inputs = self._to_device(encode_with_images(self.processor, prompt, [picture]))
        with torch.inference_mode(), self._speaking([voice]):
            output = self._generator().generate(
                **inputs, max_new_tokens=1, return_dict_in_generate=True, output_logits=True
            )
        return output.logits[0]

    def answer(
        self,
        rows: Sequence[Row],
        sampling: Sampling,
        image_path: Callable[[str], Path],
        seeds: Sequence[int],
        stopped: Callable[[], bool],
        on_token: Callable[[], None] = lambda: None,
        started: Callable[[list[int], RowStreamer], None] = lambda numbers, streamer: None,
        search: Search | None = None,
    ) -> tuple[Generated, ...]:
        """Answers all rows, together where that gives each what it would get alone, else one after the other.

        `stopped` is asked before each token; `started(numbers, streamer)` tells which rows a streamer holds. Without a
        `search` it is greedy, or sampled, with the penalties of the model's makers; beams come whole, at the end.
        """
        self._check_voices(rows)
        if stopped():
            return (NOTHING,) * len(rows)
        answers: dict[int, Generated] = {}
        with self._failures_told("answering"):
            encoded = [EncodedRow(*self._encode(row.prompt, image_path)) for row in rows]
            features = [self._features(row.voice, row_encoded) for row, row_encoded in zip(rows, encoded, strict=True)]
            self._check_search(rows, features, search)
            groups, apart = self._groups(rows, encoded, features, sampling.max_new_tokens)
            for group in groups:
                streamer = RowStreamer(len(group), self._decode, self._ends, on_token)
                started(group, streamer)
                self._generate(
                    [encoded[number].tensors for number in group],
                    [features[number] for number in group],
                    [rows[number].voice for number in group],
                    sampling,
                    [seeds[number] for number in group],
                    stopped,
                    streamer,
                    search,
                )
                layout = tuple(rows[number].voice or BASELINE for number in group)
                for place, number in enumerate(group):
                    answers[number] = Generated(
                        text=streamer.text(place, final=True),
                        finished=streamer.finished[place],
                        tokens=tuple(streamer.tokens[place]),
                        row_layout=layout,
                        row=place,
                        apart=apart,
                    )
        return tuple(answers[number] for number in range(len(rows)))

    def read(
        self, prompt: Prompt, answer: str, readers: Sequence[Reader], image_path: Callable[[str], Path]
    ) -> Reading:
        """How likely each reader finds an answer, token by token: one forward pass where all readers can share it."""
        self._check_voices(readers)
        with self._failures_told("reading an answer"):
            if plain_text(answer, control_tokens(self.processor)) != answer or not self.tokenizer.is_fast:
                raise GenerationFailed(
                    "This answer cannot be read token by token.",
                    "It holds the text of a control token, or its tokenizer cannot say which characters a token is.",
                    "Correct it without hints.",
                )
            seen = EncodedRow(*self._encode(prompt, image_path))
            tokens, offsets = encode_answer(self.processor, prompt, answer, self._ends)
            tokens, offsets = tokens[:-1], [(max(start, 0), max(end, 0)) for start, end in offsets[:-1]]
            length = seen.tensors["input_ids"].shape[1] + len(tokens)
            if self._context_length and length > self._context_length:
                raise self._too_long(length)
            encoded = [self._blank(prompt, image_path) if reader.blind else seen for reader in readers]
            features = [self._features(reader.voice, row) for reader, row in zip(readers, encoded, strict=True)]
            log_probs: dict[int, tuple[float, ...]] = {}
            for group in self._groups(readers, encoded, features)[0] if tokens else ():
                rows = [with_answer(encoded[number].tensors, tokens, answer_type(self.processor)) for number in group]
                voices = [readers[number].voice for number in group]
                logits = self._forward(rows, [features[number] for number in group], voices, len(tokens) + 1)
                targets = torch.tensor(tokens, device=logits.device)
                for number, row in zip(group, logits, strict=True):
                    scores = F.cross_entropy(row[:-1].float(), targets, reduction="none")
                    log_probs[number] = tuple((-scores).tolist())
            return Reading(tuple(offsets), tuple(log_probs.get(number, ()) for number in range(len(readers))))

    def _forward(
        self,
        rows: Sequence[dict[str, torch.Tensor]],
        features: Sequence[ModelOutput | None],
        voices: Sequence[str | None],
        kept: int,
    ) -> torch.Tensor:
        """Logits [rows, kept, vocabulary] of the last `kept` positions."""
        inputs = self._join(rows, features)
        if "logits_to_keep" in inspect.signature(self.model.forward).parameters:
            inputs["logits_to_keep"] = kept
        with torch.inference_mode(), hooks_restored(self.model), self._speaking(voices) as mixing:
            return self._generator()(**self._to_device(inputs), **mixing, use_cache=False).logits[:, -kept:]

    def _blank(self, prompt: Prompt, image_path: Callable[[str], Path]) -> EncodedRow:
        sizes = [open_image(image_path(name)).size for name in prompt.all_images]
        images = [Image.new("RGB", size, BLANK) for size in sizes]
        return EncodedRow(encode_with_images(self.processor, prompt, images), tuple(("blank", size) for size in sizes))

    @contextmanager
    def _failures_told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except StudioError:
            raise
        except torch.OutOfMemoryError as error:
            raise GenerationFailed(
                f"The device ran out of memory while {doing}.",
                f"The conversation with its images was too long for what {self.device.type} has left.",
                "Start a new conversation, use a smaller image, or free memory on that device.",
            ) from error
        except Exception as error:
            raise GenerationFailed(
                f"The model failed while {doing}.",
                f"{type(error).__name__}: {error}",
                "Ask again; if it fails again, start a new conversation or pick another model.",
            ) from error

    def _check_voices(self, rows: Sequence[Row | Reader]) -> None:
        for voice in {row.voice for row in rows} - {None, *self.adapters}:
            raise ModelUnavailable(
                f"The adapter {voice!r} is not attached.",
                f"In memory are the baseline and {', '.join(self.adapters) or 'no adapter'}.",
                "Choose one of them, or attach the adapter again.",
            )

    def _check_search(
        self, rows: Sequence[Row], features: Sequence[ModelOutput | None], search: Search | None
    ) -> None:
        """Beams are copies of a row. transformers gives each copy all pictures of the row where they are encoded
        beforehand; raw ones it would copy one by one."""
        several = [feature for row, feature in zip(rows, features, strict=True) if len(row.prompt.all_images) > 1]
        if search is not None and search.beams > 1 and None in several:
            raise GenerationFailed(
                f"A conversation with several pictures was to be answered with {search.beams} beams.",
                f"Beams are copies of a row, and its pictures are not copied with it: {self._why_not_shared}.",
                "Ask about one picture, or decode greedily.",
            )

    @property
    def _why_not_shared(self) -> str:
        return self.images.why_not or "an adapter changes how images are encoded"

    def _encode(self, prompt: Prompt, image_path: Callable[[str], Path]) -> tuple[dict[str, torch.Tensor], tuple]:
        tensors = encode_prompt(self.processor, prompt, image_path)
        length, limit = tensors["input_ids"].shape[1], self._context_length
        if limit and length >= limit:
            raise self._too_long(length)
        files = [Path(image_path(name)) for name in prompt.all_images]
        return tensors, tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files)

    def _too_long(self, length: int) -> GenerationFailed:
        return GenerationFailed(
            f"The conversation has become {length} tokens long.",
            f"This model reads {self._context_length} tokens at most, images and answer included.",
            "Start a new conversation.",
        )

    @property
    def _context_length(self) -> int | None:
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def _features(self, voice: str | None, encoded: EncodedRow) -> ModelOutput | None:
        """Images of the row as the base's own tower encodes them; None without images or when that is not its voice's
        encoding.
        """
        if not encoded.images or (voice and self.adapters[voice].touches_vision):
            return None
        with torch.inference_mode(), self._speaking([None]):
            return self.images.encode(encoded.images, self._to_device(image_part(encoded.tensors)))

    def _groups(
        self,
        rows: Sequence[Row | Reader],
        encoded: Sequence[EncodedRow],
        features: Sequence[ModelOutput | None],
        most: int = 0,
    ) -> tuple[list[list[int]], str]:
        """Numbers of the rows that one call of the model takes together: all of them, or each alone and why.

        `most` tokens are to be answered. Near the end of the model's context the longest row would cut the others.
        """
        numbers = list(range(len(rows)))
        lengths = [row.tensors["input_ids"].shape[1] for row in encoded]
        cut = self._context_length and len(set(lengths)) > 1 and max(lengths) + most > self._context_length
        voices = {row.voice for row in rows}
        reason = ""
        if any(row.images and feature is None for row, feature in zip(encoded, features, strict=True)):
            reason = self._why_not_shared
        elif len(voices) > 1 and not all(self.adapters[voice].mixes for voice in voices - {None}):
            reason = "an adapter is of a kind that works on whole batches only"
        elif len(voices) > 1 and self._is_merged():
            reason = "an adapter is merged into the base"
        elif cut:
            reason = "the longest conversation would leave the others no room"
        if reason and len(rows) > 1:
            return [[number] for number in numbers], reason
        return [numbers], ""

    def _is_merged(self) -> bool:
        return any(isinstance(module, BaseTunerLayer) and module.merged for module in self.model.modules())

    def _generate(
        self,
        encoded: Sequence[dict[str, torch.Tensor]],
        features: Sequence[ModelOutput | None],
        voices: Sequence[str | None],
        sampling: Sampling,
        seeds: Sequence[int],
        stopped: Callable[[], bool],
        streamer: RowStreamer,
        search: Search | None,
    ) -> None:
        """One `generate` call. Several voices are mixed by PEFT; a row whose images are not encoded yet is alone."""
        inputs = self._join(encoded, features)
        most = sampling.max_new_tokens
        if self._context_length:
            most = min(most, self._context_length - inputs["input_ids"].shape[1])
        settings, in_beams = {}, False
        if search is not None:
            settings = MAKERS_LEFT_OUT | {
                "num_beams": search.beams,
                "repetition_penalty": search.repetition_penalty,
            }
            in_beams = search.beams > 1
        stop = StopWhen(lambda: stopped() or streamer.error is not None)
        with torch.inference_mode(), hooks_restored(self.model), self._speaking(voices) as mixing:
            tokens = self._generator().generate(
                **self._to_device(inputs),
                **mixing,
                **settings,
                max_new_tokens=most,
                streamer=None if in_beams else streamer,
                logits_processor=[RowSampler(sampling, seeds)] if sampling.temperature > 0 else [],
                stopping_criteria=[stop],
            )
        if in_beams:
            streamer.take(tokens[:, stop.prompt :])
        if streamer.error is not None:
            raise streamer.error

    def _join(
        self, encoded: Sequence[dict[str, torch.Tensor]], features: Sequence[ModelOutput | None]
    ) -> dict[str, object]:
        """The inputs of several rows as one batch."""
        inputs = pad_left([text_part(row) for row in encoded], self._pad) | join_images(encoded)
        present = [feature for feature in features if feature is not None]
        if present:
            inputs["mm_encoder_outputs"] = {"image": join_features(present)}
        else:
            inputs |= {name: value for name, value in image_part(encoded[0]).items() if name.startswith("pixel")}
        return inputs

    @contextmanager
    def _speaking(self, voices: Sequence[str | None]) -> Iterator[dict]:
        """Sets the model to the voices of the rows; yields what `generate` has to be told when they differ."""
        names = [self.adapters[voice].name if voice else None for voice in voices]
        if self._peft is None:
            yield {}
        elif len(set(names)) > 1:
            self._peft.set_adapter(next(name for name in names if name), inference_mode=True)
            yield {"adapter_names": [name or "__base__" for name in names]}
        elif names[0] is None:
            with self._peft.disable_adapter():
                yield {}
        else:
            self._peft.set_adapter(names[0], inference_mode=True)
            yield {}

    def _generator(self) -> PreTrainedModel | PeftModel:
        return self.model if self._peft is None else self._peft

    def _to_device(self, inputs: dict) -> dict:
        """Tensors on the model's device, pixels in its precision; encoded images are there already."""
        return {
            name: value.to(self.device, self.dtype if value.is_floating_point() else None)
            if isinstance(value, torch.Tensor)
            else value
            for name, value in inputs.items()
        }

    def _decode(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
