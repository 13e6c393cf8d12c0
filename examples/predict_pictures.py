"""Draw three digits, dark on light, and ask the trained network what they are.

    python examples/predict_pictures.py [PICTURE ...]

With arguments, these pictures are asked about instead.
"""

import sys

from PIL import Image, ImageDraw

from lenet_lightning import load

STROKES = {
    "1": [[(150, 40), (150, 160)]],
    "4": [[(130, 40), (110, 110), (190, 110)], [(170, 60), (165, 170)]],
    "7": [[(110, 50), (180, 50), (140, 160)]],
}


def drawn(digit: str) -> Image.Image:
    """Return a drawing on paper that is darker on one side."""
    paper = Image.linear_gradient("L").rotate(90).resize((300, 200))
    picture = paper.point(lambda value: 180 + value // 4)
    for stroke in STROKES[digit]:
        ImageDraw.Draw(picture).line(stroke, fill=50, width=10, joint="curve")
    return picture


def main() -> None:
    """Print one line a picture."""
    network = load("mnist")
    pictures = {path: path for path in sys.argv[1:]} or {name: drawn(name) for name in STROKES}
    for name, found in zip(pictures, network.predict(list(pictures.values())), strict=True):
        print(f"{name}: {found.label} ({found.probability:.1%}), negative {found.negative.label}")


if __name__ == "__main__":
    main()
