"""The files of a glitch report: Markdown, JSON, CSV and the radar."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..drawing.figures import save_figure
from ..files import write_text
from .radar import draw_radar
from .report import GlitchReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_report(
    report: GlitchReport,
    stem: Path,
    style: str = "dark",
    metadata: Mapping[str, str] | None = None,
    radar: Figure | None = None,
) -> tuple[Path, ...]:
    """Write a report beside each other as .md, .json, .csv and .png.

    Args:
        report: one or several runs.
        stem: the path without suffix.
        style: of the radar, where it is not drawn yet.
        metadata: texts to put into the PNG.
        radar: the drawn radar.

    Returns:
        The four paths.
    """
    paths = report_paths(stem)
    write_text(paths[0], report.to_markdown())
    write_text(paths[1], to_json(report))
    write_text(paths[2], report.to_csv())
    save_figure(radar or draw_radar(report, style=style), paths[3], metadata)
    return paths


def report_paths(stem: Path) -> tuple[Path, ...]:
    """Return the four files of a report: .md, .json, .csv and .png."""
    return tuple(stem.with_name(f"{stem.name}.{kind}") for kind in ("md", "json", "csv", "png"))


def to_json(report: GlitchReport) -> str:
    """Return a report as JSON text."""
    return json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n"
