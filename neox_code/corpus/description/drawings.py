"""The geometry of the page's drawings, without markup: bars of languages, and the histogram of sizes.

language_panels(description)["bytes found"][0].widths["kept"]           # of 100
chart = histogram(description.manifest.sizes)
chart.bars[0].left, chart.bars[0].pieces[0].top, chart.y_ticks[0].label
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from neox_code.corpus.description.describe import Description
from neox_code.corpus.description.manifest_figures import FATES
from neox_code.corpus.description.sizes import Group, Sizes
from neox_code.corpus.description.summary_table import Amount
from neox_code.corpus.description.tables import tokens_of
from neox_code.corpus.shards import KEPT
from neox_code.pages.number_formats import millions, size
from neox_code.pages.ticks import Tick, round_values

MOST_BARS = 24
UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
LEFT, RIGHT, TOP, GROUND = 64.0, 948.0, 10.0, 262.0
HEIGHT = 288


@dataclass(frozen=True)
class Strip:
    """A bar of one language, cut by what became of its files; widths are percentages of the widest bar."""

    language: str
    label: str
    widths: dict[str, float]


def language_panels(description: Description) -> dict[str, list[Strip]]:
    """Files and bytes, and tokens where they are known, of the languages with most bytes found, at most MOST_BARS of them."""
    fates = languages_by_fate(description)
    order = sorted(fates, key=lambda language: (-sum(fates[language].values(), Amount()).bytes, language))[:MOST_BARS]
    tokens = {language: tokens_of([language], description) for language in order}
    amounts = {language: fates[language].items() for language in order}
    panels = {
        "files found": strips(
            {name: {fate: found.files for fate, found in parts} for name, parts in amounts.items()}, "{:,}".format
        ),
        "bytes found": strips({name: {fate: found.bytes for fate, found in parts} for name, parts in amounts.items()}, size),
    }
    if all(count is not None for count in tokens.values()):
        panels["tokens of kept files"] = strips({name: {KEPT: count or 0} for name, count in tokens.items()}, millions)
    return panels


def languages_by_fate(description: Description) -> dict[str, dict[str, Amount]]:
    """The files found, in the order of FATES."""
    manifest = description.manifest
    duplicates = set(manifest.duplicates.by("verdict"))
    fates: dict[str, dict[str, Amount]] = {}
    for (language, verdict), amount in manifest.files.by("language", "verdict").items():
        if language is not None:
            fate = "duplicate" if verdict in duplicates else verdict if verdict in FATES else "dropped"
            parts = fates.setdefault(language, dict.fromkeys(FATES, Amount()))
            parts[fate] += amount
    return fates


def fertility_strips(description: Description) -> list[Strip]:
    ratios = {
        name: description.fertility[name].bytes_per_token
        for name in description.summary.languages()
        if name in description.fertility
    }
    return strips({name: {KEPT: ratio or 0.0} for name, ratio in ratios.items()}, "{:.2f} bytes a token".format)


def strips(amounts: Mapping[str, Mapping[str, float]], say: Callable[[Any], str]) -> list[Strip]:
    totals = {language: sum(parts.values()) for language, parts in amounts.items()}
    widest = max(totals.values(), default=0) or 1
    return [
        Strip(language, say(totals[language]), {fate: 100 * part / widest for fate, part in parts.items() if part})
        for language, parts in amounts.items()
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
    """Files that are in a language by size: a bar for each power of two, cut by what became of the files."""

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
    counts = {fate: sizes.octaves(groups_of(sizes, fate)) for fate in FATES}
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
    y_ticks = tuple(Tick(down(value), short_count(value)) for value in y_values)
    return Histogram(tuple(bars), x_ticks, y_ticks)


def groups_of(sizes: Sizes, fate: str) -> list[Group]:
    return [group for group in sizes.groups() if group[1] == fate and group[0] is not None]


def fates_that_occur(sizes: Sizes) -> list[str]:
    """Of files in a language."""
    return [fate for fate in FATES if groups_of(sizes, fate)]


def short_count(count: float) -> str:
    """
    >>> short_count(2_500), short_count(50_000), short_count(1_500_000)
    ('2,500', '50k', '1.5M')
    """
    if count < 10_000:
        return f"{count:,g}"
    return f"{count / 1e3:,g}k" if count < 1e6 else f"{count / 1e6:,g}M"


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
