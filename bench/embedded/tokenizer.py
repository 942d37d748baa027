"""The embedded set's tokenizer: CLIP's byte-pair encoding, with merges that make each word of the world one token.

Any other text still tokenises, into bytes, as it would with the real one.
"""

from collections.abc import Iterable
from itertools import pairwise

from transformers import CLIPTokenizer

_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"


def build_tokenizer(words: Iterable[str], *, length: int) -> CLIPTokenizer:
    """A tokenizer of the given length for which each of the words is a single token."""
    merges: list[tuple[str, str]] = []
    for word in sorted(set(words)):
        pieces = _merge([*word[:-1], word[-1] + _WORD_END], merges)
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = _merge(pieces, merges)
    symbols = _byte_symbols()
    tokens = [*symbols, *(symbol + _WORD_END for symbol in symbols)]
    tokens += list(dict.fromkeys(left + right for left, right in merges))
    tokens += [_START, _END]
    vocab = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=length)  # pyright: ignore[reportArgumentType]


def _merge(pieces: list[str], merges: list[tuple[str, str]]) -> list[str]:
    """Apply byte-pair merges in the order of their rank."""
    rank = {pair: index for index, pair in enumerate(merges)}
    while len(pieces) > 1:
        pairs = list(pairwise(pieces))
        best = min(pairs, key=lambda pair: rank.get(pair, len(rank)))
        if best not in rank:
            break
        joined: list[str] = []
        index = 0
        while index < len(pieces):
            if tuple(pieces[index : index + 2]) == best:
                joined.append(best[0] + best[1])
                index += 2
            else:
                joined.append(pieces[index])
                index += 1
        pieces = joined
    return pieces


def _byte_symbols() -> list[str]:
    """The 256 printable stand-ins byte-level encodings use for bytes (printable ones stand for themselves)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]
