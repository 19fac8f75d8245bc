"""Compute positions and sizes for the charts of the report page: bars of the languages, and a histogram of file sizes.

make_language_panels(description)["bytes found"][0].widths["kept"]           # percent
chart = make_histogram(description.manifest.sizes)
chart.bars[0].left, chart.bars[0].segments[0].top, chart.y_ticks[0].label
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from neox_code.corpus.description.describe import Description
from neox_code.corpus.description.manifest_figures import OUTCOMES
from neox_code.corpus.description.sizes import Group, Sizes
from neox_code.corpus.description.summary_table import Amount
from neox_code.corpus.description.tables import estimate_tokens
from neox_code.corpus.shards import KEPT
from neox_code.pages.number_formats import format_millions, format_size
from neox_code.pages.ticks import Tick, choose_tick_values

MOST_BARS = 24
UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
LEFT, RIGHT, TOP, GROUND = 64.0, 948.0, 10.0, 262.0
HEIGHT = 288


@dataclass(frozen=True)
class LanguageBar:
    """The bar of a language, with a segment for each outcome of its files; widths are percentages of the widest bar."""

    language: str
    label: str
    widths: dict[str, float]


def make_language_panels(description: Description) -> dict[str, list[LanguageBar]]:
    """Return bars of files, bytes and (if known) tokens for the MOST_BARS languages with the most bytes found."""
    outcomes = count_by_outcome(description)
    order = sorted(outcomes, key=lambda language: (-sum(outcomes[language].values(), Amount()).bytes, language))[:MOST_BARS]
    tokens = {language: estimate_tokens([language], description) for language in order}
    amounts = {language: outcomes[language].items() for language in order}
    panels = {
        "files found": make_bars(
            {name: {outcome: found.files for outcome, found in parts} for name, parts in amounts.items()}, "{:,}".format
        ),
        "bytes found": make_bars(
            {name: {outcome: found.bytes for outcome, found in parts} for name, parts in amounts.items()}, format_size
        ),
    }
    if all(count is not None for count in tokens.values()):
        panels["tokens of kept files"] = make_bars({name: {KEPT: count or 0} for name, count in tokens.items()}, format_millions)
    return panels


def count_by_outcome(description: Description) -> dict[str, dict[str, Amount]]:
    """Return the amount of files found for each language and outcome; outcomes are in the order of OUTCOMES."""
    manifest = description.manifest
    duplicates = set(manifest.duplicates.group_by("verdict"))
    outcomes: dict[str, dict[str, Amount]] = {}
    for (language, verdict), amount in manifest.files.group_by("language", "verdict").items():
        if language is not None:
            outcome = "duplicate" if verdict in duplicates else verdict if verdict in OUTCOMES else "dropped"
            parts = outcomes.setdefault(language, dict.fromkeys(OUTCOMES, Amount()))
            parts[outcome] += amount
    return outcomes


def make_fertility_bars(description: Description) -> list[LanguageBar]:
    ratios = {
        name: description.fertility[name].bytes_per_token
        for name in description.summary.languages()
        if name in description.fertility
    }
    return make_bars({name: {KEPT: ratio or 0.0} for name, ratio in ratios.items()}, "{:.2f} bytes a token".format)


def make_bars(amounts: Mapping[str, Mapping[str, float]], format_total: Callable[[Any], str]) -> list[LanguageBar]:
    totals = {language: sum(parts.values()) for language, parts in amounts.items()}
    widest = max(totals.values(), default=0) or 1
    return [
        LanguageBar(
            language, format_total(totals[language]), {outcome: 100 * part / widest for outcome, part in parts.items() if part}
        )
        for language, parts in amounts.items()
    ]


@dataclass(frozen=True)
class BarSegment:
    outcome: str
    top: float
    height: float
    files: int


@dataclass(frozen=True)
class StackedBar:
    left: float
    width: float
    label: str
    segments: tuple[BarSegment, ...]


@dataclass(frozen=True)
class Histogram:
    """Histogram of the sizes of files in a known language: a bar for each power of two, with a segment for each outcome."""

    bars: tuple[StackedBar, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    left: float = LEFT
    right: float = RIGHT
    top: float = TOP
    ground: float = GROUND
    width: int = 960
    height: int = HEIGHT


def make_histogram(sizes: Sizes) -> Histogram:
    """Return the drawing of the sizes; it has no bars if no file is in a language."""
    counts = {outcome: sizes.count_size_ranges(find_groups(sizes, outcome)) for outcome in OUTCOMES}
    totals = [sum(octave) for octave in zip(*counts.values(), strict=True)]
    filled = [octave for octave, total in enumerate(totals) if total]
    if not filled:
        return Histogram((), (), ())
    octaves = range(filled[0], filled[-1] + 1)
    y_values = choose_tick_values(0, max(totals), most=6)
    width = (RIGHT - LEFT) / len(octaves)

    def to_y(files: float) -> float:
        return GROUND - (GROUND - TOP) * files / y_values[-1]

    bars = []
    for place, octave in enumerate(octaves):
        segments, below = [], 0
        for outcome in OUTCOMES:
            if files := counts[outcome][octave]:
                segments.append(BarSegment(outcome, to_y(below + files), to_y(below) - to_y(below + files), files))
                below += files
        bars.append(StackedBar(LEFT + place * width + 1.5, width - 3, format_size_range(octave), tuple(segments)))
    step = 1 + len(octaves) // 12
    labeled = [octave for octave in octaves if octave % step == 1 % step and octave > 0]
    x_ticks = tuple(Tick(LEFT + (octave - octaves[0]) * width, format_power_of_two(octave - 1)) for octave in labeled)
    y_ticks = tuple(Tick(to_y(value), format_count(value)) for value in y_values)
    return Histogram(tuple(bars), x_ticks, y_ticks)


def find_groups(sizes: Sizes, outcome: str) -> list[Group]:
    """Return the groups (language, outcome) with this outcome, except the one without a language."""
    return [group for group in sizes.groups() if group[1] == outcome and group[0] is not None]


def find_outcomes(sizes: Sizes) -> list[str]:
    return [outcome for outcome in OUTCOMES if find_groups(sizes, outcome)]


def format_count(count: float) -> str:
    """Return a short label of a number of files.

    >>> format_count(2_500), format_count(50_000), format_count(1_500_000)
    ('2,500', '50k', '1.5M')
    """
    if count < 10_000:
        return f"{count:,g}"
    return f"{count / 1e3:,g}k" if count < 1e6 else f"{count / 1e6:,g}M"


def format_size_range(octave: int) -> str:
    """Return the range of file sizes that have `octave` binary digits.

    >>> format_size_range(0), format_size_range(1), format_size_range(11)
    ('empty', '1 B', '1 KiB to 2 KiB')
    """
    if octave < 2:
        return "1 B" if octave else "empty"
    return f"{format_power_of_two(octave - 1)} to {format_power_of_two(octave)}"


def format_power_of_two(exponent: int) -> str:
    """Return 2**exponent bytes in binary units.

    >>> format_power_of_two(4), format_power_of_two(19)
    ('16 B', '512 KiB')
    """
    unit = min(exponent // 10, len(UNITS) - 1)
    return f"{2 ** (exponent - 10 * unit):,} {UNITS[unit]}"
