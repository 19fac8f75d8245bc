"""Filters for markup, with StarCoder's thresholds (Li et al. 2023, section 3.1)."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Literal

from neox_code.corpus.filters.protocol import Candidate


@dataclass(frozen=True)
class NotXml:
    """No XML under another name: `<?xml version=` in the first 100 characters, except in XSLT.

    >>> NotXml().keep(Candidate("form.ts", "TypeScript", 50, '<?xml version="1.0"?><TS></TS>'))
    'XML'
    """

    exempt: tuple[str, ...] = ("XSLT",)
    name = "not XML"

    def keep(self, file: Candidate) -> Literal[True] | str:
        return file.language in self.exempt or "<?xml version=" not in file.text[:100] or "XML"


@dataclass(frozen=True)
class VisibleHtml:
    """HTML shows a share of its characters as text, and so many at least; other languages pass.

    >>> VisibleHtml(0.2, 100).keep(Candidate("x.html", "HTML", 50, "<p>Hello</p><script>let x = 1</script>"))
    'under 20% visible text'
    """

    fraction: float = 0.2
    characters: int = 100
    name = "visible text of HTML"

    def keep(self, file: Candidate) -> Literal[True] | str:
        if file.language != "HTML":
            return True
        visible = visible_characters(file.text)
        if visible < self.fraction * len(file.text):
            return f"under {self.fraction:.0%} visible text"
        return visible >= self.characters or f"under {self.characters} characters of visible text"


@dataclass
class VisibleText(HTMLParser):
    """Counts the characters outside of tags, scripts and styles."""

    characters: int = 0
    hidden: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style"):
            self.hidden.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.hidden:
            self.hidden.remove(tag)

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.characters += len(data)


def visible_characters(html: str) -> int:
    parser = VisibleText()
    parser.feed(html)
    parser.close()
    return parser.characters
