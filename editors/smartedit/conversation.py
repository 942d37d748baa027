"""The chat between user and language model as token ids: an edit, a question with its answer, or a caption.

The instruction stands behind the picture; the assistant answers with a few words and the r image tokens, and the
language model's states AT those tokens say what to edit (SmartEdit, arXiv 2312.06739, section 4.1). How the roles are
called and what they say is data, a `ChatStyle`, so that a checkpoint can carry its own.

New tokens are rows behind those of the language model, whatever its tokenizer has beside them: texts are cut at the new
tokens here, and the tokenizer sees only what is between. Each piece is encoded by itself, without the spaces around it,
as the tokenizer that the released weights were trained with does.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from ..core.errors import InputError, ModelError

Labels: TypeAlias = Literal["answer", "image tokens"]
"""Which tokens the language model learns to say: the whole answer turn, or its image tokens (the paper's Eq. 2)."""

_SLOT = "[edit]"
_IMAGE, _START, _END = "<img>", "<im_start>", "<im_end>"
_PICTURE = "<picture>"


@dataclass(frozen=True, kw_only=True)
class ChatStyle:
    """How a conversation is written; `[edit]` stands for the instruction or the caption."""

    system: str
    """What comes first; may be empty."""
    user: str
    """What the user's turn begins with."""
    assistant: str
    """What the assistant's turn begins with."""
    quote: str
    """Put around what the user wants to be done."""
    edits: tuple[tuple[str, str], ...]
    """User's and assistant's words of an edit; the image tokens follow the latter. The first are those used to edit."""
    captions: tuple[tuple[str, str], ...]
    """The same where there is no picture, only a caption."""

    def __post_init__(self) -> None:
        for name in ("edits", "captions"):
            pairs = getattr(self, name)
            if not pairs or any(len(pair) != 2 or pair[0].count(_SLOT) != 1 for pair in pairs):
                raise ValueError(f"{name} must be pairs of texts, the first of each with one {_SLOT}, got {pairs!r}")


_ASKS = (
    "Change the picture above as this text says: [edit].",
    "Please edit the given picture like this: [edit].",
    "Could you alter the picture so that it follows [edit]?",
    "I would like a new version of this picture after the request [edit].",
    "Here is a picture and what to do with it: [edit].",
    "Make a picture out of this one and the words [edit].",
)
_ANSWERS = (
    "Sure, this is the edited picture",
    "Of course, the new picture is",
    "Certainly, the picture that you asked for is",
    "Yes, here is the changed picture",
    "All right, the result is",
)
VICUNA = ChatStyle(
    system="A chat between a curious user and an artificial intelligence assistant. The assistant can generate <img>. "
    "The assistant translates a given image into another one by the text that comes with it. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions.",
    user="USER:",
    assistant="ASSISTANT:",
    quote='"',
    edits=tuple((ask, _ANSWERS[(row + shift) % len(_ANSWERS)]) for shift in range(5) for row, ask in enumerate(_ASKS)),
    captions=(
        ("Please paint a picture of [edit].", "Sure, the picture is"),
        ("Make a picture that shows what [edit] says.", "Of course, this picture shows it"),
        ("Which picture goes with the words [edit]?", "The picture that goes with them is"),
        ("I am looking for a picture of [edit].", "Here is such a picture"),
    ),
)
"""The chat of Vicuna, which LLaVA was trained on, with 30 pairs of turns for edits."""
PLAIN = ChatStyle(
    system="",
    user="user",
    assistant="assistant",
    quote="",
    edits=(("[edit]", "done"),),
    captions=(("[edit]", "done"),),
)
"""As few words as possible, for a language model with few words."""
STYLES: Mapping[str, ChatStyle] = {"vicuna_v1": VICUNA, "plain": PLAIN}


def read_style(stored: str | Mapping[str, Any]) -> ChatStyle:
    """The style that a checkpoint names or carries.

    Raises:
        ModelError: if it is none.
    """
    if isinstance(stored, str):
        if stored not in STYLES:
            raise ModelError(f"expected a conversation of the style {' or '.join(STYLES)}, got {stored!r}: correct it")
        return STYLES[stored]
    try:
        pairs = {name: tuple((str(a), str(b)) for a, b in stored[name]) for name in ("edits", "captions")}
        return ChatStyle(**{**stored, **pairs})
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"cannot understand the checkpoint's conversation ({error}): fetch it again") from error


def write_style(style: ChatStyle) -> str | dict[str, Any]:
    """What a checkpoint stores of a style: its name, or all of it."""
    return next((name for name, known in STYLES.items() if known == style), asdict(style))


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """One conversation, as ids of the language model's rows and the new ones behind them."""

    before: tuple[int, ...]
    """What stands before the picture; without a picture, the whole prompt."""
    after: tuple[int, ...]
    """What stands between the picture and the answer."""
    answer: tuple[int, ...]
    """The assistant's turn."""
    labels: tuple[bool, ...]
    """Which tokens of the answer the language model learns to say."""
    picture: bool = True
    """Whether the picture stands between `before` and `after`."""
    image_tokens: tuple[int, ...] = field(default=())
    """Positions in the answer of the tokens whose states are read, r or none of them."""

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.answer) or not any(self.labels):
            raise ValueError(f"labels must be as many as the answer's tokens and not all False, got {self.labels}")


