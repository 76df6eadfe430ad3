"""Token counts of captions."""

from __future__ import annotations

import pytest

from glitch_train.model.clip_tokens import chunks_of, count_tokens

# len(CLIPTokenizer.from_pretrained("<ComfyUI>/comfy/sd1_tokenizer")(caption)["input_ids"]) - 2
COUNTED = [
    ("", 0),
    ("a portrait of a smiling astronaut in an orange suit", 10),
    ("Hello, World! it's 1234 (x:1.3) \\(foo\\) — “quotes” naïve CAFÉ 日本語 🙂🙂 don't", 40),
    ("A " * 300, 300),
    ("a\n\nb\tc  d...!!??", 7),
]


@pytest.mark.parametrize(("caption", "tokens"), COUNTED)
def test_counts_are_clips(caption: str, tokens: int) -> None:
    """Catches a wrong vocabulary, case, spaces, or an end-of-word mark that is missing."""
    assert count_tokens(caption) == tokens


def test_chunks_hold_75() -> None:
    """Catches 77, which counts the start and end tokens as a caption's."""
    assert [chunks_of(n) for n in (0, 1, 75, 76, 150, 151)] == [1, 1, 1, 2, 2, 3]
