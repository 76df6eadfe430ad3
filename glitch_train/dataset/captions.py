"""What becomes of captions: parts, words, order, and whose caption a picture gets."""

from __future__ import annotations

import dataclasses
import random
import re

from ..seeds import random_draws

_END = re.compile(
    r"(?<!\d),|,(?!\d)"  # a comma, unless it stands inside a number such as 1,000
    r"|[.!?;]+(?=[\s\"'”’)\]]|$)"  # the end of a sentence, unlike the point in 1.5
    r"|[。！？；，、]"
    r"|\n+"
)


@dataclasses.dataclass(frozen=True)
class CaptionRule:
    """How captions are changed.

    Attributes:
        trigger_word: put in front, untouched by everything but whole dropout.
        part_dropout: chance of each sentence or comma part to be left out.
        word_dropout: chance of each word to be left out.
        shuffle: whether the parts change places.
        seed: the dataset's seed.
    """

    trigger_word: str = ""
    part_dropout: float = 0.0
    word_dropout: float = 0.0
    shuffle: bool = False
    seed: int = 0

    def apply(self, caption: str, picture: str, variant: int) -> str:
        """Return the caption of one variant.

        The order is kohya's: shuffle first, then dropout.

        Args:
            caption: as read.
            picture: identifies the picture.
            variant: number of the variant, from 0.
        """
        draws = random_draws(self.seed, "caption", picture, variant)
        if self.shuffle or self.part_dropout:
            parts = split_parts(caption)
            if self.shuffle:
                draws.shuffle(parts)
            caption = join_parts([part for part in parts if draws.random() >= self.part_dropout])
        if self.word_dropout:
            caption = _drop_words(caption, self.word_dropout, draws)
        return ", ".join(filter(None, (self.trigger_word.strip(), caption)))


@dataclasses.dataclass(frozen=True)
class CaptionPart:
    """A stretch of a caption between commas, sentence ends and line breaks.

    Attributes:
        text: without the mark that ends it.
        end: that mark; empty at the end of the caption.
    """

    text: str
    end: str


def split_parts(caption: str) -> list[CaptionPart]:
    """Return the sentences and comma parts of a caption, in order, none empty."""
    parts: list[CaptionPart] = []
    begin = 0
    for mark in _END.finditer(caption):
        parts.append(CaptionPart(caption[begin : mark.start()].strip(), mark[0].strip() or "."))
        begin = mark.end()
    parts.append(CaptionPart(caption[begin:].strip(), ""))
    return [part for part in parts if part.text]


def join_parts(parts: list[CaptionPart]) -> str:
    """Put parts together again; a comma that would end the caption is left out."""
    words = [part.text + (part.end or ",") for part in parts[:-1]]
    if parts:
        last = parts[-1]
        words.append(last.text + (last.end if last.end not in (",", "，", "、", ";") else ""))
    return " ".join(words)


def swapped(count: int, chance: float, seed: int, variant: int) -> list[int]:
    """Say whose caption each picture gets in one variant.

    The pictures that take part pass their captions around in one circle, so none of them keeps
    its own and no caption is lost.

    Args:
        count: number of pictures.
        chance: of each picture to take part.
        seed: the dataset's seed.
        variant: number of the variant, from 0.

    Returns:
        For each picture the index of the picture whose caption it gets.
    """
    draws = random_draws(seed, "caption swap", variant)
    owners = list(range(count))
    chosen = [index for index in owners if draws.random() < chance]
    draws.shuffle(chosen)
    for index, neighbour in zip(chosen, chosen[1:] + chosen[:1], strict=True):
        owners[index] = neighbour
    return owners


def is_dropped(chance: float, seed: int, picture: str, visit: int) -> bool:
    """Say whether a picture is trained with an empty caption this time.

    Args:
        chance: kohya's ``caption_dropout_rate``.
        seed: the dataset's seed.
        picture: identifies the picture.
        visit: how often it was seen before, over all epochs and repeats.
    """
    return chance > 0 and random_draws(seed, "caption dropout", picture, visit).random() < chance


def _drop_words(caption: str, chance: float, draws: random.Random) -> str:
    return " ".join(word for word in caption.split() if draws.random() >= chance)
