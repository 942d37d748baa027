"""The language options refuse what no processor could use, and never hold a key."""

from dataclasses import fields
from typing import Any

import pytest

from maskedit.editors.parts.language_options import CHAT_MODEL, READ_BY, SERVER_MODEL, LanguageConfig


def test_the_default_needs_nothing() -> None:
    assert LanguageConfig().provider == "rules"


def test_each_provider_has_a_model() -> None:
    assert LanguageConfig(provider="chat").model_name() == CHAT_MODEL
    assert LanguageConfig(provider="openai").model_name() == SERVER_MODEL
    assert LanguageConfig(provider="openai", model="mine").model_name() == "mine"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -0.1}, "temperature must be in"),
        ({"temperature": 2.1}, "temperature must be in"),
        ({"temperature": float("nan")}, "temperature must be in"),
        ({"max_tokens": 119}, "max_tokens must be at least 120, got 119"),
        ({"timeout": 0.0}, "timeout must be above 0"),
        ({"model": " "}, "model must be a name"),
        ({"base_url": ""}, "base_url must be a name"),
        ({"api_key_variable": ""}, "api_key_variable must be a name"),
    ],
)
def test_bad_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LanguageConfig(**values)


@pytest.mark.parametrize(
    "user", ["name:word", "somebody", ":word", "name:w@rd", "name:w/rd", "name:w@r/d", "name:w?rd", "name:w#rd"]
)
@pytest.mark.parametrize("scheme", ["http://", "//", ""])
def test_an_address_holds_no_password(user: str, scheme: str) -> None:
    with pytest.raises(ValueError, match="base_url must hold no user name or password") as caught:
        LanguageConfig(base_url=f"{scheme}{user}@localhost:9/v1")
    assert user not in str(caught.value) and "OPENAI_API_KEY" in str(caught.value)
    assert LanguageConfig(base_url="http://localhost:9/v1").base_url == "http://localhost:9/v1"


def test_no_field_holds_a_key() -> None:
    assert not [f.name for f in fields(LanguageConfig) if "key" in f.name and f.name != "api_key_variable"]


@pytest.mark.parametrize(
    ("provider", "values", "expected"),
    [
        ("rules", {}, ()),
        ("rules", {"model": "m", "base_url": "http://localhost:9/v1"}, ("model", "base_url")),
        ("rules", {"temperature": 0.5, "timeout": 9.0}, ("temperature", "timeout")),
        ("chat", {"model": "m", "revision": "v1", "max_tokens": 200}, ()),
        ("chat", {"api_key_variable": "MY_KEY"}, ("api_key_variable",)),
        ("openai", {"model": "m", "revision": "v1", "timeout": 9.0}, ("revision",)),
    ],
)
def test_settings_the_provider_does_not_read_are_told(
    provider: Any, values: dict[str, Any], expected: tuple[str, ...]
) -> None:
    unread = LanguageConfig(provider=provider, **values).unread()
    assert tuple(unread) == expected
    assert all(provider not in readers and readers == READ_BY[name] for name, readers in unread.items())


def test_every_setting_says_who_reads_it() -> None:
    assert {*READ_BY} == {f.name for f in fields(LanguageConfig)} - {"provider"}
