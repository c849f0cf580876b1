"""Draw what a model would have painted: a portrait under a sky, its colours from the seed, the prompt on it.

Pillow is imported late, because the server must start in a fraction of a second.
"""

from __future__ import annotations

import colorsys
import io
import random
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw as Pen

Colour = tuple[int, int, int]

PREVIEW_SIDE = 512


def portrait(prompt: str, seed: int, width: int, height: int, caption: str) -> Image:
    """Draw a head and shoulders before a sky; the same arguments give the same pixels.

    Args:
        prompt: written along the bottom.
        seed: decides every colour and shape, together with the prompt.
        width, height: in pixels.
        caption: a second, smaller line: the model and the seed.
    """
    from PIL import ImageDraw

    dice = random.Random(f"{seed}/{prompt}")
    hue = dice.random()
    image = _sky(width, height, hue)
    pen = ImageDraw.Draw(image, "RGBA")
    _sun(pen, dice, width, height, hue)
    _hills(pen, dice, width, height, hue)
    _bust(pen, dice, width, height, hue)
    _write(pen, prompt, caption, width, height)
    return image


def with_mouth(image: Image, opening: float) -> Image:
    """Return a copy of a portrait whose mouth is open by 0 to 1, where `portrait` draws a mouth."""
    from PIL import ImageDraw

    spoken = image.copy()
    width, height = spoken.size
    unit = min(width, height)
    x, y = width / 2, height * 0.5 + unit * 0.13
    half_width, half_height = unit * 0.055, unit * (0.006 + 0.04 * opening)
    pen = ImageDraw.Draw(spoken)
    pen.ellipse((x - half_width, y - half_height, x + half_width, y + half_height), fill=(96, 24, 32))
    return spoken


def flat(colour: int, width: int, height: int) -> Image:
    """Fill an image with one colour, given as 0xRRGGBB."""
    from PIL import Image

    return Image.new("RGB", (width, height), (colour >> 16 & 255, colour >> 8 & 255, colour & 255))


def blend(before: Image, after: Image, amount: float) -> Image:
    """Mix two pictures: 0 is all `before`, scaled to the size of `after`."""
    from PIL import Image

    return Image.blend(before.convert("RGB").resize(after.size), after, amount)


def noise_blend(image: Image, amount: float) -> Image:
    """Fade an image towards its average colour: what a half-finished sampling looks like from afar."""
    from PIL import Image

    average = image.resize((1, 1)).resize(image.size)
    return Image.blend(image, average, amount)


def contrast(image: Image) -> int:
    """Tell how far the darkest and the brightest pixel are apart, of 255."""
    used = [level for level, count in enumerate(image.convert("L").histogram()) if count]
    return used[-1] - used[0]


def preview(image: Image) -> bytes:
    """Make the JPEG that goes out while sampling."""
    small = image.copy()
    small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    out = io.BytesIO()
    small.convert("RGB").save(out, "JPEG", quality=80)
    return out.getvalue()


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _sky(width: int, height: int, hue: float) -> Image:
    from PIL import Image, ImageOps

    ramp = Image.linear_gradient("L").resize((width, height))
    return ImageOps.colorize(
        ramp,
        black=_colour(hue, 0.65, 0.45),
        mid=_colour(hue + 0.06, 0.45, 0.85),
        white=_colour(hue + 0.12, 0.35, 0.98),
    )


def _sun(pen: Pen, dice: random.Random, width: int, height: int, hue: float) -> None:
    x, y = width * dice.uniform(0.1, 0.9), height * dice.uniform(0.08, 0.3)
    radius = min(width, height) * dice.uniform(0.06, 0.12)
    for ring, alpha in ((2.4, 28), (1.7, 48), (1.2, 80), (1.0, 235)):
        r = radius * ring
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(*_colour(hue + 0.1, 0.12, 1.0), alpha))


