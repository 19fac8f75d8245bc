from neox_code.corpus.filters.markup import NotXml, VisibleHtml, count_visible_characters
from neox_code.corpus.filters.protocol import Candidate


def test_xml_is_recognized_in_the_first_hundred_characters():
    xml = '<?xml version="1.0"?>'
    assert NotXml().keep(Candidate("a.cs", "C#", 1, " " * 80 + xml)) == "XML"
    assert NotXml().keep(Candidate("a.cs", "C#", 1, " " * 90 + xml)) is True
    assert NotXml().keep(Candidate("a.xsl", "XSLT", 1, xml)) is True


def test_scripts_styles_and_tags_are_not_visible():
    page = "<html><style>p { }</style><script>if (a < b) {}</script><p class='x'>Hello <b>there</b> &amp; on</p></html>"
    assert count_visible_characters(page) == len("Hello there & on")


def test_unclosed_comments_and_tags_are_not_visible():
    for unit in ("<![", "<!-- ", "<meta ", "<script></script ", "<style>", "</"):
        assert count_visible_characters("Hello" + unit * (200_000 // len(unit))) in (5, 6), unit
    assert count_visible_characters("a < b && c <3") == len("a < b && c <3")
    assert count_visible_characters("<!-- <p> -->x<SCRIPT>y</script >z<!doctype html>") == 2


def test_html_needs_text_and_other_languages_do_not():
    rule = VisibleHtml(fraction=0.2, characters=100)
    words = "word " * 30
    assert rule.keep(Candidate("a.html", "HTML", 1, f"<p>{words}</p>")) is True
    assert rule.keep(Candidate("a.html", "HTML", 1, "<p>word</p>")) == "under 100 characters of visible text"
    assert rule.keep(Candidate("a.html", "HTML", 1, f"<p>{words}</p>" + "<br>" * 500)) == "under 20% visible text"
    assert rule.keep(Candidate("a.js", "JavaScript", 1, "<br>" * 500)) is True
