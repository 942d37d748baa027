"""The language processor that runs an instruct model on this machine, through its own chat template.

Any causal language model that transformers can load, from a folder or the hub; the prompt and the form of the answer
are those of `language_prompt`.
"""

from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from ..core.caching import Remembered
from ..core.checkpoint import BackboneConfig
from ..core.errors import InputError, ModelError
from ..core.loading import load_network, load_part, quiet_loading
from .language import REMEMBERED, ParsedInstruction, require_text
from .language_options import LanguageConfig
from .language_prompt import Message, ask, build_messages
from .pretrained import locate_pretrained

_ROLE = "chat model"
_SEED = 0


class ChatLanguage:
    """Asks a chat model on this machine; the same question is asked once."""

    def __init__(self, model: Any, tokenizer: Any, config: LanguageConfig) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.config = config
        self._answers = Remembered[ParsedInstruction](REMEMBERED)

    @classmethod
    def load(
        cls,
        config: LanguageConfig,
        *,
        device: torch.device | str = "cpu",
        model_dir: Path | None = None,
        offline: bool = False,
    ) -> "ChatLanguage":
        """Load model and tokenizer, from safetensors and without running code of the checkpoint.

        Raises:
            ModelError: if the checkpoint is missing, incomplete, or has no chat template.
        """
        name = config.model_name()
        try:
            model, tokenizer = _load_parts(name, config.revision, model_dir=model_dir, offline=offline)
        except (ModelError, ImportError) as error:
            # A quantised checkpoint may ask for a library.
            problem = " ".join(str(error).split())
            raise ModelError(
                f"the chat model {name} cannot be used: {problem}; the language provider 'rules' needs no model"
            ) from error
        if not tokenizer.chat_template:
            raise ModelError(f"chat model {name} has no chat template: give an instruct model, not a base model")
        return cls(model.to(device).eval(), tokenizer, config)

    def parse(self, instruction: str, description: str | None = None) -> ParsedInstruction:
        """See `LanguageProcessor.parse`."""
        require_text(instruction)
        return self._answers.get(
            (instruction, description),
            lambda: ask(self.complete, build_messages(instruction, description), instruction),
        )

    @torch.no_grad()
    def complete(self, messages: list[Message]) -> str:
        """The model's answer to a conversation.

        Raises:
            InputError: if the conversation is longer than the model can read.
        """
        tokens = torch.tensor([self._tokens(messages)], device=self.model.device)
        settings = self.model.generation_config
        eos = settings.eos_token_id if settings.eos_token_id is not None else self.tokenizer.eos_token_id
        pad = self.tokenizer.pad_token_id
        sampling = self.config.temperature > 0
        longest = getattr(self.model.config, "max_position_embeddings", None)
        if longest is not None and tokens.shape[1] + self.config.max_tokens > longest:
            raise InputError(
                f"the chat model reads {longest} tokens, the question has {tokens.shape[1]} and the answer may have "
                f"{self.config.max_tokens}: shorten the instruction or its description, or take another model"
            )
        # Not the checkpoint's own settings, which often ask for random answers.
        generation = GenerationConfig(
            max_new_tokens=self.config.max_tokens,
            do_sample=sampling,
            eos_token_id=eos,
            pad_token_id=pad if pad is not None else (eos[0] if isinstance(eos, list) else eos),
            **({"temperature": self.config.temperature} if sampling else {}),
        )
        place = self.model.device
        forked: dict[str, Any] = {"devices": []}
        if place.type != "cpu":
            forked = {"devices": [place], "device_type": place.type}
        # The library draws from the global generator; its state is put back.
        with torch.random.fork_rng(**forked):
            if sampling:
                torch.manual_seed(_SEED)
            output = self.model.generate(tokens, attention_mask=torch.ones_like(tokens), generation_config=generation)
        return self.tokenizer.decode(output[0, tokens.shape[1] :], skip_special_tokens=True).strip()

    def _tokens(self, messages: list[Message]) -> list[int]:
        def apply(conversation: list[Message]) -> list[int]:
            text = self.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
            return self.tokenizer(text, add_special_tokens=False)["input_ids"]

        try:
            return apply(messages)
        except TemplateError:
            # Some models know no system role; the task then opens the user's first message.
            first, second, *rest = messages
            merged = {"role": "user", "content": f"{first['content']}\n\n{second['content']}"}
            return apply([merged, *rest])


def _load_parts(name: str, revision: str | None, *, model_dir: Path | None, offline: bool) -> tuple[Any, Any]:
    location = locate_pretrained(name, role=_ROLE, model_dir=model_dir)
    origin = BackboneConfig(model=name, revision=revision, model_dir=model_dir, offline=offline)
    local = isinstance(location, Path)
    options: dict[str, Any] = {"local_files_only": local or offline, **({} if local else {"revision": revision})}
    with quiet_loading(keep_bars=not local):
        model = load_network(
            AutoModelForCausalLM, _ROLE, location, origin, subfolder="", dtype="auto", trust_remote_code=False
        )
        # Unlike `load_configuration`, this says that code of the checkpoint is not to be run.
        tokenizer = load_part(
            lambda: AutoTokenizer.from_pretrained(str(location), trust_remote_code=False, **options),
            "tokenizer",
            location,
            origin,
            subfolder="",
        )
    return model, tokenizer
