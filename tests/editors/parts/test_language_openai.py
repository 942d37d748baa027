"""The server processor against a real server on this machine that speaks the interface, with each of its faults."""

import json
import logging
import pickle
import time
import traceback
from typing import Any

import pytest

from maskedit.editors.core.errors import InputError, MissingExtraError
from maskedit.editors.parts.language import LanguageError, LanguageProcessor, ParseError, make_language
from maskedit.editors.parts.language_options import LanguageConfig
from maskedit.editors.parts.language_prompt import format_reply

TEXT = "make the red cube blue"
KEY = "sk-secret-0123456789"
ANSWER = json.dumps(
    {
        "edits": [{"text": TEXT, "keyword": "red cube", "phrases": ["red cube"]}],
        "input_caption": "photo of a red cube",
        "edited_caption": "photo of a blue cube",
    }
)
PLAIN = format_reply(["red cube"], "photo of a red cube", "photo of a blue cube")
Reply = tuple[int, Any]


def says(content: str | None) -> Reply:
    """An answer in the form of the interface."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return 200, {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


def fails(status: int, message: str) -> Reply:
    return status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


@pytest.fixture
def server(chat_server: Any) -> Any:
    """A server that knows the answer."""
    chat_server.reply = lambda asked: says(ANSWER)
    return chat_server


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_LOG"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def processor(server: Any, *, key: str | None = KEY, **options: Any) -> LanguageProcessor:
    url = server if isinstance(server, str) else server.url
    return make_language(LanguageConfig(provider="openai", base_url=url, **options), api_key=key)


def message_of(language: LanguageProcessor) -> str:
    """The one line a user reads; nothing that can be shown of the error has the key in it."""
    with pytest.raises(LanguageError) as caught:
        language.parse(TEXT)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(language)
    assert KEY not in shown and caught.value.__context__ is None and caught.value.__cause__ is None
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    return str(caught.value)


def test_the_server_is_asked_once_and_held_to_the_schema(server: Any) -> None:
    language = processor(server, model="mine", temperature=0.6, max_tokens=200)
    parsed = language.parse(TEXT, "Photo of a red cube.")
    assert parsed.phrases == ("red cube",) and parsed.edits[0].keyword == "red cube"
    assert parsed.edited_caption == "photo of a blue cube"
    assert language.parse(TEXT, "Photo of a red cube.") is parsed
    (asked,) = server.asked
    assert (asked["model"], asked["temperature"], asked["max_tokens"]) == ("mine", 0.6, 200)
    assert asked["response_format"]["type"] == "json_schema" and asked["response_format"]["json_schema"]["strict"]
    assert asked["messages"][-1]["content"].endswith("Description: Photo of a red cube.")
    assert server.keys == [f"Bearer {KEY}"]


def test_the_key_comes_from_the_named_variable(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    processor(server, key=None, api_key_variable="MY_KEY").parse(TEXT)
    assert server.keys == [f"Bearer {KEY}"]


def test_a_server_of_ones_own_needs_no_key(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    processor(server, key=None).parse(TEXT)
    assert server.keys == ["Bearer none"]
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    make_language(LanguageConfig(provider="openai")).parse(TEXT)
    assert len(server.asked) == 2


def test_a_missing_key_is_named() -> None:
    with pytest.raises(
        LanguageError, match=r"set the environment variable MY_KEY, .*--language.api-key-variable.*--language.base-url"
    ):
        make_language(LanguageConfig(provider="openai", api_key_variable="MY_KEY"))


def test_a_damaged_key_is_not_repeated(server: Any) -> None:
    with pytest.raises(LanguageError, match="OPENAI_API_KEY has spaces or other characters") as caught:
        processor(server, key=f"{KEY}\n{KEY}")
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_nothing_logged_or_kept_has_the_key(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        language = processor(server)
        parsed = language.parse(TEXT)
    assert KEY not in caplog.text and KEY.encode() not in pickle.dumps(parsed)
    assert KEY not in repr(language) and KEY not in repr(vars(language.config))


def test_a_server_without_schemas_is_asked_in_the_papers_form(server: Any) -> None:
    def reply(asked: dict[str, Any]) -> Reply:
        return fails(400, "Unknown parameter: response_format") if "response_format" in asked else says(PLAIN)

    server.reply = reply
    language = processor(server)
    assert language.parse(TEXT).phrases == ("red cube",)
    language.parse("make the cube green")
    assert [("response_format" in asked) for asked in server.asked] == [True, False, False]
    assert "Editing prompt2" in server.asked[1]["messages"][0]["content"]


def test_options_a_model_does_not_know_are_dropped(server: Any) -> None:
    def reply(asked: dict[str, Any]) -> Reply:
        if "max_tokens" in asked:
            return fails(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return fails(400, "Unsupported value: 'temperature'.") if "temperature" in asked else says(ANSWER)

    server.reply = reply
    processor(server, max_tokens=300).parse(TEXT)
    assert server.asked[-1]["max_completion_tokens"] == 300 and len(server.asked) == 3


def test_an_unreadable_reply_is_asked_for_again(server: Any) -> None:
    server.reply = lambda asked: says("Sure!" if len(server.asked) == 1 else ANSWER)
    processor(server).parse(TEXT)
    second = server.asked[1]["messages"]
    assert [m["role"] for m in second] == ["system", "user", "assistant", "user"]
    assert second[2]["content"] == "Sure!" and "cannot be used: expected" in second[3]["content"]


@pytest.mark.parametrize("content", ["Sure!", "", None, ANSWER[:60]])
def test_two_unreadable_replies_are_an_error(content: str | None, server: Any) -> None:
    server.reply = lambda asked: says(content)
    with pytest.raises(ParseError) as caught:
        processor(server).parse(TEXT)
    assert caught.value.reply == (content or "") and len(server.asked) == 2 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "expected", "requests"),
    [
        (401, "refuses the key: correct OPENAI_API_KEY", 1),
        (403, "refuses the key: correct OPENAI_API_KEY", 1),
        (404, "has no model 'gpt-4o-mini'", 1),
        (429, "takes no more requests for now", 2),
        (500, r"failed \(status 500\): try again later", 2),
        (503, r"failed \(status 503\): try again later", 2),
        (400, r"refuses the request \(status 400: .*\*\*\*", 1),
        (418, r"refuses the request \(status 418", 1),
    ],
)
def test_every_refusal_says_what_to_do(status: int, expected: str, requests: int, server: Any) -> None:
    server.reply = lambda asked: fails(status, f"Incorrect key {KEY}\nprovided")
    with pytest.raises(LanguageError, match=expected):
        processor(server).parse(TEXT)
    assert len(server.asked) == requests
    message_of(processor(server))


@pytest.mark.parametrize("body", [b"{not json", b"[]", b"{}", b'{"choices": []}', b'"text"', b'{"choices": [{}]}', b""])
def test_answers_of_another_kind_are_refused(body: bytes, server: Any) -> None:
    server.reply = lambda asked: (200, body)
    assert "gave no readable answer: check that its address ends in /v1" in message_of(processor(server))


def test_a_silent_server_times_out(server: Any) -> None:
    def reply(asked: dict[str, Any]) -> Reply:
        time.sleep(0.5)
        return says(ANSWER)

    server.reply = reply
    assert "did not answer within 0.1 s: raise the timeout" in message_of(processor(server, timeout=0.1))


@pytest.mark.parametrize("password", ["hushhush", "h@shhush", "h/shhush"])
def test_no_server_is_said_and_its_password_is_not(password: str, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server.shutdown()
    server.server_close()
    assert server.url in message_of(processor(server.url))
    monkeypatch.setenv("OPENAI_BASE_URL", server.url.replace("//", f"//user:{password}@"))
    with pytest.raises(LanguageError, match="the language server at the address in OPENAI_BASE_URL") as caught:
        make_language(LanguageConfig(provider="openai"), api_key=KEY).parse(TEXT)
    shown = "".join(traceback.format_exception(caught.value))
    assert "user" not in str(caught.value) and "shhush" not in str(caught.value)
    assert password not in shown and "Invalid port" not in shown


@pytest.mark.parametrize(
    "address", ["nonsense", "http://127.0.0.1:99999/v1", "http://127.0.0.1:port/v1", "ftp://127.0.0.1/v1", "http://"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(LanguageError, match="the language server at") as caught:
        processor(address).parse(TEXT)
    assert "\n" not in str(caught.value)


def test_an_empty_instruction_is_not_sent(server: Any) -> None:
    with pytest.raises(InputError, match="got an empty text"):
        processor(server).parse("  ")
    assert not server.asked


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(MissingExtraError, match=r"install it with `pip install 'maskedit\[openai\]'`"):
        processor("http://127.0.0.1:1/v1")
