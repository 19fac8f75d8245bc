import pytest

from neox_code.benchmarks.sample import read_sample_texts, take_sample
from neox_code.errors import DataError


@pytest.fixture
def corpus(tmp_path):
    for folder in range(20):
        for file in range(5):
            path = tmp_path / "corpus" / "Go" / "acme" / f"project{folder % 3}" / f"folder{folder}" / f"file{file}.go"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{folder} {file} ".ljust(100, "x"))
    (tmp_path / "corpus" / "Go" / "beside.go").write_text("not in a project")
    (tmp_path / "corpus" / "Go" / "acme" / "project0" / "link.go").symlink_to(path)
    return tmp_path / "corpus"


def files_below(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_sample_has_whole_folders_and_is_the_same_again(corpus, tmp_path):
    first = take_sample(corpus, tmp_path / "first", 3_000)
    again = take_sample(corpus, tmp_path / "again", 3_000)
    copied = files_below(tmp_path / "first")
    assert first == again
    assert copied == files_below(tmp_path / "again")
    assert (first.num_files, first.num_bytes) == (len(copied), sum(map(len, copied.values()))) == (30, 3_000)
    assert copied.items() <= files_below(corpus).items()
    assert all(len(list((tmp_path / "first" / path).parent.iterdir())) == 5 for path in copied)


def test_a_small_corpus_is_copied_whole_without_links_and_files_beside_projects(corpus, tmp_path):
    assert take_sample(corpus, tmp_path / "all", 10**9).num_files == 100


def test_texts_are_in_the_order_of_their_paths_without_what_is_not_utf8(corpus):
    (corpus / "Go" / "acme" / "project0" / "broken.go").write_bytes(b"\xff")
    (corpus / "Go" / "acme" / "project0" / "empty.go").touch()
    texts = read_sample_texts(corpus / "Go" / "acme")
    assert len(texts) == 101
    assert texts[0].startswith("0 0 ")


def test_a_folder_without_projects_is_refused(tmp_path):
    with pytest.raises(DataError, match="Give a folder"):
        take_sample(tmp_path / "missing", tmp_path / "out", 100)
    with pytest.raises(DataError, match="Give another folder"):
        take_sample(tmp_path, tmp_path / "out", 100)
