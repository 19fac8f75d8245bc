import random

import pytest

from neox_code.corpus.licenses.license_names import find_mentioned_licenses, parse_license_names
from neox_code.corpus.licenses.notices import parse_expression


@pytest.mark.parametrize(
    ("written", "expression"),
    [
        ("MIT License", "MIT"),
        ("The MIT License (MIT)", "MIT"),
        ("https://opensource.org/licenses/MIT", "MIT"),
        ("http://www.opensource.org/licenses/mit-license.php", "MIT"),
        ("http://www.apache.org/licenses/LICENSE-2.0.txt", "Apache-2.0"),
        ("https://spdx.org/licenses/BSD-2-Clause.html", "BSD-2-Clause"),
        ("https://www.gnu.org/licenses/gpl-3.0.en.html", None),
        ("https://www.gnu.org/licenses/gpl-3.0.html", "GPL-3.0-only"),
        ("Expat", "MIT"),
        ("Apache License 2.0", "Apache-2.0"),
        ("The Apache Software License, Version 2.0", "Apache-2.0"),
        ("Apache License (== 2.0)", "Apache-2.0"),
        ("ASL 2.0", "Apache-2.0"),
        ("(MIT OR Apache-2.0)", "MIT OR Apache-2.0"),
        ("BSD-3-Clause OR MIT", "BSD-3-Clause OR MIT"),
        ("MIT/Apache-2.0", "MIT OR Apache-2.0"),
        ("Dual MIT/Apache-2.0", "MIT OR Apache-2.0"),
        ("MIT or Apache-2.0", "MIT OR Apache-2.0"),
        ("MIT License and Apache License 2.0", "MIT AND Apache-2.0"),
        ("MIT, Apache-2.0", "MIT AND Apache-2.0"),
        ('BSD 3-Clause "New" or "Revised" License', "BSD-3-Clause"),
        ("New BSD License", "BSD-3-Clause"),
        ("Simplified BSD", "BSD-2-Clause"),
        ("zlib/libpng", "Zlib"),
        ("Boost Software License 1.0 (BSL-1.0)", "BSL-1.0"),
        ("Mozilla Public License 2.0 (MPL 2.0)", "MPL-2.0"),
        ("GNU General Public License v3 or later (GPLv3+)", "GPL-3.0-or-later"),
        ("GPL (>= 2)", "GPL-2.0-or-later"),
        ("GPL-2 | GPL-3", "GPL-2.0-only OR GPL-3.0-only"),
        ("GPL", "GPL-1.0-or-later"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("AGPLv3", "AGPL-3.0-only"),
        ("MIT + file LICENSE", "MIT"),
        ("Apache-2.0 WITH LLVM-exception", "Apache-2.0 WITH LLVM-exception"),
        ("The Unlicense", "Unlicense"),
        ("UNLICENSED", None),
        ("proprietary", None),
        ("MIT AND Proprietary License of ACME", None),
        ("BSD-style", None),
        ("Public Domain", None),
        ("", None),
    ],
)
def test_license_names_of_packages_become_spdx_expressions(written, expression):
    assert parse_license_names(written) == expression
    assert expression is None or parse_expression(expression) is not None


def test_short_texts_mention_licenses():
    assert find_mentioned_licenses("under the GNU General Public License, version 2, or the MIT license") == ("MIT", "GPL-2.0-only")
    assert find_mentioned_licenses("we submit to the committee") == ()


def test_any_text_gives_an_expression_or_none():
    pieces = [
        "MIT",
        "License",
        "AND",
        "or",
        "(",
        ")",
        "GPL",
        ">=",
        "2",
        "v3+",
        "/",
        "|",
        ",",
        "Apache",
        "2.0",
        "The",
        "é",
        "WITH",
        "-",
    ]
    numbers = random.Random(5)
    found = 0
    for _ in range(5_000):
        expression = parse_license_names(" ".join(numbers.choices(pieces, k=numbers.randrange(7))))
        assert expression is None or parse_expression(expression).render() == expression
        found += expression is not None
    assert found > 100
