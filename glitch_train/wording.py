"""How numbers, settings and their origins are written for people, and numbers for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


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
    return f"{step:,.0f}" if step == round(step) or abs(step) >= 20 else f"{step:.3g}"


def percent(share: float) -> str:
    """Return ``12 %``, with one decimal below ten, and never a signed or bare zero."""
    number = 100 * share
    if abs(number) < 0.05:
        return "less than 0.1 %" if number else "0 %"
    return f"{number:,.0f} %" if abs(number) >= 9.95 else f"{number:.1f} %"


def loss_text(loss: float) -> str:
    """Return four digits, written out up to ten million: ``0.08214``, ``36,030``."""
    text = f"{loss:.4g}"
    return f"{loss:,.0f}" if "e+" in text and abs(loss) < 1e7 else text


def with_error(value: float, error: float) -> str:
    """Return ``31 ± 50``: both with as many decimals as the error has to say, and in one notation.

    Args:
        value: the number.
        error: its standard error, in the same unit.
    """
    size = max(abs(error), abs(value) / 1000)
    if not size or not math.isfinite(size):
        return f"{value:.3g} ± {error:.3g}"
    if not 1e-6 < max(abs(value), abs(error)) < 1e7:
        return f"({value:.3g} ± {error:.3g})" if value else f"0 ± {error:.3g}"
    decimals = max(0, 1 - math.floor(math.log10(size)))
    number = f"{value:,.{decimals}f}"
    # A negative number that is rounded to nothing is nothing.
    number = number.lstrip("-") if not float(number.replace(",", "")) else number
    return f"{number} ± {error:,.{decimals}f}"


def shown(value: Any) -> str:
    """Return a setting's value as a person writes it, on one line."""
    if isinstance(value, str):
        return " → ".join(value.splitlines()) if value else "empty"
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


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
