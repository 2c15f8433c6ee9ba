"""The full-text index of posts: what a search finds, and that a batch is in it whole or not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipelines.consume import AccountChanged, Batch, Change, Delete, Put, Sync
from pipelines.consume.examples.posts import COLLECTION, Hit, PostIndex, main
from pipelines.errors import ConfigError

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[PostIndex]:
    index = PostIndex(tmp_path / "posts.db")
    yield index
    index.close()


def uri(rkey: str) -> str:
    return f"at://{DID}/{COLLECTION}/{rkey}"


def put(rkey: str, record: dict[str, Any] | None, rev: str = "b") -> Put:
    error = None if record is not None else "cbor.depth"
    return Put(
        uri(rkey), DID, COLLECTION, rkey, rev, "cid", None, record, error, None, 0, is_live=True
    )


def post(rkey: str, text: str, rev: str = "b") -> Put:
    return put(rkey, {"text": text}, rev)


def delete(rkey: str, rev: str = "b") -> Delete:
    return Delete(uri(rkey), DID, COLLECTION, rkey, rev, None, is_live=True)


def batch(*changes: Change, position: str = "1", before: str | None = None) -> Batch:
    return Batch(changes, {0: position}, {0: before}, is_complete=True, behind_count=0)


def found(index: PostIndex, words: str) -> list[str]:
    return sorted(hit.uri.rpartition("/")[2] for hit in index.search(words, 10))


def test_posts_are_found_by_all_their_words(index: PostIndex) -> None:
    index.apply(batch(post("1", "A fire hose."), post("2", "The hose"), post("3", "fire")))
    assert found(index, "FIRE hose") == ["1"]
    assert found(index, "hose") == ["1", "2"]
    assert index.search("hose", 1)[0].uri in {uri("1"), uri("2")}
    assert len(index.search("hose", 1)) == 1


@pytest.mark.parametrize("words", ['"', "fire AND", "text:fire", "fi*", "(", "NEAR(a b)", "-fire"])
def test_words_are_never_taken_for_a_query_language(index: PostIndex, words: str) -> None:
    index.apply(batch(post("1", "hose")))
    assert found(index, words) == []


@pytest.mark.parametrize("words", ["", "  \t"])
def test_no_words_find_nothing(index: PostIndex, words: str) -> None:
    index.apply(batch(post("1", "hose")))
    assert found(index, words) == []


def test_a_post_that_was_changed_or_deleted_is_not_found_by_its_old_words(
    index: PostIndex,
) -> None:
    index.apply(batch(post("1", "old"), post("2", "old")))
    index.apply(batch(post("1", "new", "c"), delete("2", "c"), position="2", before="1"))
    assert (found(index, "old"), found(index, "new")) == ([], ["1"])
    assert index.count() == 1


@pytest.mark.parametrize("record", [None, {}, {"text": 7}, {"text": None}])
def test_a_post_without_a_text_takes_the_place_of_one_that_had_one(
    index: PostIndex, record: dict[str, Any] | None
) -> None:
    index.apply(batch(post("1", "old")))
    index.apply(batch(put("1", record, "c"), position="2", before="1"))
    assert (found(index, "old"), index.count()) == ([], 1)


def test_what_is_older_changes_nothing(index: PostIndex) -> None:
    index.apply(batch(post("1", "new", "c"), post("1", "old", "a"), delete("1", "b")))
    assert found(index, "new") == ["1"]


def test_an_account_that_is_not_active_is_not_shown_until_it_is_again(index: PostIndex) -> None:
    hidden = AccountChanged(DID, False, "deactivated", Sync.SYNCHRONIZED, None)
    shown = AccountChanged(DID, True, None, Sync.SYNCHRONIZED, None)
    index.apply(batch(post("1", "hose"), hidden))
    assert found(index, "hose") == []
    index.apply(batch(post("2", "hose"), position="2", before="1"))
    assert found(index, "hose") == []
    index.apply(batch(shown, position="3", before="2"))
    assert found(index, "hose") == ["1", "2"]


def test_what_a_deleted_account_wrote_before_is_not_shown_when_it_is_back(
    index: PostIndex,
) -> None:
    back = AccountChanged(DID, True, None, Sync.SYNCHRONIZED, "b")
    index.apply(
        batch(post("1", "hose", "a"), post("2", "hose", "b"), post("3", "hose", "c"), back)
    )
    assert found(index, "hose") == ["3"]


def test_an_account_that_is_being_repaired_is_marked(index: PostIndex) -> None:
    index.apply(batch(post("1", "hose"), AccountChanged(DID, True, None, Sync.APPLYING, None)))
    assert index.search("hose", 10) == [Hit(uri("1"), "hose", is_in_repair=True)]


def test_a_batch_that_fails_leaves_nothing(index: PostIndex) -> None:
    index.apply(batch(post("1", "old")))
    broken: Any = object()
    with pytest.raises(AssertionError):
        index.apply(batch(post("1", "new", "c"), broken, position="2", before="1"))
    assert found(index, "old") == ["1"]
    assert index.positions() == {0: "1"}


@pytest.mark.parametrize("before", [None, "0"])
def test_two_processes_that_follow_into_one_file_are_noticed(
    index: PostIndex, before: str | None
) -> None:
    index.apply(batch(post("1", "old")))
    with pytest.raises(ConfigError, match="another process"):
        index.apply(batch(post("1", "new", "c"), position="2", before=before))
    assert (found(index, "old"), index.positions()) == (["1"], {0: "1"})


def test_the_command_prints_a_line_for_each_post(tmp_path: Path) -> None:
    path = tmp_path / "posts.db"
    index = PostIndex(path)
    index.apply(
        batch(
            post("1", "a\nhose"),
            AccountChanged(DID, True, None, Sync.APPLYING, None),
        )
    )
    index.close()
    result = CliRunner().invoke(main, ["search", str(path), "hose"])
    assert (result.exit_code, result.output) == (0, f"{uri('1')} (in repair)\ta hose\n")


def test_without_an_index_the_command_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["search", str(tmp_path / "posts.db"), "hose"])
    assert result.exit_code == 2
    assert "does not exist" in result.output


def test_settings_that_cannot_work_end_the_command_with_2(tmp_path: Path) -> None:
    path = str(tmp_path / "posts.db")
    result = CliRunner().invoke(main, ["follow", path, "--bootstrap-servers", "nowhere"])
    assert result.exit_code == 2
    assert "host:port" in result.output


def test_a_file_that_is_no_index_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "posts.db"
    path.write_text("no database, but long enough to be taken for one " * 20)
    result = CliRunner().invoke(main, ["search", str(path), "hose"])
    assert (result.exit_code, result.output) == (1, f"{path}: file is not a database\n")
