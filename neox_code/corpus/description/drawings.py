"""The geometry of the page's drawings, without markup: bars of languages, and the histogram of sizes.

chart = histogram(description.manifest.sizes)
chart.bars[0].left, chart.bars[0].pieces[0].top, chart.y_ticks[0].label
"""

from dataclasses import dataclass

from neox_code.corpus.description.describe import Description
from neox_code.corpus.description.manifest_figures import FATES
from neox_code.corpus.description.sizes import Sizes
from neox_code.corpus.description.ticks import Tick, round_values
from neox_code.corpus.report import Amount

MOST_BARS = 24
UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
LEFT, RIGHT, TOP, GROUND = 64.0, 948.0, 10.0, 262.0
HEIGHT = 304


@dataclass(frozen=True)
class LanguageBar:
    """Bytes of a language's files by their fate; widths are percentages of the widest bar."""

    language: str
    found: Amount
    widths: dict[str, float]


def languages_by_fate(description: Description) -> list[LanguageBar]:
    """The languages with most bytes found."""
    manifest = description.manifest
    duplicates = set(manifest.duplicates.by("verdict"))
    bars: dict[str, dict[str, Amount]] = {}
    for (language, verdict), amount in manifest.files.by("language", "verdict").items():
        if language is not None:
            fate = "duplicate" if verdict in duplicates else verdict if verdict in FATES else "dropped"
            fates = bars.setdefault(language, {})
            fates[fate] = fates.get(fate, Amount()) + amount
    found = {language: sum(fates.values(), Amount()) for language, fates in bars.items()}
    order = sorted(bars, key=lambda language: (-found[language].bytes, language))[:MOST_BARS]
    widest = max((amount.bytes for amount in found.values()), default=0) or 1
    return [
        LanguageBar(name, found[name], {fate: 100 * bars[name][fate].bytes / widest for fate in FATES if fate in bars[name]})
        for name in order
    ]


@dataclass(frozen=True)
class Piece:
    fate: str
    top: float
    height: float
    files: int


@dataclass(frozen=True)
class Bar:
    left: float
    width: float
    label: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Histogram:
    """Files by size: a bar for each power of two, cut by what became of the files."""

    bars: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    left: float = LEFT
    right: float = RIGHT
    top: float = TOP
    ground: float = GROUND
    width: int = 960
    height: int = HEIGHT


def histogram(sizes: Sizes) -> Histogram:
    counts = {fate: sizes.octaves(group for group in sizes.groups() if group[1] == fate) for fate in FATES}
    totals = [sum(octave) for octave in zip(*counts.values(), strict=True)]
    taken = [octave for octave, total in enumerate(totals) if total]
    if not taken:
        return Histogram((), (), ())
    octaves = range(taken[0], taken[-1] + 1)
    y_values = round_values(0, max(totals), most=6)
    width = (RIGHT - LEFT) / len(octaves)

    def down(files: float) -> float:
        return GROUND - (GROUND - TOP) * files / y_values[-1]

    bars = []
    for place, octave in enumerate(octaves):
        pieces, below = [], 0
        for fate in FATES:
            if files := counts[fate][octave]:
                pieces.append(Piece(fate, down(below + files), down(below) - down(below + files), files))
                below += files
        bars.append(Bar(LEFT + place * width + 1.5, width - 3, octave_label(octave), tuple(pieces)))
    every = 1 + len(octaves) // 12
    shown = [octave for octave in octaves if octave % every == 1 % every and octave > 0]
    x_ticks = tuple(Tick(LEFT + (octave - octaves[0]) * width, power_of_two(octave - 1)) for octave in shown)
    y_ticks = tuple(Tick(down(value), f"{value:,g}" if value < 1e6 else f"{value / 1e6:,g}M") for value in y_values)
    return Histogram(tuple(bars), x_ticks, y_ticks)


def octave_label(octave: int) -> str:
    """
    >>> octave_label(0), octave_label(1), octave_label(11)
    ('empty', '1 B', '1 KiB to 2 KiB')
    """
    if octave < 2:
        return "1 B" if octave else "empty"
    return f"{power_of_two(octave - 1)} to {power_of_two(octave)}"


def power_of_two(exponent: int) -> str:
    """
    >>> power_of_two(4), power_of_two(19)
    ('16 B', '512 KiB')
    """
    unit = min(exponent // 10, len(UNITS) - 1)
    return f"{2 ** (exponent - 10 * unit):,} {UNITS[unit]}"
