"""The tool writes what the reference says, and tells a file that is not current."""

import pytest

from neox_code.config.reference import make_readme, make_schema_text
from neox_code.errors import ConfigError
from tools import describe_config


def test_the_tool_writes_both_files_and_then_finds_them_current(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(describe_config, "CONFIGS", tmp_path)
    with pytest.raises(ConfigError, match=r"configs/README\.md is not current\. Run: python tools/describe_config\.py"):
        describe_config.main(["--check"])
    assert describe_config.main([]) == 0
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == make_readme()
    assert (tmp_path / "schema.json").read_text(encoding="utf-8") == make_schema_text()
    assert capsys.readouterr().out == f"wrote {tmp_path / 'README.md'}\nwrote {tmp_path / 'schema.json'}\n"
    assert describe_config.main(["--check"]) == 0
