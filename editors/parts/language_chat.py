"""The language processor that runs an instruct model on this machine, through its own chat template.

Any causal language model that transformers can load, from a folder or the hub; the prompt and the form of the answer
are those of `language_prompt`.
"""

from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from ..core.errors import InputError, ModelError
from ..core.loading import quiet_loading
from .language import ParsedInstruction, require_text
from .language_options import LanguageConfig
from .language_prompt import Message, ask, build_messages

_SEED = 0


class ChatLanguage:
    """Asks a chat model on this machine; the same question is asked once."""

    def __init__(self, model: Any, tokenizer: Any, config: LanguageConfig) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.config = config
        self._cache: dict[tuple[str, str | None], ParsedInstruction] = {}

    @classmethod
    def load(
        cls, config: LanguageConfig, *, device: torch.device | str = "cpu", offline: bool = False
    ) -> "ChatLanguage":
        """Load model and tokenizer, from safetensors and without running code of the checkpoint.

        Raises:
            ModelError: if the checkpoint is missing, incomplete, or has no chat template.
        """
        name = config.model_name()
        local = Path(name).is_dir()
        common: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local or offline}
        if not local:
            common["revision"] = config.revision or "main"
        try:
            with quiet_loading(keep_bars=not local):
                tokenizer = AutoTokenizer.from_pretrained(name, **common)
                loaded: Any = AutoModelForCausalLM.from_pretrained(
                    name, use_safetensors=True, dtype="auto", output_loading_info=True, **common
                )
                model, info = loaded
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            detail = (str(error).strip() or type(error).__name__).splitlines()[0]
            what = "cannot be loaded" if local else "is not on this machine and the hub did not give it"
            raise ModelError(
                f"chat model {name} {what}: give a folder or hub id of an instruct model in safetensors, or use the "
                f"language provider 'rules', which needs none ({detail})"
            ) from error
        if info["missing_keys"]:
            lacking = sorted(info["missing_keys"])
            raise ModelError(f"chat model {name} lacks {len(lacking)} weights ({lacking[0]}, ...): fetch it again")
        if not tokenizer.chat_template:
            raise ModelError(f"chat model {name} has no chat template: give an instruct model, not a base model")
        return cls(model.to(device).eval(), tokenizer, config)

    def parse(self, instruction: str, description: str | None = None) -> ParsedInstruction:
        """See `LanguageProcessor.parse`."""
        require_text(instruction)
        key = (instruction, description)
        if key not in self._cache:
            self._cache[key] = ask(self.complete, build_messages(instruction, description), instruction)
        return self._cache[key]

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
