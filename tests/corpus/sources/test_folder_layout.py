import pytest
from source_files import commit_all, read, write_files

from neox_code.corpus.sources.folder_layout import detect_layout
from neox_code.corpus.sources.source_names import find_language
from neox_code.errors import DataError

TREES = [
    ("repository", ["README", "src/a.py", "tests/b.py"]),
    ("repository", ["setup.py", "go/a.go", "python/b.py"]),
    ("repository", ["a.py"]),
    ("project", ["one/README", "one/a.py", "two/src/b.py", "three/c.py"]),
    ("project", [".DS_Store", "one/a.py"]),
    ("organization/project", ["torvalds/linux/README", "golang/go/a.go", "golang/tools/b.go"]),
    ("organization/project", ["golang/go/a.go", "golang/tools/b.go", "python/cpython/c.py", "stray/README"]),
    ("language/organization/project", ["C++/llvm/llvm-project/README", "csharp/mono/mono/a.cs", "c-sharp/dot/net/b.cs"]),
    ("language/organization/project", ["go/golang/go/a.go"]),
    ("language/project", ["Python/numpy/a.py", "Rust/regex/Cargo.toml", "Rust/libc/b.rs"]),
]


@pytest.mark.parametrize(("layout", "paths"), TREES)
def test_the_layout_is_detected_from_visible_entries(tmp_path, layout, paths):
    assert detect_layout(write_files(tmp_path, *paths)) == layout


def test_a_folder_with_a_file_beside_repositories_is_no_repository(tmp_path):
    commit_all(write_files(tmp_path / "app", "src/a.py"))
    commit_all(write_files(tmp_path / "tool", "src/b.py"))
    write_files(tmp_path, "notes.txt")
    assert detect_layout(tmp_path) == "project"


def test_first_level_folders_are_languages_in_any_spelling(tmp_path, caplog):
    root = write_files(
        tmp_path / "root", "cpp/a/b/x.c", "c-sharp/a/c/src/x.c", "JavaScript/d/e/x.c", "JavaScript/note.c", "JavaScript/d/f.c"
    )
    found = [(file.project.name, file.project.language, file.path) for file in read(root)]
    assert found == [
        ("d/e", "JavaScript", "x.c"),
        ("d", "JavaScript", "f.c"),
        ("root", "JavaScript", "note.c"),
        ("a/c", "C#", "src/x.c"),
        ("a/b", "C++", "x.c"),
    ]


def test_the_layout_is_logged_in_one_line_and_can_be_given(tmp_path, capsys):
    root = write_files(tmp_path / "root", "one/src/a.py", "two/b.py")
    assert {file.project.name for file in read(root)} == {"root/one", "root/two"}
    assert {file.project.name for file in read(root, layout="repository")} == {"root"}
    assert {file.project.name for file in read(root, layout="organization/project")} == {"one/src", "two"}
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"source {root} | read as project by its folders (--layout overrides this)"
    assert lines[1:] == [f"source {root} | read as repository", f"source {root} | read as organization/project"]


def test_an_unknown_layout_names_the_known_ones(tmp_path):
    with pytest.raises(DataError, match=r"layout 'flat' is unknown\. Choose one of repository, project, organization/project"):
        read(tmp_path, layout="flat")


def test_every_language_of_the_recipes_is_known_by_its_own_name():
    names = (
        "C",
        "C#",
        "C++",
        "Go",
        "Java",
        "JavaScript",
        "PHP",
        "Python",
        "Ruby",
        "Rust",
        "Scala",
        "TypeScript",
        "GDScript",
        "Kotlin",
    )
    assert [find_language(name) for name in names] == list(names)
