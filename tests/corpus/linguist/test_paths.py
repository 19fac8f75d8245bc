import re

import pytest

from neox_code.corpus.linguist.paths import is_documentation, is_vendored
from neox_code.corpus.linguist.tables import PATHS

PARTS = [
    "src", "dist", "node_modules", "vendor", "third_party", "3rd-party", "Documentation", "docs", "man", "examples", "test",
    "fixtures", "extjs", "cache", "env", "testdata", ".github", "packages", "foo.1.2", "main.c", "jquery.js", "jquery-3.1.2.js",
    "app.min.js", "types.d.ts", "bootstrap.css", "configure", "README.md", "LICENSE", "Vagrantfile", "gradlew", "react.js",
    "d3.v4.js", "x.imageset", "CHANGELOG", "readme", "animate.css", "waf", "index.js", "Samples", "inst", "doc",
]  # fmt: skip


@pytest.mark.parametrize(
    "path", ["a/node_modules/b.js", "vendor/x.go", "deps/z.c", "web/app.min.css", "a/b.d.ts", "configure", "docs/_static/x.js"]
)
def test_third_party_code_is_vendored(path):
    assert is_vendored(path)


@pytest.mark.parametrize("path", ["src/deps/z.c", "src/main.c", "lib/minimal.js", "src/vendoring.py", "lib/jquery/core.ts"])
def test_own_code_is_not_vendored(path):
    assert not is_vendored(path)


@pytest.mark.parametrize(("is_said", "key"), [(is_vendored, "vendored"), (is_documentation, "documentation")])
def test_the_divided_patterns_equal_the_single_pattern(is_said, key):
    whole = re.compile("|".join(PATHS[key]), re.MULTILINE)
    paths = [
        *PARTS,
        *(f"{a}/{b}" for a in PARTS for b in PARTS),
        *(f"{a}/x/{b}/{c}" for a in PARTS for b in PARTS for c in PARTS[::15]),
    ]
    found = [is_said(path) for path in paths]
    assert found == [whole.search(path) is not None for path in paths]
    assert 100 < sum(found) < len(found)
