"""Shipped workflows as files: whole links, a layout that a person can read, models to fetch."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from glitch_train.recipe.experiments import EXPERIMENTS

WORKFLOWS = Path(__file__).parents[2] / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
FURTHER = {
    "demo",
    "cross_model_sdxl_to_sd15",
    "cross_model_sd15_to_sdxl",
    "resume_and_overtrain",
    "compare_runs",
    "generation_sweep",
}
TITLE_PX, SLOT_PX, FIRST_SLOT_PX = 30, 20, 14
SPLINE = 0.25
"""How far LiteGraph's control points lie from the ends, as a share of their distance."""
MOST_PX = 80
"""And at most so far at a bend."""
THUMBNAIL_BYTES = 60_000

Point = tuple[float, float]


def read(name: str, folder: str = "") -> dict[str, Any]:
    """Return a workflow's file."""
    return json.loads((WORKFLOWS / folder / f"{name}.json").read_text("utf-8"))


def boxes(workflow: dict[str, Any]) -> dict[int, tuple[float, float, float, float]]:
    """Return left, top with title, right and bottom of each node by its id."""
    return {
        node["id"]: (
            node["pos"][0],
            node["pos"][1] - TITLE_PX,
            node["pos"][0] + node["size"][0],
            node["pos"][1] + node["size"][1],
        )
        for node in workflow["nodes"]
    }


def wires(workflow: dict[str, Any]) -> list[tuple[list[Any], list[Point]]]:
    """Return each link with points along the curve that the frontend draws for it."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    bends = {bend["id"]: bend for bend in workflow["extra"].get("reroutes", [])}
    last = {one["id"]: one["parentId"] for one in workflow["extra"].get("linkExtensions", [])}
    found = []
    for link in workflow["links"]:
        source, target = nodes[link[1]], nodes[link[3]]
        way: list[Point] = []
        bend = last.get(link[0])
        while bend is not None:
            way.insert(0, tuple(bends[bend]["pos"]))
            bend = bends[bend].get("parentId")
        start = source["pos"][0] + source["size"][0], slot_y(source, link[2])
        end = target["pos"][0], slot_y(target, link[4])
        found.append((link, curve([start, *way, end])))
    return found


def slot_y(node: dict[str, Any], slot: int) -> float:
    return node["pos"][1] + FIRST_SLOT_PX + SLOT_PX * slot


def curve(way: list[Point]) -> list[Point]:
    """Return points along the way, bent as between LiteGraph's sockets."""
    found: list[Point] = []
    for a, b in itertools.pairwise(way):
        reach = SPLINE * ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5
        reach = 0.0 if a[0] == b[0] or a[1] == b[1] else reach
        reach = min(reach, MOST_PX) if len(way) > 2 else reach
        for step in range(41):
            t = step / 40
            weights = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
            xs = a[0], a[0] + reach, b[0] - reach, b[0]
            ys = a[1], a[1], b[1], b[1]
            found.append(
                (
                    sum(w * x for w, x in zip(weights, xs, strict=True)),
                    sum(w * y for w, y in zip(weights, ys, strict=True)),
                )
            )
    return found


def cross(one: tuple[Point, Point], other: tuple[Point, Point]) -> bool:
    """Whether two pieces of wire cut through each other."""

    def side(a: Point, b: Point, c: Point) -> float:
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    (a, b), (c, d) = one, other
    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


def test_every_preset_has_its_workflow() -> None:
    """Catches an experiment that is offered in the node and ships no workflow."""
    assert set(EXPERIMENTS) | FURTHER == set(NAMES)


def test_slugs_are_file_names_and_stay() -> None:
    """Catches a name that a changed title took along."""
    slugs = list(EXPERIMENTS)
    assert slugs[:3] == ["sdxl_standard", "sd15_standard", "sd15_uncropped_portraits"]
    assert all(slug.replace("_", "a").isalnum() and slug == slug.lower() for slug in slugs)


@pytest.mark.parametrize("name", NAMES)
def test_no_node_covers_another(name: str) -> None:
    """Catches a node that grew over its neighbour."""
    placed = boxes(read(name))
    for (one, a), (other, b) in itertools.combinations(placed.items(), 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, (one, other)


@pytest.mark.parametrize("name", NAMES)
def test_no_wire_runs_behind_a_node(name: str) -> None:
    """Catches a wire that one cannot follow."""
    workflow = read(name)
    placed = boxes(workflow)
    for link, points in wires(workflow):
        for node, (left, top, right, bottom) in placed.items():
            inside = [p for p in points if left + 1 < p[0] < right - 1 and top < p[1] < bottom]
            assert not inside, (link, node)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_wires_cross(name: str) -> None:
    """Catches wires that cut through each other; those of one socket are one wire."""
    drawn = wires(read(name))
    for (one, a), (other, b) in itertools.combinations(drawn, 2):
        if one[1:3] == other[1:3]:
            continue
        pieces = itertools.product(itertools.pairwise(a), itertools.pairwise(b))
        assert not any(cross(*pair) for pair in pieces), (one, other)


@pytest.mark.parametrize("name", NAMES)
def test_links_are_whole_on_both_sides(name: str) -> None:
    """Catches a link that a node's input or output does not know of."""
    workflow = read(name)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert workflow["last_link_id"] == len(workflow["links"])
    for number, source, output, target, slot, kind in workflow["links"]:
        assert number in nodes[source]["outputs"][output]["links"]
        assert nodes[target]["inputs"][slot]["link"] == number
        assert nodes[target]["inputs"][slot]["type"] in (kind, "*")
        assert nodes[source]["outputs"][output]["type"] == kind


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_read(name: str) -> None:
    """Catches a workflow without titled groups or without a note."""
    workflow = read(name)
    assert all(group["title"] for group in workflow["groups"])
    assert len(workflow["groups"]) >= 3
    (note,) = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    assert len(note["widgets_values"][0]) > 200


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"demo"}))
def test_every_checkpoint_says_where_it_can_be_had(name: str) -> None:
    """Catches a loader whose file the missing-model dialog cannot offer."""
    loaders = [n for n in read(name)["nodes"] if n["type"] == "CheckpointLoaderSimple"]
    assert loaders
    for loader in loaders:
        (model,) = loader["properties"]["models"]
        assert model["name"] == loader["widgets_values"][0]
        assert model["directory"] == "checkpoints"
        assert model["url"].startswith("https://huggingface.co/")
        assert model["url"].endswith(f"/resolve/main/{model['name']}")


@pytest.mark.parametrize("name", NAMES)
def test_a_small_thumbnail_and_a_twin_lie_beside_it(name: str) -> None:
    """Catches a template that the browser lists without a picture, or with a slow one."""
    assert 4_000 < (WORKFLOWS / f"{name}.jpg").stat().st_size < THUMBNAIL_BYTES
    assert read(name, "api")
