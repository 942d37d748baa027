"""Options of the language processor; this file imports nothing heavy, so that command lines can offer them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

LanguageProvider = Literal["rules", "chat", "openai"]
"""`rules`: English grammar by rule, needs nothing; `chat`: a language model on this machine; `openai`: a server."""

CHAT_MODEL = "Qwen/Qwen2.5-1.5B-Instruct"
"""Small enough for the memory a diffusion model leaves, and under a free licence."""
SERVER_MODEL = "gpt-4o-mini"
"""The paper's model is no longer offered; this is its successor."""
READ_BY: Mapping[str, tuple[LanguageProvider, ...]] = {
    "model": ("chat", "openai"),
    "revision": ("chat",),
    "base_url": ("openai",),
    "api_key_variable": ("openai",),
    "temperature": ("chat", "openai"),
    "max_tokens": ("chat", "openai"),
    "timeout": ("openai",),
}
"""The providers that a setting means something to."""


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """Who turns an instruction into phrases and captions."""

    provider: LanguageProvider = "rules"
    """`rules` needs nothing and knows common English wordings; `chat` runs a model here; `openai` asks a server."""
    model: str | None = None
    """chat: hub id or folder of an instruct model (None: Qwen/Qwen2.5-1.5B-Instruct); openai: the server's name of the
    model (None: gpt-4o-mini)."""
    revision: str | None = None
    """chat: commit or tag of a hub id; None = its default branch."""
    base_url: str | None = None
    """openai: address of the server, up to and including /v1, without user name or password; None = OPENAI_BASE_URL or
    the client's own."""
    api_key_variable: str = "OPENAI_API_KEY"
    """openai: environment variable that holds the key; the key itself is never part of a configuration."""
    temperature: float = 0.0
    """Randomness of a language model, in [0, 2]; published: 0.6. 0 = the same answer every time."""
    max_tokens: int = 400
    """Longest reply in tokens, at least 120; published: 40, which cuts long captions off."""
    timeout: float = 60.0
    """openai: seconds to wait for a reply, above 0."""

    def __post_init__(self) -> None:
        for name in ("model", "revision", "base_url", "api_key_variable"):
            if getattr(self, name) is not None and not getattr(self, name).strip():
                raise ValueError(f"{name} must be a name, got an empty text")
        # Anywhere: a parser of addresses takes the rest of a password after its first slash for the path.
        if self.base_url is not None and "@" in self.base_url:
            raise ValueError(
                "base_url must hold no user name or password, got an address with '@': pass the key by the "
                f"environment variable {self.api_key_variable}"
            )
        if not 0 <= self.temperature <= 2:
            raise ValueError(f"temperature must be in [0, 2], got {self.temperature:g}")
        if self.max_tokens < 120:
            raise ValueError(f"max_tokens must be at least 120, got {self.max_tokens}")
        if not self.timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds, got {self.timeout:g}")

    def unread(self) -> dict[str, tuple[LanguageProvider, ...]]:
        """Settings that were changed and that the provider does not read, each with those that do."""
        changed = [f.name for f in fields(self) if f.name in READ_BY and getattr(self, f.name) != f.default]
        return {name: READ_BY[name] for name in changed if self.provider not in READ_BY[name]}

    def model_name(self) -> str:
        """The model that is meant by a provider that needs one."""
        if self.model is not None:
            return self.model
        return CHAT_MODEL if self.provider == "chat" else SERVER_MODEL
