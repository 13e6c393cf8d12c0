"""A picture of predictions: each picture, what the network saw of it, and the best classes."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

COLUMNS, TILE, GAP, LINE = 4, 128, 12, 18
CELL = 3 * GAP + 2 * TILE, 3 * GAP + TILE + 4 * LINE
PAPER, INK, FAINT = "white", "black", "#666666"


def contact_sheet(
    names: Sequence[str],
    pictures: Sequence[Image.Image],
    seen: Tensor,
    probabilities: Tensor,
    classes: Sequence[str],
) -> bytes:
    """Return a contact sheet as PNG.

    Args:
        names: of the pictures.
        pictures: at most 128 pixels a side, any mode.
        seen: uint8 ``[pictures, channels, 32, 32]``, what the network was given.
        probabilities: float ``[pictures, classes]``.
        classes: class names.
    """
    rows = -(-len(pictures) // COLUMNS)
    columns = min(len(pictures), COLUMNS)
    sheet = Image.new("RGB", (columns * CELL[0], rows * CELL[1]), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    top = probabilities.topk(min(3, len(classes)))
    for i, picture in enumerate(pictures):
        x, y = i % COLUMNS * CELL[0] + GAP, i // COLUMNS * CELL[1] + GAP
        draw.text((x, y), shortened(names[i], font), FAINT, font)
        y += LINE
        sheet.paste(picture, (x + (TILE - picture.width) // 2, y + (TILE - picture.height) // 2))
        draw.rectangle((x - 1, y - 1, x + TILE, y + TILE), outline="#bbbbbb")
        own = np.moveaxis(seen[i].cpu().numpy(), 0, 2).squeeze()
        network = Image.fromarray(own).resize((TILE, TILE), Image.Resampling.NEAREST)
        sheet.paste(network, (x + TILE + GAP, y))
        for rank in range(top.values.shape[1]):
            name = classes[int(top.indices[i, rank])]
            text = f"{name}  {float(top.values[i, rank]):.1%}"
            draw.text((x, y + TILE + 8 + rank * LINE), text, FAINT if rank else INK, font)
    content = io.BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue()


def shortened(name: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """Return a name's end, as much as fits above its picture."""
    width = 2 * TILE + GAP
    if font.getlength(name) <= width:
        return name
    while font.getlength("..." + name) > width:
        name = name[1:]
    return "..." + name
