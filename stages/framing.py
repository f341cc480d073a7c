"""A part of a picture in its place: where it lies, and where boxes, masks and points of the picture are in it."""

import math
from dataclasses import dataclass, replace

from manifests.record import Annotation, Box, Face, Keypoint, Mask, Point
from stages.geometry import Window, clip
from stages.masks import decode_mask, encode_mask, mask_area


def place_frame(width: int, height: int, aspect: float, focus: Box, face: Box | None) -> Window:
    """The largest window of a shape that fits a picture, with the focus in its middle as far as the picture goes.

    Args:
        width: Of the picture.
        height: Of the picture.
        aspect: Width / height of the window, to the nearest pixel.
        focus: What is to be in its middle, inside the picture.
        face: What is to be wholly in it, inside the picture, if it is not too large; else it is in the middle.
    """
    across, down = min(width, round(height * aspect)), min(height, round(width / aspect))
    across, down = max(across, 1), max(down, 1)
    x = _start(width, across, (focus.x0, focus.x1), (face.x0, face.x1) if face else None)
    y = _start(height, down, (focus.y0, focus.y1), (face.y0, face.y1) if face else None)
    return Window(x, y, x + across, y + down)


def _start(size: int, length: int, focus: tuple[float, float], face: tuple[float, float] | None) -> int:
    start = sum(focus) / 2 - length / 2
    if face and face[1] - face[0] <= length:
        start = min(max(start, face[1] - length), face[0])
    elif face:
        start = sum(face) / 2 - length / 2
    return round(min(max(start, 0), size - length))


@dataclass(frozen=True, slots=True)
class Frame:
    """A part of a picture, by its pixels of the image and of the original.

    Attributes:
        image: Window of the image.
        original: The same window of the original.
        original_width: Pixels across the whole original.
        original_height: Pixels down the whole original.
        min_visible: Share of a box's area that must be in the frame.
    """

    image: Window
    original: Window
    original_width: int
    original_height: int
    min_visible: float

    def annotation(self, annotation: Annotation) -> Annotation | None:
        """The annotation in fractions of the part; ``None`` if too little of its box is in it, or nothing of its mask.

        A mask that is not at the original's size belongs to another picture and is left out, as ``ground`` does.
        """
        corners = annotation.x0, annotation.y0, annotation.x1, annotation.y1
        (x0, y0), (x1, y1) = self._fractions(*corners[:2]), self._fractions(*corners[2:])
        if not (x0 < x1 and y0 < y1 and all(map(math.isfinite, (x0, y0, x1, y1)))):
            return None
        box = self._visible(Box(x0=x0, y0=y0, x1=x1, y1=y1), 1, 1)
        mask = self._mask(annotation.mask) if annotation.mask else None
        if box is None or (mask and not mask_area(mask)):
            return None
        points = tuple(filter(None, map(self._keypoint, annotation.keypoints)))
        return replace(annotation, x0=box.x0, y0=box.y0, x1=box.x1, y1=box.y1, mask=mask, keypoints=points)

    def face(self, face: Face) -> Face | None:
        """The face in pixels of the part; ``None`` if too little of it is in it. Its crop stays."""
        x, y = self.image.x0, self.image.y0
        moved = Box(x0=face.box.x0 - x, y0=face.box.y0 - y, x1=face.box.x1 - x, y1=face.box.y1 - y)
        box = self._visible(moved, self.image.width, self.image.height)
        landmarks = tuple(Point(x=point.x - x, y=point.y - y) for point in face.landmarks)
        return replace(face, box=box, landmarks=landmarks) if box else None

    def _visible(self, box: Box, width: float, height: float) -> Box | None:
        inside = clip(box, width, height)
        return inside if inside and inside.area >= self.min_visible * box.area else None

    def _fractions(self, x: float, y: float) -> tuple[float, float]:
        """Fractions of the whole original as fractions of the part."""
        part = self.original
        return (x * self.original_width - part.x0) / part.width, (y * self.original_height - part.y0) / part.height

    def _keypoint(self, point: Keypoint) -> Keypoint | None:
        x, y = self._fractions(point.x, point.y)
        return replace(point, x=x, y=y) if 0 <= x <= 1 and 0 <= y <= 1 else None

    def _mask(self, mask: Mask) -> Mask | None:
        if (mask.width, mask.height) != (self.original_width, self.original_height):
            return None
        return encode_mask(decode_mask(mask)[self.original.slices])
