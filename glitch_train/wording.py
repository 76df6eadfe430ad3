"""How numbers, settings and their origins are written for people, and numbers for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MINUS = "−"
"""The sign of negative numbers in texts; a hyphen is shorter, and breaks lines."""

MOST_ZEROS = 6
"""A number is written out with up to so many zeros before, or digits after its first."""

MANY_TIMES = 10.0
"""A growth beyond this many times the start is said as a multiple, not in per cent."""


def plain(value: Any) -> Any:
    """Return a value that JSON holds: six significant digits, None for what is not finite."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, bool) or value is None or isinstance(value, (str, int)):
        return value
    number = float(value)
    if not math.isfinite(number):
        return None
    return float(f"{number:.6g}")


def tidy_step(step: float) -> float:
    """Return a step with three digits: no curve tells it closer."""
    return float(f"{step:.3g}")


def words_for_step(step: float) -> str:
    """Return ``1,230`` or ``4.25``."""
    if step == round(step) or abs(step) >= 20:
        return f"{step:,.0f}".replace("-", MINUS)
    return number(step, 3)


def percent(share: float) -> str:
    """Return ``12 %``, with one decimal below ten, and never a signed or bare zero."""
    parts = 100 * share
    if abs(parts) < 0.05:
        return "less than 0.1 %" if parts else "0 %"
    if abs(parts) < 9.95:
        return f"{parts:.1f} %".replace("-", MINUS)
    return f"{number(float(f'{parts:.0f}'), 7)} %"


def change(ratio: float) -> str:
    """Return what became of a level: ``−60 %``, ``+4.0 %``, ``unchanged``, ``12 times the start``.

    Args:
        ratio: the level's end over its start.
    """
    if ratio > MANY_TIMES:
        return f"{number(ratio, 2)} times the start"
    if abs(ratio - 1) < 0.0005:
        return "unchanged"
    return f"{'+' if ratio > 1 else ''}{percent(ratio - 1)}"


def number(value: float, digits: int = 4) -> str:
    """Return significant digits, written out: ``0.08214``, ``−36,030``, ``3.4 × 10^38``.

    Args:
        value: any; from ten million on, and below a millionth, a power of ten is split off.
        digits: how many significant ones; zeros at the end of decimals are left out.
    """
    if not math.isfinite(value):
        return str(float(value)).replace("-", MINUS)
    figures, _, exponent = f"{abs(value):.{digits - 1}e}".partition("e")
    power, sign = int(exponent), MINUS if value < 0 else ""
    if -MOST_ZEROS <= power < MOST_ZEROS + 1:
        text = f"{float(f'{figures}e{exponent}'):,.{max(0, digits - 1 - power)}f}"
        return sign + _without_zeros(text)
    return f"{sign}{_without_zeros(figures)} × 10^{power}".replace("-", MINUS)


def index_text(index: float) -> str:
    """Return a glitch index or its end with two decimals, a huge one with three digits."""
    return f"{index:.2f}" if index < 100 else number(index, 3)


def rate_text(rate: float) -> str:
    """Return a learning rate as people type it: ``2e-4``, ``0.33``."""
    figures, _, exponent = f"{rate:.1e}".partition("e")
    small = 0 < abs(rate) < 0.01
    return f"{_without_zeros(figures)}e{int(exponent)}" if small else number(rate, 2)


def with_error(value: float, error: float) -> str:
    """Return ``31 ± 50``: both with as many decimals as the error has to say, and in one notation.

    Args:
        value: the number.
        error: its standard error, in the same unit.
    """
    largest, size = max(abs(value), abs(error)), max(abs(error), abs(value) / 1000)
    if not 1e-300 < size < math.inf:
        return f"{number(value, 3)} ± {number(error, 3)}"
    if not 1e-6 < largest < 1e7:
        scale = 10.0 ** math.floor(math.log10(largest))
        power = f"{math.floor(math.log10(largest))}".replace("-", MINUS)
        return f"({with_error(value / scale, error / scale)}) × 10^{power}"
    decimals = max(0, 1 - math.floor(math.log10(size)))
    text = f"{abs(value):,.{decimals}f}"
    # A negative number that is rounded to nothing is nothing.
    sign = MINUS if value < 0 and float(text.replace(",", "")) else ""
    return f"{sign}{text} ± {abs(error):,.{decimals}f}"


def _without_zeros(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def shown(value: Any) -> str:
    """Return a setting's value as a person writes it, on one line."""
    if isinstance(value, str):
        return " → ".join(value.splitlines()) if value else "empty"
    return f"{value:g}".replace("e-0", "e-") if isinstance(value, float) else str(value).lower()


def where_from(origins: Mapping[str, str], recipe: Any) -> str:
    """Return one line that says which settings a connected recipe decided.

    Args:
        origins: setting name to who named it.
        recipe: the finished half of the recipe.
    """
    if not origins:
        return "every setting from the node's own widgets"
    named: dict[str, list[str]] = {}
    for name, who in origins.items():
        named.setdefault(who, []).append(f"{name} = {shown(getattr(recipe, name))}")
    said = "; ".join(f"{who}: {', '.join(settings)}" for who, settings in named.items())
    return f"from the connected recipe: {said}; all other settings from the widgets"


def size_text(size: float) -> str:
    """Return bytes in the unit a person would choose."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"


def shown_name(name: str) -> str:
    """Return a file name on one line that any terminal and JSON reader takes."""
    printable = name.encode("utf-8", errors="backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in printable)
