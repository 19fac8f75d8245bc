"""A made-up language, described by one YAML file, in the corpus, in the syntax of spans and in the evaluation; bad files."""

import pytest
import yaml

from neox_code.config.evaluation import EvaluationConfig
from neox_code.corpus.pipeline.build import build_corpus
from neox_code.corpus.recipes.registry import add_described_languages, find_recipe
from neox_code.corpus.shards import iter_documents
from neox_code.errors import ConfigError
from neox_code.evaluation.runner import evaluate_tasks
from neox_code.files import read_json_lines, write_json_lines
from neox_code.languages import VARIABLE, find_language, list_languages, register_language
from neox_code.syntax.spans import list_spans

ZORK = {
    "name": "Zork",
    "suffixes": [".zork"],
    "pattern": "^display ",
    "grammar": "tree_sitter_lua:language",
    "programs": ["sh"],
    "file": "program.zork",
    "run": ["sh", "harness.sh"],
    "harness": {"harness.sh": 'display() { echo "$1"; }\n. ./program.zork || exit 1\nprintf %s "$1"\n'},
}


@pytest.fixture
def zork(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    file = tmp_path / "zork.yml"
    file.write_text(yaml.safe_dump(ZORK))
    return str(file)


def test_the_corpus_keeps_files_with_the_suffix_and_the_pattern(zork, tmp_path):
    source = tmp_path / "source"
    for name, text in {
        "a/a.zork": "display {}\n",
        "b/b.zork": "assign {}\n",
        "b/c.py": "print({})\n",
        "c/d.lua": "local a = {}\n",
    }.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("".join(text.format(number) for number in range(60)))
    recipe, languages = add_described_languages(find_recipe("mixed"), ["Python", "lua", zork])
    assert languages == ("Python", "Lua", "Zork")
    build_corpus([str(source)], tmp_path / "corpus", recipe, seed=1, languages=languages, shares=(1, 0, 0), workers=1)
    found = {document.path: document.language for document in iter_documents(tmp_path / "corpus", "train")}
    assert found == {"a.zork": "Zork", "c.py": "Python", "d.lua": "Lua"}


def test_spans_use_the_grammar_of_the_file(zork):
    with pytest.raises(ConfigError, match="no grammar of 'Zork'"):
        list_spans("Zork", b"display(1)")
    register_language(zork)
    assert list_spans("Zork", b"display(1)\n") == list_spans("Lua", b"display(1)\n") != []


def test_programs_run_by_the_commands_of_the_file(zork, tmp_path):
    problem = {"name": "p", "language": "zork", "prompt": "x=", "tests": '[ "$x" = 4 ] || exit 1\n', "stop_tokens": []}
    write_json_lines(tmp_path / "problems.jsonl", [problem])
    write_json_lines(tmp_path / "samples.jsonl", [{"task_id": "p", "completion": text} for text in ("4\n", "5\n", "4; exit 0")])
    section = EvaluationConfig(
        eval_tasks=("multiple",),
        eval_problem_file=str(tmp_path / "problems.jsonl"),
        eval_samples=str(tmp_path / "samples.jsonl"),
        eval_languages=(zork,),
        eval_results_prefix=str(tmp_path / "results"),
    )
    list(evaluate_tasks(None, section))
    assert [row["passed"] for row in read_json_lines(tmp_path / "results" / "multiple_results.jsonl")] == [True, False, False]


def test_the_languages_of_the_project_are_found_by_name_in_any_case():
    assert list_languages().keys() >= {"GDScript", "Kotlin", "Lua", "R"}
    assert find_language("gdscript") is list_languages()["GDScript"]
    assert find_language("zork") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sufixes": [".z"]}, "key 'sufixes' is unknown. The keys are name, suffixes,"),
        ({"suffixes": []}, "suffixes is missing."),
        ({"suffixes": ".z"}, "suffixes is '.z', expected a list of texts."),
        ({"harness": {"a": "b", "c": "d"}}, "expected one file name with its text."),
        ({"pattern": "("}, "pattern '(' is no regular expression: missing )"),
        ({"run": []}, "file and run belong together: set both, or none."),
    ],
)
def test_a_bad_file_is_refused_with_key_and_remedy(tmp_path, change, message):
    file = tmp_path / "bad.yml"
    file.write_text(yaml.safe_dump(ZORK | change))
    with pytest.raises(ConfigError) as caught:
        find_language(str(file))
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)


def test_a_file_that_is_no_mapping_or_no_yaml_is_refused(tmp_path):
    for name, text, message in (("list.yml", "- a", "is no mapping"), ("cut.yml", "a: [", "is not YAML")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=message):
            find_language(str(tmp_path / name))
    with pytest.raises(ConfigError, match="does not exist"):
        find_language(str(tmp_path / "missing.yml"))