class ChatTokenizer:
    """A language model's tokenizer with the new tokens, and the style of the chat."""

    def __init__(self, base: Any, *, rows: int, image_tokens: int, style: ChatStyle = VICUNA) -> None:
        """Add tokens to a tokenizer, without changing it.

        Args:
            base: tokenizer of transformers.
            rows: rows of the language model's embedding; the first new token is the row behind them.
            image_tokens: r.
            style: how conversations are written.
        """
        self.base, self.rows, self.image_tokens, self.style = base, rows, image_tokens, style
        self.new_tokens = (_IMAGE, _START, _END, *(f"<img_{i}>" for i in range(image_tokens)))
        self._ids = {token: rows + i for i, token in enumerate(self.new_tokens)}
        self._cut = re.compile("(" + "|".join(re.escape(token) for token in (*self.new_tokens, _PICTURE)) + ")")

    @property
    def image_ids(self) -> tuple[int, ...]:
        """Ids of the image tokens, in their order."""
        return tuple(range(self.rows + 3, self.rows + 3 + self.image_tokens))

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a text that may hold new tokens; nothing is put around it."""
        pieces = (piece.strip() for piece in self._cut.split(text))
        ids: list[int] = []
        for piece in pieces:
            if piece in self._ids:
                ids.append(self._ids[piece])
            elif piece:
                # The tokenizer's own special tokens are words here, too: nobody ends a turn from within it.
                ids += self.base(piece, add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids
        return tuple(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids."""
        return " ".join(self.new_tokens[i - self.rows] if i >= self.rows else self.base.decode([i]) for i in ids)

    def begin(self) -> tuple[int, ...]:
        """What a text begins with, if the language model has such a token."""
        return () if self.base.bos_token_id is None else (int(self.base.bos_token_id),)

    def end(self) -> tuple[int, ...]:
        """What an answer ends with, if the language model has such a token."""
        return () if self.base.eos_token_id is None else (int(self.base.eos_token_id),)


def edit_conversation(
    tokenizer: ChatTokenizer, instruction: str, template: int = 0, *, labels: Labels = "answer"
) -> Conversation:
    """A request to edit the picture, answered with image tokens.

    Args:
        tokenizer: of the language model.
        instruction: what to do; tokens in it, new or not, are read as the words they are written with.
        template: which words stand around it, in 0..len(style.edits) - 1.
        labels: what the language model learns to say.

    Raises:
        InputError: if the instruction is empty.
    """
    style = tokenizer.style
    ask, answer = _pick(style.edits, template)
    marked = f"{style.quote}{_START} {_PICTURE} {_END}{_plain_words(instruction)}{style.quote}"
    return _converse(tokenizer, ask.replace(_SLOT, marked), answer, labels=labels, image_tokens=True)


def caption_conversation(
    tokenizer: ChatTokenizer, text: str, template: int = 0, *, labels: Labels = "answer"
) -> Conversation:
    """A request for a picture of a caption, without any picture, answered with image tokens.

    Args:
        tokenizer: of the language model.
        text: the caption.
        template: which words stand around it, in 0..len(style.captions) - 1.
        labels: what the language model learns to say.

    Raises:
        InputError: if the caption is empty.
    """
    style = tokenizer.style
    ask, answer = _pick(style.captions, template)
    marked = f"{style.quote}{_plain_words(text)}{style.quote}"
    return _converse(tokenizer, ask.replace(_SLOT, marked), answer, labels=labels, image_tokens=True)


def talk_conversation(
    tokenizer: ChatTokenizer, question: str, answer: str, *, picture: bool = True, longest: int = 256
) -> Conversation:
    """A question and its answer, without image tokens.

    Args:
        tokenizer: of the language model.
        question: the user's words.
        answer: the assistant's.
        picture: whether they are about the picture.
        longest: most tokens of the answer; the rest is cut off.

    Raises:
        InputError: if one of them is empty.
    """
    marked = f"{_START} {_PICTURE} {_END}" if picture else ""
    ask = f"{marked}{_plain_words(question)}"
    return _converse(tokenizer, ask, _plain_words(answer), labels="answer", image_tokens=False, longest=longest)


def _pick(pairs: tuple[tuple[str, str], ...], template: int) -> tuple[str, str]:
    if not 0 <= template < len(pairs):
        raise ValueError(f"template must be in 0..{len(pairs) - 1}, got {template}")
    return pairs[template]


def _plain_words(text: str) -> str:
    """A user's text, in which nothing is taken for a token of ours."""
    words = re.sub(r"<(?=(?:img|im_start|im_end|img_\d+|picture)>)", "< ", " ".join(text.split()))
    if not words:
        raise InputError("expected some words for the language model, got an empty text: write an instruction")
    return words


def _converse(
    tokenizer: ChatTokenizer,
    ask: str,
    answer: str,
    *,
    labels: Labels,
    image_tokens: bool,
    longest: int | None = None,
) -> Conversation:
    style = tokenizer.style
    prompt = f"{style.system} {style.user} {ask} {style.assistant}"
    before, mark, after = prompt.partition(_PICTURE)
    words = tokenizer.encode(answer)[:longest]
    images = tokenizer.image_ids if image_tokens else ()
    said = (*words, *images, *tokenizer.end())
    places = tuple(range(len(words), len(words) + len(images)))
    return Conversation(
        before=(*tokenizer.begin(), *tokenizer.encode(before)),
        after=tokenizer.encode(after),
        answer=said,
        labels=tuple(labels == "answer" or place in places for place in range(len(said))),
        picture=bool(mark),
        image_tokens=places,
    )
