"""The language processor that asks a server which speaks the OpenAI chat interface.

The key comes from the caller or the environment. It is kept in the client alone: no message, trace or file repeats it,
and what a server says is shown only after the key has been struck out of it.
"""

import os
import re
from typing import Any

from ..core.caching import Remembered
from ..core.errors import MissingExtraError
from .language import REMEMBERED, LanguageError, ParsedInstruction, require_text
from .language_options import LanguageConfig
from .language_prompt import SCHEMA, Message, ask, build_messages

_RETRIES = 1
"""Of the client, where a server is busy; it waits as long as the server asks for."""
_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "picture_edit", "strict": True, "schema": SCHEMA},
}


class ServerLanguage:
    """Asks a server; the same question is asked once.

    Args:
        config: address, model and limits.
        api_key: the server's key; None = the environment variable that the configuration names.

    Raises:
        MissingExtraError: if the package openai is not installed.
        LanguageError: if no key is found and the address is not that of a server that may need none, or the address
            is none.
    """

    def __init__(self, config: LanguageConfig, *, api_key: str | None = None) -> None:
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError(
                "openai", purpose="asking a language server", install="pip install 'maskedit[openai]'"
            ) from error
        self.config = config
        self._openai = openai
        self._key = _find_key(config, api_key)
        # Of the environment only the name is told: that address may hold a password.
        usual = "the address in OPENAI_BASE_URL" if os.environ.get("OPENAI_BASE_URL") else "the default address"
        self._where = config.base_url or usual
        self._client: Any = self._make_client()
        self._structured = True
        self._options: dict[str, Any] = {"max_tokens": config.max_tokens, "temperature": config.temperature}
        self._answers = Remembered[ParsedInstruction](REMEMBERED)

    def _make_client(self) -> Any:
        config = self.config
        try:
            return self._openai.OpenAI(
                api_key=self._key or "none", base_url=config.base_url, timeout=config.timeout, max_retries=_RETRIES
            )
        except Exception:
            # Which error it is depends on the client's own libraries; it may repeat a piece of a password.
            problem = f"the language server at {self._where} has no valid address: correct it"
        raise LanguageError(problem)

    def parse(self, instruction: str, description: str | None = None) -> ParsedInstruction:
        """See `LanguageProcessor.parse`."""
        require_text(instruction)
        return self._answers.get((instruction, description), lambda: self._ask(instruction, description))

    def _ask(self, instruction: str, description: str | None) -> ParsedInstruction:
        try:
            messages = build_messages(instruction, description, structured=self._structured)
            return ask(self._complete, messages, instruction)
        except _NoSchemaError:
            # Remembered: the server is asked for the paper's form from now on.
            self._structured = False
        return ask(self._complete, build_messages(instruction, description), instruction)

    def _complete(self, messages: list[Message]) -> str:
        """The server's answer to a conversation.

        Raises:
            LanguageError: in one line, whatever went wrong.
        """
        answer, problem = self._try(messages)
        while problem is not None and self._adapt(problem):
            answer, problem = self._try(messages)
        if problem is None:
            return answer
        # Raised out here, so that the client's error, which holds the request, is no part of the traceback.
        raise LanguageError(self._describe(problem))

    def _try(self, messages: list[Message]) -> tuple[str, Exception | None]:
        options = {**self._options, **({"response_format": _FORMAT} if self._structured else {})}
        try:
            create: Any = self._client.chat.completions.create
            completion = create(model=self.config.model_name(), messages=messages, **options)
        except (self._openai.OpenAIError, ValueError, TypeError) as error:
            return "", error
        choices = getattr(completion, "choices", None)
        message = getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
        content = getattr(message, "content", None) or getattr(message, "refusal", None)
        if message is None or not isinstance(content, str | None):
            return "", ValueError("no choices")
        return content or "", None

    def _adapt(self, problem: Exception) -> bool:
        """Drop an option that this server or model does not know; whether there was one to drop."""
        if not isinstance(problem, self._openai.BadRequestError | self._openai.UnprocessableEntityError):
            return False
        said = str(problem)
        if self._structured and re.search(r"response_format|json_schema|structured|schema", said, re.I):
            raise _NoSchemaError
        if "max_tokens" in self._options and "max_completion_tokens" in said:
            self._options["max_completion_tokens"] = self._options.pop("max_tokens")
            return True
        if "temperature" in self._options and "temperature" in said:
            del self._options["temperature"]
            return True
        return False

    def _describe(self, problem: Any) -> str:
        """What went wrong and what to do; an answer to a wrong key is not shown, it may repeat some of it."""
        kinds, where, model = self._openai, self._where, self.config.model_name()
        if isinstance(problem, kinds.APITimeoutError):
            return (
                f"the language server at {where} did not answer within {self.config.timeout:g} s: raise the timeout or "
                "look whether it is busy"
            )
        if isinstance(problem, kinds.APIConnectionError):
            return (
                f"the language server at {where} cannot be reached: start it or correct its address, or use the "
                "language provider 'rules', which needs none"
            )
        if isinstance(problem, kinds.AuthenticationError | kinds.PermissionDeniedError):
            return f"the language server at {where} refuses the key: correct {self.config.api_key_variable}"
        if isinstance(problem, kinds.NotFoundError):
            return f"the language server at {where} has no model {model!r}, or not at this address: correct either"
        if isinstance(problem, kinds.RateLimitError):
            return f"the language server at {where} takes no more requests for now (limit reached): wait, or raise it"
        if isinstance(problem, kinds.InternalServerError):
            return f"the language server at {where} failed (status {problem.status_code}): try again later"
        if isinstance(problem, kinds.APIStatusError):
            return (
                f"the language server at {where} refuses the request (status {problem.status_code}: "
                f"{self._shown(problem)}): check model and address"
            )
        return f"the language server at {where} gave no readable answer: check that its address ends in /v1"

    def _shown(self, problem: Exception) -> str:
        said = " ".join(str(problem).split())
        said = said.replace(self._key, "***") if self._key else said
        return said if len(said) <= 120 else f"{said[:120]}..."


class _NoSchemaError(Exception):
    """The server does not hold answers to a schema."""


def _find_key(config: LanguageConfig, api_key: str | None) -> str:
    """The key; empty where a server at an address of the user's own may need none."""
    key = (api_key if api_key is not None else os.environ.get(config.api_key_variable, "")).strip()
    if key and not re.fullmatch(r"[!-~]+", key):
        raise LanguageError(
            f"the key in {config.api_key_variable} has spaces or other characters that no key has: copy it again"
        )
    if not key and not (config.base_url or os.environ.get("OPENAI_BASE_URL")):
        raise LanguageError(
            f"no key for the language server: set the environment variable {config.api_key_variable}, name another "
            "with --language.api-key-variable, or give --language.base-url of a server that needs none"
        )
    return key
