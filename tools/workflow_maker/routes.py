"""How the wires of a workflow go: straight where they can, else along tracks and lanes.

A track is a vertical in the gap between two columns, a lane a horizontal above or below nodes.
Wires of one output share both as far as they go the same way, so that one loader can feed a whole
workflow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

STEEPEST_PX = 120  # a wire to the next column that climbs more bulges over the nodes beside it
CLEAR_PX = 22  # between a lane and a node or its title
LANE_PX = 16  # from one lane to the next
MOST_LANES = 24  # side by side
EDGE_PX, TRACK_PX = 26, 14  # from a column to the first track, and from one to the next


@dataclasses.dataclass(frozen=True)
class Span:
    """Where a node stands from top to bottom.

    Attributes:
        column: the place of its column, from the left.
        top: the y of its title.
        bottom: the y of its lower edge.
    """

    column: int
    top: int
    bottom: int


@dataclasses.dataclass(frozen=True)
class End:
    """One wire's end: the column and the height at which it meets the node, and its link's id."""

    column: int
    y: int
    link: int


@dataclasses.dataclass(frozen=True)
class Bus:
    """The wires of one output that are not drawn straight.

    Attributes:
        column: of the node that gives.
        y: of the output.
        ends: where the wires go.
        lane: the y of the lane; None where all end in the next column.
    """

    column: int
    y: int
    ends: tuple[End, ...]
    lane: int | None = None

    @property
    def last(self) -> int:
        """The rightmost column at which a wire ends."""
        return max(end.column for end in self.ends)

    @property
    def gaps(self) -> dict[int, list[End]]:
        """The ends in each gap, which is called by the column on its left."""
        found: dict[int, list[End]] = {self.column: []}
        for end in sorted(self.ends, key=lambda end: end.column):
            found.setdefault(end.column - 1, []).append(end)
        return found


def is_straight(column: int, y: int, end: End) -> bool:
    """Whether a wire can go straight to its end without touching a node.

    Args:
        column: Of the node that gives.
        y: Of the output.
        end: The end.
    """
    return end.column == column + 1 and abs(end.y - y) <= STEEPEST_PX


def with_lanes(buses: Sequence[Bus], spans: Sequence[Span]) -> list[Bus]:
    """Return the buses, each with the free lane that makes the shortest way.

    Args:
        buses: Later ones get what earlier ones leave free.
        spans: Where every node stands.
    """
    placed: list[Bus] = []
    for bus in buses:
        crossed = [one for one in spans if bus.column < one.column < bus.last]
        if bus.last > bus.column + 1:
            beside = [one for one in placed if one.column < bus.last and bus.column < one.last]
            free = (y for y in _candidates(crossed) if _is_free(y, crossed, beside))
            bus = dataclasses.replace(bus, lane=min(free, key=lambda y: _climb(bus, y)))
        placed.append(bus)
    return placed


def _candidates(crossed: Sequence[Span]) -> Iterator[int]:
    for number in range(MOST_LANES):
        for one in crossed:
            yield one.top - CLEAR_PX - LANE_PX * number
            yield one.bottom + CLEAR_PX + LANE_PX * number


def _is_free(y: int, crossed: Sequence[Span], beside: Sequence[Bus]) -> bool:
    clear = all(y <= one.top - CLEAR_PX or y >= one.bottom + CLEAR_PX for one in crossed)
    return clear and all(one.lane is None or abs(one.lane - y) >= LANE_PX for one in beside)


def _climb(bus: Bus, lane: int) -> tuple[int, int]:
    return abs(lane - bus.y) + sum(abs(lane - end.y) for end in bus.ends), lane


def tracks(buses: Sequence[Bus]) -> dict[int, list[Bus]]:
    """Return the buses that need a track in each gap, from left to right.

    Those that leave a node stand left of those that come to one, and in an order in which wires
    side by side do not cut through each other.

    Args:
        buses: With their lanes.
    """
    found: dict[int, list[Bus]] = {}
    for bus in buses:
        for gap in bus.gaps:
            found.setdefault(gap, []).append(bus)
    return {gap: sorted(inside, key=lambda bus: _order(bus, gap)) for gap, inside in found.items()}


def _order(bus: Bus, gap: int) -> tuple[bool, int]:
    is_leaving = bus.column == gap
    y = bus.y if is_leaving else min(end.y for end in bus.gaps[gap])
    goes_up = (bus.lane if bus.lane is not None else bus.ends[0].y) < y
    return not is_leaving, y if goes_up == is_leaving else -y


def gap_width(track_count: int) -> int:
    """Return how much room a gap with so many tracks needs, in pixels.

    Args:
        track_count: How many.
    """
    return 2 * EDGE_PX + TRACK_PX * max(0, track_count - 1)


def reroutes(
    buses: Sequence[Bus], rights: Mapping[int, int]
) -> tuple[list[dict[str, object]], list[dict[str, int]]]:
    """Return the points that the wires pass, and the last one of each, as the frontend keeps them.

    Args:
        buses: With their lanes.
        rights: The x of each column's right edge.
    """
    by_gap = tracks(buses)
    points: list[dict[str, object]] = []
    lasts: list[dict[str, int]] = []

    def add(x: int, y: int, links: Sequence[int], parent: int | None) -> int:
        if parent is not None and points[parent - 1]["pos"] == [x, y]:
            return parent
        point: dict[str, object] = {"id": len(points) + 1}
        if parent is not None:
            point["parentId"] = parent
        points.append(point | {"pos": [x, y], "linkIds": list(links)})
        return len(points)

    for bus in buses:
        y, at, left = bus.y, None, [end.link for end in bus.ends]
        for gap, ends in bus.gaps.items():
            x = rights[gap] + EDGE_PX + TRACK_PX * by_gap[gap].index(bus)
            at = add(x, y, left, at)
            for end in ends:
                lasts.append({"id": end.link, "parentId": add(x, end.y, [end.link], at)})
                left = [link for link in left if link != end.link]
            if gap == bus.column and bus.lane is not None:
                y = bus.lane
                at = add(x, y, left, at)
    return points, lasts
