"""The multimodal language model: it looks at a picture, reads a conversation, and its states say what to edit.

A LLaVA of transformers, whose own weights never change: the new tokens are parameters beside its embedding and head,
so that no step can move an old row, and its language model learns through LoRA. Differs from the paper's code, which
samples an answer and collects states on the way: the answer is fixed, so that one forward pass reads all of them, the
same way as in training.

Source: SmartEdit, arXiv 2312.06739, sections 4.1 and 5.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlavaForConditionalGeneration

from ..core.errors import InputError, ModelError
from ..core.loading import quiet_loading
from ..core.types import Image
from .conversation import VICUNA, ChatStyle, ChatTokenizer, Conversation
from .stored import fill_tensors

_PICTURE_ROW, _PADDING = -1, -2
_EMBEDDING = "model.language_model.embed_tokens.weight"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
"""What a folder of LoRA must have, in peft's layout."""


@dataclass(frozen=True, kw_only=True)
class LoraOptions:
    """What the language model learns through; the defaults are those of the released weights."""

    rank: int = 8
    """Rank of each update; the paper says 16."""
    alpha: int = 16
    """The updates are scaled by this over the rank; the paper says 27."""
    dropout: float = 0.05
    """Share of an update's inputs left out in training."""

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha < 1:
            raise ValueError(f"rank and alpha must be at least 1, got {self.rank} and {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout:g}")


@dataclass(frozen=True, kw_only=True)
class PictureForm:
    """How the language model wants pictures."""

    size: int
    """Side in pixels; a picture is squashed to it."""
    mean: tuple[float, ...]
    """Of each colour."""
    std: tuple[float, ...]
    """Of each colour."""


