"""What happens to captions, piece by piece."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glitch_train.dataset.captions import CaptionRule, is_dropped, join_parts, split_parts, swapped

PROSE = "A woman, 1.75 m tall, looks away. She wears 1,000 beads! Why? The light (soft) fades"
TAGS = "red coat,glitch, (blurry:1.3), street"


def texts(caption: str) -> list[str]:
    """Return the texts of a caption's parts."""
    return [part.text for part in split_parts(caption)]


def test_parts_are_sentences_and_comma_parts() -> None:
    """Catches a number cut at its point or comma, and marks left in the parts."""
    assert texts(PROSE) == [
        *("A woman", "1.75 m tall", "looks away", "She wears 1,000 beads", "Why"),
        "The light (soft) fades",
    ]
    assert texts(TAGS) == ["red coat", "glitch", "(blurry:1.3)", "street"]
    assert texts("one\n\ntwo. three") == ["one", "two", "three"]
    assert texts("") == texts(" , . ") == []


def test_parts_join_to_what_they_were() -> None:
    """Catches marks that are lost or doubled."""
    assert join_parts(split_parts(PROSE)) == PROSE
    assert join_parts(split_parts(TAGS)) == "red coat, glitch, (blurry:1.3), street"
    assert join_parts(split_parts(PROSE)[:2]) == "A woman, 1.75 m tall"


def test_captions_are_untouched_by_default() -> None:
    """Catches tidying that nobody asked for; parentheses are literal text."""
    odd = "  (a:1.3),,b \n\n c \\(d\\) [e]"
    assert CaptionRule().apply(odd, "p", 0) == odd


def test_part_dropout_drops_whole_parts_at_its_rate() -> None:
    """Catches words cut in half and a rate that is off: 4 parts, 500 variants, p 0.3."""
    rule = CaptionRule(part_dropout=0.3)
    kept = Counter()
    for variant in range(500):
        parts = texts(rule.apply(TAGS, "p", variant))
        assert parts == [part for part in texts(TAGS) if part in parts]
        kept.update(parts)
    assert all(count == pytest.approx(350, abs=45) for count in kept.values())
    assert CaptionRule(part_dropout=1.0).apply(PROSE, "p", 0) == ""


def test_word_dropout_drops_words_at_its_rate() -> None:
    """Catches letters dropped, an order changed, and a rate that is off."""
    words = [f"w{i}" for i in range(2000)]
    left = CaptionRule(word_dropout=0.25).apply(" ".join(words), "p", 0).split()
    assert left == [word for word in words if word in set(left)]
    assert len(left) == pytest.approx(1500, abs=80)


def test_shuffle_keeps_every_part() -> None:
    """Catches parts lost or doubled, and an order that never changes."""
    rule = CaptionRule(shuffle=True)
    orders = {tuple(texts(rule.apply(TAGS, "p", variant))) for variant in range(50)}
    assert {tuple(sorted(order)) for order in orders} == {tuple(sorted(texts(TAGS)))}
    assert len(orders) > 10


def test_the_trigger_stays_in_front_of_whatever_is_left() -> None:
    """Catches a trigger that is shuffled or dropped with the rest."""
    rule = CaptionRule(trigger_word="glz", part_dropout=0.9, word_dropout=0.5, shuffle=True)
    assert all(rule.apply(TAGS, "p", variant).startswith("glz") for variant in range(30))
    assert CaptionRule(trigger_word=" glz ").apply("", "p", 0) == "glz"
    assert CaptionRule(trigger_word="glz").apply("a", "p", 0) == "glz, a"


def test_draws_depend_on_seed_picture_and_variant_alone() -> None:
    """Catches a stream that is shared between pictures, so that order would matter."""

    def one(seed: int, picture: str, variant: int) -> str:
        return CaptionRule(part_dropout=0.5, word_dropout=0.3, seed=seed).apply(
            PROSE * 5, picture, variant
        )

    assert one(1, "p", 2) == one(1, "p", 2)
    assert len({one(1, "p", 2), one(2, "p", 2), one(1, "q", 2), one(1, "p", 3)}) == 4


@given(st.integers(0, 60), st.floats(0, 1), st.integers(0, 99))
def test_a_swap_is_an_exchange(count: int, chance: float, variant: int) -> None:
    """Catches a caption that is lost or given twice."""
    owners = swapped(count, chance, 0, variant)
    assert sorted(owners) == list(range(count))


def test_a_swap_takes_part_at_its_rate() -> None:
    """Catches pictures that get their own caption back, and a rate that is off."""
    assert swapped(50, 0.0, 0, 0) == list(range(50))
    assert all(owner != index for index, owner in enumerate(swapped(50, 1.0, 0, 0)))
    moved = sum(owner != index for index, owner in enumerate(swapped(2000, 0.2, 0, 0)))
    assert moved == pytest.approx(400, abs=60)
    assert swapped(50, 1.0, 0, 0) != swapped(50, 1.0, 0, 1)


def test_whole_dropout_is_drawn_each_time_a_picture_is_seen() -> None:
    """Catches kohya's meaning missed: a picture whose caption is gone for good, or a wrong rate."""
    dropped = [is_dropped(0.1, 0, "p", visit) for visit in range(3000)]
    assert sum(dropped) == pytest.approx(300, abs=55)
    assert all(is_dropped(1.0, 0, "p", visit) for visit in range(50))
    assert not any(is_dropped(0.0, 0, "p", visit) for visit in range(50))
