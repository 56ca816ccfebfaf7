"""Placing text beside points so that it covers neither other text nor the points and lines."""

from collections.abc import Sequence

import numpy as np

Box = tuple[float, float, float, float]
"""left, bottom, right, top"""


def place(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: np.ndarray,
    bounds: Box,
    gap: float,
) -> list[Box]:
    """One box per label, each near its anchor, found greedily in the given order.

    Args:
        anchors: the point that each label belongs to, (x, y).
        sizes: width and height of each label.
        obstacles: float [N, 2], points that should stay visible (markers, and lines sampled along their length).
        bounds: where boxes stay, unless they are larger.
        gap: distance of a box from its anchor. All in one unit, pixels for example.
    """
    placed: list[Box] = []
    for anchor, size in zip(anchors, sizes, strict=True):
        candidates = [_inside(box, bounds) for box in _around(anchor, size, gap)]
        others = [other for other in anchors if other != anchor]
        costs = [
            _cost(box, placed, obstacles) + 30 * _nearer(box, anchor, others) + 0.2 * rank
            for rank, box in enumerate(candidates)
        ]
        placed.append(candidates[int(np.argmin(costs))])
    return placed


def overlap(a: Box, b: Box) -> float:
    """Common area of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


def _around(anchor: tuple[float, float], size: tuple[float, float], gap: float) -> list[Box]:
    """Twelve directions at five distances, near ones first."""
    boxes = []
    for distance in (gap, 2.2 * gap, 4 * gap, 7 * gap, 11 * gap):
        for angle in np.deg2rad(45 + 30 * np.arange(12)):
            # The box touches the circle around the anchor with its nearest edge or corner.
            x = anchor[0] + np.cos(angle) * (distance + size[0] / 2)
            y = anchor[1] + np.sin(angle) * (distance + size[1] / 2)
            boxes.append((x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2))
    return boxes


def _inside(box: Box, bounds: Box) -> Box:
    """Moved as far as it takes to lie within the bounds; a larger one begins where they do."""
    left, bottom, right, top = box
    x = max(min(0.0, bounds[2] - right), bounds[0] - left)
    y = max(min(0.0, bounds[3] - top), bounds[1] - bottom)
    return left + x, bottom + y, right + x, top + y


def _nearer(box: Box, anchor: tuple[float, float], others: Sequence[tuple[float, float]]) -> bool:
    """Would the label seem to belong to another point?"""
    return any(_distance(box, other) <= _distance(box, anchor) for other in others)


def _distance(box: Box, point: tuple[float, float]) -> float:
    """From a point to the nearest point of a box."""
    x = max(box[0] - point[0], 0.0, point[0] - box[2])
    y = max(box[1] - point[1], 0.0, point[1] - box[3])
    return float(np.hypot(x, y))


def _cost(box: Box, placed: Sequence[Box], obstacles: np.ndarray) -> float:
    area = (box[2] - box[0]) * (box[3] - box[1])
    covered = sum(overlap(box, other) for other in placed) / area
    hit = 0
    if len(obstacles):
        x, y = obstacles[:, 0], obstacles[:, 1]
        hit = int(((x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])).sum())
    # Text on text can't be read at all, a line behind it can.
    return 200 * (covered > 0) + 100 * covered + hit