@dataclass(frozen=True, kw_only=True)
class MllmOutput:
    """What the language model made of some conversations."""

    states: Float[Tensor, "batch tokens llm_width"]
    """At the image tokens, in float32; zeros for a conversation without."""
    loss: Float[Tensor, " batch"]
    """Cross-entropy of each, mean over its labelled tokens."""


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Conversations, one after another in a batch of the same length."""

    embeds: Float[Tensor, "batch length llm_width"]
    mask: Bool[Tensor, "batch length"] | None
    positions: Int[Tensor, "batch length"] | None
    """Both None where all are of the same length."""


class Mllm(nn.Module):
    """A LLaVA with new tokens and LoRA, on a device and in a precision of its own."""

    def __init__(
        self,
        llava: LlavaForConditionalGeneration,
        tokenizer: Any,
        form: PictureForm,
        *,
        image_tokens: int,
        style: ChatStyle = VICUNA,
        lora: LoraOptions | None = None,
        adapter: str | None = None,
        location: str | None = None,
    ) -> None:
        """Hold a LLaVA that is already on its device, and freeze it.

        Args:
            llava: the networks; their language model is wrapped.
            tokenizer: its tokenizer, which need not know any new token.
            form: how it wants pictures.
            image_tokens: r.
            style: how conversations are written.
            lora: what a fresh adapter is like; None = the released one. Not used where there is an adapter.
            adapter: folder of a trained adapter in peft's layout.
            location: folder or hub id that the networks came from; None = they are nowhere yet.

        Raises:
            ModelError: if the adapter is not there or is one of other layers or sizes.
        """
        super().__init__()
        self.llava, self.form, self.location = llava, form, location
        llava.requires_grad_(False)
        inputs, outputs = llava.get_parameter(_EMBEDDING), llava.lm_head.weight
        self.tokenizer = ChatTokenizer(tokenizer, rows=len(inputs), image_tokens=image_tokens, style=style)
        count = len(self.tokenizer.new_tokens)
        self.new_inputs = nn.Parameter(_mean_rows(inputs, count), requires_grad=False)
        self.new_outputs = nn.Parameter(_mean_rows(outputs, count), requires_grad=False)
        llava.model.language_model = _with_lora(llava.model.language_model, lora or LoraOptions(), adapter)
        self.eval()

    @property
    def language(self) -> PeftModel:
        """The language model with its adapter."""
        return self.llava.model.language_model  # pyright: ignore[reportReturnType]

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.new_inputs.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the frozen weights."""
        return self.llava.lm_head.weight.dtype

    @property
    def llm_width(self) -> int:
        """Width of the states."""
        return self.new_inputs.shape[1]

    @property
    def vision_width(self) -> int:
        """Width of the features of a patch."""
        layers = self.llava.config.vision_feature_layer
        vision: Any = self.llava.config.vision_config
        return (1 if isinstance(layers, int) else len(layers)) * int(vision.hidden_size)

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters of LoRA, by their names in this module."""
        return {name: each for name, each in self.named_parameters() if ".lora_" in name}

    def save_memory(self) -> None:
        """Compute activations of the language model anew in the backward pass instead of keeping them."""
        # Newer versions of transformers call it otherwise; older ones know this name alone.
        with quiet_loading():
            self.language.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    @torch.no_grad()
    def look(self, image: Image) -> Float[Tensor, "batch patches vision_width"]:
        """v: features of the patches of pictures, row by row.

        Args:
            image: pictures of any size; they are squashed to the square that the vision tower reads.
        """
        size = (self.form.size, self.form.size)
        small = functional.interpolate(image.to(self.device).float(), size, mode="bicubic", antialias=True)
        mean, std = (small.new_tensor(each)[:, None, None] for each in (self.form.mean, self.form.std))
        pixels = ((small.clamp(0, 1) - mean) / std).to(self.dtype)
        states = self.llava.model.vision_tower(pixels, output_hidden_states=True).hidden_states
        layers = self.llava.config.vision_feature_layer
        chosen = torch.cat([states[layer] for layer in ([layers] if isinstance(layers, int) else layers)], -1)
        # The first row is that of the class, unless the LLaVA was made to look at it, too.
        return chosen[:, 1:] if self.llava.config.vision_feature_select_strategy == "default" else chosen

    def read(
        self,
        conversations: Sequence[Conversation],
        v: Float[Tensor, "batch patches vision_width"] | None,
        *,
        pad_left: bool = False,
    ) -> MllmOutput:
        """Read conversations in one forward pass; none depends on those beside it.

        Args:
            conversations: one per picture.
            v: from `look`; None = none of them has a picture.
            pad_left: fill shorter ones in front and not behind; the result is the same.

        Raises:
            InputError: if one is longer than the language model reads, or has a picture and there is none.
        """
        lines = self._lines(conversations, v)
        rows = self._lay_out(lines, conversations, v, pad_left=pad_left)
        hidden = self.language(
            inputs_embeds=rows.embeds, attention_mask=rows.mask, position_ids=rows.positions, use_cache=False
        ).last_hidden_state
        length = hidden.shape[1]
        ends = [length if pad_left else len(line) for line in lines]
        starts = [end - len(each.answer) for end, each in zip(ends, conversations, strict=True)]
        return MllmOutput(
            states=self._states(hidden, conversations, starts), loss=self._loss(hidden, conversations, starts)
        )

    @torch.no_grad()
    def answer_loss(self, conversation: Conversation, v: Float[Tensor, "1 patches vision_width"]) -> float:
        """Cross-entropy of a conversation's labelled tokens: low where the weights belong together.

        Args:
            conversation: such as an edit.
            v: of its picture.
        """
        return float(self.read([conversation], v).loss.mean())

    def _lines(self, conversations: Sequence[Conversation], v: Tensor | None) -> list[list[int]]:
        if v is None and any(each.picture for each in conversations):
            raise InputError("expected a picture for each conversation about one, got none: look at it first")
        patches = 0 if v is None else v.shape[1]
        lines = [
            [*each.before, *[_PICTURE_ROW] * (patches if each.picture else 0), *each.after, *each.answer]
            for each in conversations
        ]
        text: Any = self.llava.config.text_config
        most = int(text.max_position_embeddings)
        longest = max(len(line) for line in lines)
        if longest > most:
            raise InputError(
                f"expected at most {most} tokens with those of the picture, got {longest}: shorten the instruction"
            )
        return lines

    def _lay_out(
        self, lines: Sequence[list[int]], conversations: Sequence[Conversation], v: Tensor | None, *, pad_left: bool
    ) -> _Rows:
        length = max(len(line) for line in lines)
        gaps = [[_PADDING] * (length - len(line)) for line in lines]
        filled = [gap + line if pad_left else line + gap for gap, line in zip(gaps, lines, strict=True)]
        ids = torch.tensor(filled, device=self.device)
        embedding = self.llava.model.language_model.get_input_embeddings()
        old = embedding(ids.clamp(0, self.tokenizer.rows - 1))
        new = functional.embedding((ids - self.tokenizer.rows).clamp(0), self.new_inputs).to(old.dtype)
        embeds = torch.where((ids >= self.tokenizer.rows)[..., None], new, old)
        asked = [row for row, each in enumerate(conversations) if each.picture]
        if v is not None and asked:
            with torch.no_grad():
                seen = self.llava.model.multi_modal_projector(v[asked].to(self.device, self.dtype))
            embeds = embeds.masked_scatter((ids == _PICTURE_ROW)[..., None], seen.to(embeds.dtype))
        if not any(gaps):
            return _Rows(embeds=embeds, mask=None, positions=None)
        mask = ids != _PADDING
        return _Rows(embeds=embeds, mask=mask, positions=(mask.long().cumsum(1) - 1).clamp(0))

    def _states(self, hidden: Tensor, conversations: Sequence[Conversation], starts: Sequence[int]) -> Tensor:
        states = hidden.new_zeros((len(hidden), self.tokenizer.image_tokens, hidden.shape[-1]), dtype=torch.float32)
        asked = [row for row, each in enumerate(conversations) if each.image_tokens]
        if not asked:
            return states
        # The state at a token is that where the token is the input, not that which predicts it.
        places = [[starts[row] + place for place in conversations[row].image_tokens] for row in asked]
        rows = torch.tensor(asked, device=hidden.device)
        read = hidden[rows[:, None], torch.tensor(places, device=hidden.device)]
        return states.index_copy(0, rows, read.float())

    def _loss(self, hidden: Tensor, conversations: Sequence[Conversation], starts: Sequence[int]) -> Tensor:
        labelled = [
            (row, start + place - 1, each.answer[place])
            for row, (each, start) in enumerate(zip(conversations, starts, strict=True))
            for place, wanted in enumerate(each.labels)
            if wanted
        ]
        rows, places, targets = torch.tensor(labelled, device=hidden.device).T
        states = hidden[rows, places]
        old = self.llava.lm_head(states.to(self.dtype)).float()
        new = states.float() @ self.new_outputs.T
        each = functional.cross_entropy(torch.cat([old, new], 1), targets, reduction="none")
        zeros = each.new_zeros(len(hidden))
        return zeros.index_add(0, rows, each) / zeros.index_add(0, rows, torch.ones_like(each))


def _mean_rows(table: Tensor, count: int) -> Tensor:
    # Summed in full precision without a copy of the table.
    return table.detach().mean(0, dtype=torch.float32).repeat(count, 1)


def _with_lora(language: Any, lora: LoraOptions, adapter: str | None) -> PeftModel:
    if adapter is None:
        options = LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=["q_proj", "v_proj"]
        )
        with quiet_loading():
            return get_peft_model(language, options).requires_grad_(False)  # pyright: ignore[reportReturnType]
    folder = Path(adapter)
    # peft would ask the hub for what is not there, and take pickles.
    missing = next((name for name in ADAPTER_FILES if not (folder / name).is_file()), None)
    if missing is not None:
        raise ModelError(f"no {missing} in {folder}: expected the whole adapter, fetch or convert the checkpoint")
    try:
        with quiet_loading():
            options = LoraConfig.from_pretrained(adapter)
            if not isinstance(options, LoraConfig):
                raise ValueError("it is no LoRA")
            options.base_model_name_or_path = None
            wrapped = get_peft_model(language, options)
    except (OSError, ValueError, TypeError, RuntimeError, KeyError, AttributeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"the adapter {adapter} does not fit the language model ({first}): use its own") from error
    # peft would only warn of tensors that are missing, and of names that it does not know.
    own = {name.replace(".default.", "."): each for name, each in wrapped.named_parameters() if ".lora_" in name}
    fill_tensors(own, folder / ADAPTER_FILES[1], beside="the language model", hint="use its own adapter")
    return wrapped.requires_grad_(False)  # pyright: ignore[reportReturnType]
