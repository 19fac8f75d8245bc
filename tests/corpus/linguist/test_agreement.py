"""The same verdicts as Debian's ruby-github-linguist, where it is installed: `apt-get install ruby-github-linguist`."""

import json
import random
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from linguist_samples import BY_CONTENT, BY_FIRST_OR_LAST_LINES, WRITTEN_BY_PEOPLE, WRITTEN_BY_PROGRAMS

from neox_code.corpus.linguist import update
from neox_code.corpus.linguist.data import VERSION
from neox_code.corpus.linguist.detect import by_name, detect
from neox_code.corpus.linguist.generated import is_generated
from neox_code.corpus.linguist.paths import is_documentation, is_vendored

JUDGE = """
require "linguist"; require "json"
STDIN.each_line do |line|
  path = JSON.parse(line)
  blob = Linguist::FileBlob.new(File.join(ARGV[0], path), ARGV[0])
  next if blob.binary? || blob.size > 1048576
  puts JSON.generate([path, blob.language && blob.language.name, blob.vendored?, blob.documentation?, !!blob.generated?])
end
"""

FOLDERS = (
    "/usr/include",
    "/usr/share",
    "/usr/bin",
    "/usr/lib/git-core",
    sysconfig.get_paths()["stdlib"],
    sysconfig.get_paths()["purelib"],
)
FILES_IN_EACH = 150
ALL_ASCII = set(map(chr, range(32, 127)))


def ruby(*arguments: str, text: str = "") -> str:
    return subprocess.run(["ruby", *arguments], input=text, capture_output=True, text=True, check=True).stdout


def installed_version() -> str | None:
    try:
        return ruby("-e", 'require "linguist"; print Linguist::VERSION') if shutil.which("ruby") else None
    except subprocess.CalledProcessError:
        return None


pytestmark = pytest.mark.skipif(installed_version() != VERSION, reason=f"needs ruby-github-linguist {VERSION}")


def judged(folder: Path, paths: list[str]) -> list[tuple[str, str | None, bool, bool, bool]]:
    lines = ruby("-e", JUDGE, str(folder), text="\n".join(map(json.dumps, paths)))
    return [tuple(json.loads(line)) for line in lines.splitlines()]


def text_of(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def test_samples_of_every_rule_have_the_same_verdict(tmp_path):
    samples = [
        *((f"src/{path}", text) for path, text, _ in (*BY_CONTENT, *BY_FIRST_OR_LAST_LINES)),
        *WRITTEN_BY_PROGRAMS,
        *WRITTEN_BY_PEOPLE,
    ]
    ours = {}
    for number, (path, text) in enumerate(samples):
        file = tmp_path / str(number) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        path = f"{number}/{path}"
        ours[path] = (detect(path, text), is_vendored(path), is_documentation(path), is_generated(path, text))
    theirs = {path: tuple(verdict) for path, *verdict in judged(tmp_path, list(ours))}
    differing = {path: (ours[path], verdict) for path, verdict in theirs.items() if ours[path] != verdict}
    assert len(theirs) > 0.9 * len(samples)
    assert differing == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_of_this_machine_have_the_same_verdicts(folder):
    """Where several languages are left to linguist's classifier, ours may be another: one in twenty at most."""
    root = Path(folder)
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    chosen = random.Random(folder).sample(files, min(FILES_IN_EACH, len(files)))
    theirs = judged(root, [path for path in chosen if set(path) <= ALL_ASCII])
    other_language = []
    for path, language, vendored, documentation, generated in theirs:
        text = text_of(root / path)
        assert (is_vendored(path), is_documentation(path), is_generated(path, text)) == (vendored, documentation, generated), path
        if detect(path, text) != language:
            other_language.append((path, language))
    assert len(other_language) <= len(theirs) / 20
    assert all(len(by_name(path)) != 1 for path, _ in other_language)


def test_the_data_files_are_those_of_this_version(tmp_path, monkeypatch):
    folder = Path(ruby("-e", 'require "linguist"; print File.dirname($".grep(/linguist\\.rb$/).first)')) / "linguist"
    monkeypatch.setattr(update, "FOLDER", tmp_path)
    update.update(folder)
    for file in tmp_path.iterdir():
        assert file.read_text() == (Path(update.__file__).parent / file.name).read_text()
    assert len(list(tmp_path.iterdir())) == 3
