"""How far apart colours are, for eyes of all kinds. Colours are "#rrggbb"."""

from typing import Final

Rgb = tuple[float, float, float]  # linear light, 0 to 1
Matrix = tuple[Rgb, Rgb, Rgb]

# Machado, Oliveira, Fernandes (2009), severity 1.0: https://www.inf.ufrgs.br/~oliveira/pubs_files/CVD_Simulation/
_VISIONS: Final[dict[str, Matrix]] = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
# OKLab: https://bottosson.github.io/posts/oklab/
_TO_LMS: Final[Matrix] = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_TO_LAB: Final[Matrix] = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio, 1 to 21."""
    dark, light = sorted(_luminance(colour) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


def seen_by(colour: str, vision: str) -> Rgb:
    return _times(_VISIONS[vision], _linear(colour))


def distance(one: Rgb, other: Rgb) -> float:
    """In OKLab; black and white are 1 apart."""
    return float(sum((a - b) ** 2 for a, b in zip(_lab(one), _lab(other), strict=True)) ** 0.5)


def _luminance(colour: str) -> float:
    red, green, blue = _linear(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(colour: str) -> Rgb:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return _unbent(red), _unbent(green), _unbent(blue)


def _unbent(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def _lab(rgb: Rgb) -> Rgb:
    lms = _times(_TO_LMS, tuple(min(max(value, 0.0), 1.0) for value in rgb))  # type: ignore[arg-type]
    return _times(_TO_LAB, tuple(value ** (1 / 3) for value in lms))


def _times(matrix: Matrix, vector: Rgb) -> Rgb:
    first, second, third = (sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix)
    return first, second, third
