"""The same results as GitHub's linguist where its Ruby library is installed, on the samples of this folder.

Debian has an older one (`apt-get install ruby-github-linguist`), which is compared for the rules of both versions."""

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from linguist_samples import (
    BY_CONTENT,
    BY_FIRST_OR_LAST_LINES,
    SINCE_VERSION_8,
    WRITTEN_BY_PEOPLE,
    WRITTEN_BY_PROGRAMS,
)
from linguist_tables import FOLDER, write_tables

from neox_code.corpus.linguist.detect import detect
from neox_code.corpus.linguist.generated import is_generated
from neox_code.corpus.linguist.paths import is_documentation, is_vendored
from neox_code.corpus.linguist.tables import VERSION

RUBY_PROGRAM = """
require "linguist"; require "json"
STDIN.each_line do |line|
  path = JSON.parse(line)
  blob = Linguist::FileBlob.new(File.join(ARGV[0], path), ARGV[0])
  next if blob.binary? || blob.size > 1048576
  puts JSON.generate([path, blob.language && blob.language.name, blob.vendored?, blob.documentation?, !!blob.generated?])
end
"""


def ruby(*arguments: str, text: str = "") -> str:
    return subprocess.run(["ruby", *arguments], input=text, capture_output=True, text=True, check=True).stdout


@cache
def installed_version() -> str | None:
    try:
        return ruby("-e", 'require "linguist"; print Linguist::VERSION') if shutil.which("ruby") else None
    except subprocess.CalledProcessError:
        return None


pytestmark = pytest.mark.skipif(installed_version() is None, reason="needs github-linguist for Ruby")


def detect_with_ruby(folder: Path, paths: list[str]) -> list[tuple[str, str | None, bool, bool, bool]]:
    lines = ruby("-e", RUBY_PROGRAM, str(folder), text="\n".join(map(json.dumps, paths)))
    return [tuple(json.loads(line)) for line in lines.splitlines()]


def test_samples_of_every_rule_have_linguists_language(tmp_path):
    samples = [
        *((f"src/{path}", text) for path, text, _ in (*BY_CONTENT, *BY_FIRST_OR_LAST_LINES)),
        *WRITTEN_BY_PROGRAMS,
        *WRITTEN_BY_PEOPLE,
    ]
    ours = {}
    for number, (path, text) in enumerate(samples):
        if path.removeprefix("src/") in SINCE_VERSION_8 and installed_version() != VERSION:
            continue
        file = tmp_path / str(number) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        path = f"{number}/{path}"
        ours[path] = (detect(path, text), is_vendored(path), is_documentation(path), is_generated(path, text))
    theirs = {path: tuple(verdict) for path, *verdict in detect_with_ruby(tmp_path, list(ours))}
    differing = {path: (ours[path], verdict) for path, verdict in theirs.items() if ours[path] != verdict}
    assert len(theirs) > 0.9 * len(ours)
    assert differing == {}


@pytest.mark.skipif(installed_version() != VERSION, reason=f"needs github-linguist {VERSION}")
def test_the_data_files_equal_those_of_the_installed_version(tmp_path):
    folder = Path(ruby("-e", 'require "linguist"; print File.dirname($".grep(/linguist\\.rb$/).first)')) / "linguist"
    write_tables(folder, tmp_path)
    for file in tmp_path.iterdir():
        assert file.read_text() == (FOLDER / file.name).read_text()
    assert len(list(tmp_path.iterdir())) == 3