def _hills(pen: Pen, dice: random.Random, width: int, height: int, hue: float) -> None:
    for depth in range(3):
        base = height * (0.55 + 0.1 * depth)
        steps = 9
        line = [
            (width * step / steps, base - height * 0.09 * dice.uniform(-0.4, 1.0 - 0.25 * depth))
            for step in range(steps + 1)
        ]
        shade = _colour(hue + 0.45, 0.35 + 0.1 * depth, 0.55 - 0.13 * depth)
        pen.polygon([(0, height), *line, (width, height)], fill=(*shade, 230))


def _bust(pen: Pen, dice: random.Random, width: int, height: int, hue: float) -> None:
    unit, x, y = min(width, height), width / 2, height * 0.5
    skin = _colour(dice.uniform(0.05, 0.09), dice.uniform(0.25, 0.6), dice.uniform(0.5, 0.95))
    shadow = _colour(0.05, 0.5, 0.4)
    hair = _colour(dice.random(), dice.uniform(0.2, 0.8), dice.uniform(0.15, 0.6))
    coat = _colour(hue + 0.5, 0.55, dice.uniform(0.3, 0.65))

    def oval(cx: float, cy: float, rx: float, ry: float, fill: Colour) -> None:
        box = (x + (cx - rx) * unit, y + (cy - ry) * unit, x + (cx + rx) * unit, y + (cy + ry) * unit)
        pen.ellipse(box, fill=fill)

    length = dice.uniform(0.2, 0.38)
    oval(0, length / 2 - 0.04, 0.22, length, hair)
    pen.rectangle((x - unit * 0.36, y + unit * 0.5, x + unit * 0.36, height), fill=coat)
    oval(0, 0.52, 0.36, 0.2, coat)
    pen.rectangle((x - unit * 0.07, y + unit * 0.1, x + unit * 0.07, y + unit * 0.36), fill=skin)
    oval(0, 0.0, 0.175, 0.23, skin)
    pen.chord((x - unit * 0.19, y - unit * 0.27, x + unit * 0.19, y + unit * 0.1), 180, 360, fill=hair)
    iris = _colour(dice.random(), 0.7, 0.5)
    for side in (-1, 1):
        oval(side * 0.075, -0.01, 0.035, 0.019, (250, 250, 248))
        oval(side * 0.075, -0.01, 0.015, 0.018, iris)
        oval(side * 0.075, -0.01, 0.007, 0.008, (15, 15, 20))
        brow = (
            x + (side * 0.075 - 0.04) * unit,
            y - unit * 0.065,
            x + (side * 0.075 + 0.04) * unit,
            y - unit * 0.03,
        )
        pen.arc(brow, 200, 340, fill=hair, width=max(1, unit // 90))
    pen.line(
        (x, y, x - unit * 0.018, y + unit * 0.065, x + unit * 0.008, y + unit * 0.07), fill=shadow, width=2
    )
    smile = dice.uniform(0.012, 0.03)
    lips = (x - unit * 0.055, y + unit * (0.13 - smile), x + unit * 0.055, y + unit * (0.13 + smile))
    pen.chord(lips, 10, 170, fill=_colour(0.97, 0.55, 0.65))


def _write(pen: Pen, prompt: str, caption: str, width: int, height: int) -> None:
    from PIL import ImageFont

    size = max(9, min(width, height) // 26)
    large, small = ImageFont.load_default(size), ImageFont.load_default(max(8, size * 2 // 3))
    columns = max(8, int(width / (size * 0.56)))
    lines = textwrap.wrap(prompt, columns, max_lines=4, placeholder=" …") or [""]
    top = height - size * 1.35 * len(lines) - size * 1.6
    pen.rectangle((0, top - size * 0.4, width, height), fill=(8, 10, 16, 150))
    for index, line in enumerate(lines):
        pen.text((size * 0.6, top + index * size * 1.35), line, font=large, fill=(255, 255, 255, 245))
    pen.text((size * 0.6, height - size * 1.4), caption, font=small, fill=(210, 220, 235, 220))
