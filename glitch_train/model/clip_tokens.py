"""The CLIP tokens of a caption, without a checkpoint.

``clip_merges.txt.gz`` holds the byte pair merges of OpenAI's CLIP (MIT licence), which both text
encoders of SD1.5 and SDXL use; the vocabulary follows from them.
"""

from __future__ import annotations

import functools
import gzip
from pathlib import Path
from typing import Any

CHUNK_TOKENS = 75
"""Tokens of a caption that go through a text encoder at once, between start and end token."""

START_TOKEN, END_TOKEN = 49406, 49407

_MERGES = Path(__file__).with_name("clip_merges.txt.gz")
_WORD_END = "</w>"
# CLIP's own pattern (openai/CLIP, simple_tokenizer.py): contractions, letters, single digits, rest.
_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def count_tokens(caption: str) -> int:
    """Return the number of CLIP tokens of a caption, start and end tokens left out."""
    return len(_tokenizer().encode(caption).ids)


def chunks_of(tokens: int) -> int:
    """Return how many chunks of 75 tokens a caption takes; an empty one takes one."""
    return max(1, -(-tokens // CHUNK_TOKENS))


def token_chunks(caption: str, padding: int = END_TOKEN) -> list[list[int]]:
    """Return a caption's token ids in chunks of 77.

    Args:
        caption: literal text of any length.
        padding: fills the last chunk behind its end token.

    Returns:
        Chunks of start token, up to 75 tokens, end token and padding; an empty caption has one.
    """
    ids = _tokenizer().encode(caption).ids
    chunks = []
    for start in range(0, max(1, len(ids)), CHUNK_TOKENS):
        part = ids[start : start + CHUNK_TOKENS]
        filling = [padding] * (CHUNK_TOKENS - len(part))
        chunks.append([START_TOKEN, *part, END_TOKEN, *filling])
    return chunks


@functools.cache
def _tokenizer() -> Any:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    with gzip.open(_MERGES, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1:]
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines) if right]
    letters = _byte_letters()
    words = [*letters, *(letter + _WORD_END for letter in letters)]
    words += [left + right for left, right in merges]
    vocabulary = {word: number for number, word in enumerate(words)}
    bpe = models.BPE(vocabulary, merges, end_of_word_suffix=_WORD_END, fuse_unk=False)
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def _byte_letters() -> list[str]:
    """Return GPT-2's 256 letters for the 256 bytes, in the vocabulary's order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
