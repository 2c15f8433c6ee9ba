"""What the operator says of an account, on a real broker: said, taken back, never forgotten."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import mortal
from support.accounts import ALICE, PARTITIONS, RECORDS, Outside, causes, deletion, history, repo
from support.answers import record_cid
from support.cli import standpipe
from support.compact import Running, lose
from support.events import account, commit, create
from support.kafka import read_decided, wait_until
from support.latest import read_latest, read_stores

from pipelines.compact.accounts import OnInactive, Policy
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import apply, plan

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    return config


def cluster(config: KafkaConfig) -> list[str]:
    return [
        "--bootstrap-servers",
        config.bootstrap_servers,
        "--topic-prefix",
        config.topic_prefix,
    ]


def run(config: KafkaConfig, *arguments: str, exit_code: int = 0) -> str:
    """Returns what `standpipe account` says."""
    result = standpipe("account", *arguments, *cluster(config))
    assert result.returncode == exit_code, result.stderr
    return result.stdout


def shown(config: KafkaConfig) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(config, "show", ALICE, "--json"))
    return found


def words(config: KafkaConfig) -> tuple[object, ...]:
    """Returns the status that counts, upstream's and the override's."""
    names = ("active", "status", "upstream_status", "override_status")
    return tuple(repo(config, ALICE).get(name) for name in names)


def test_an_override_counts_until_it_is_lifted_also_after_the_loss_of_the_store(
    config: KafkaConfig, tmp_path: Path
) -> None:
    folder, outside = tmp_path / "stores", Outside(config)
    outside.send(*history(ALICE))
    with Running(config, folder, policy=Policy()) as compact:
        compact.wait_until(lambda: repo(config, ALICE) != {}, "the repository")
        dry = run(config, "override", ALICE, "takendown", "--reason", "Order 4711", "--dry-run")
        assert dry == f"{ALICE}\twould be takendown\n"
        assert read_decided(config, config.topic("overrides")) == []
        run(config, "override", ALICE, "takendown", "--reason", "Order 4711")
        hidden = (False, "takendown", None, "takendown")
        compact.wait_until(lambda: words(config) == hidden, "the override")
        assert shown(config)["in_force"]
        # Upstream goes on, and compact does not.
        late = commit(2, 1, create("a.b.c/late", record_cid("late")), did=ALICE)
        outside.send(late, account(3, active=False, status="suspended", did=ALICE))
        both = (False, "takendown", "suspended", "takendown")
        compact.wait_until(lambda: words(config) == both, "upstream's word")
    assert read_latest(config).paths(ALICE) == RECORDS
    lose(folder)
    with Running(config, folder, policy=Policy()) as compact:
        outside.send(account(4, did=ALICE))
        compact.wait_until(lambda: words(config) == hidden, "upstream's next word")
        assert causes(config, ALICE) == []
        assert run(config, "lift", ALICE) == f"{ALICE}\tis lifted: upstream's word counts\n"
        compact.wait_until(lambda: words(config) == (True, None, None, None), "the lift")
    assert causes(config, ALICE) == ["reactivation"]
    assert read_latest(config).paths(ALICE) == RECORDS
    assert read_stores(folder, PARTITIONS)[ALICE].paths == RECORDS
    run(config, "lift", ALICE, exit_code=1)


def test_records_are_purged_at_once_by_word_or_by_policy_and_asked_for_when_that_is_lifted(
    config: KafkaConfig, tmp_path: Path
) -> None:
    outside = Outside(config)
    outside.send(*history(ALICE))
    with Running(config, tmp_path / "kept", policy=Policy()) as compact:
        run(config, "override", ALICE, "deleted", "--reason", "Its owner asked us by letter")
        compact.wait_until(lambda: repo(config, ALICE).get("purging") is False, "the purge")
        compact.wait_until(lambda: read_latest(config).records == {}, "the last tombstone")
        assert words(config) == (False, "deleted", None, "deleted")
        # Nobody is asked whether that is true.
        assert causes(config, ALICE) == []
    with Running(config, tmp_path / "other", "1", policy=Policy(on_inactive=OnInactive.PURGE)):
        run(config, "lift", ALICE)
        wait_until(lambda: causes(config, ALICE) == ["reactivation"], "the request")
        next_one = commit(2, None, *[create(p, cid) for p, cid in RECORDS.items()], did=ALICE)
        outside.send(next_one)
        wait_until(lambda: read_latest(config).paths(ALICE) == RECORDS, "its next life")
        run(config, "override", ALICE, "suspended", "--reason", "Spam")
        wait_until(lambda: read_latest(config).records == {}, "the purge")


def test_an_account_that_is_active_here_stays_although_upstream_deletes_it(
    config: KafkaConfig, tmp_path: Path
) -> None:
    outside = Outside(config)
    outside.send(*history(ALICE))
    with Running(config, tmp_path, policy=Policy(purge_after_s=0)) as compact:
        run(config, "override", ALICE, "active", "--reason", "We keep our own")
        compact.wait_until(lambda: words(config) == (True, None, None, "active"), "the override")
        outside.send(deletion(ALICE))
        compact.wait_until(lambda: words(config)[2] == "deleted", "upstream's word")
        assert words(config) == (True, None, "deleted", "active")
        assert read_latest(config).paths(ALICE) == RECORDS
        run(config, "lift", ALICE)
        compact.wait_until(
            lambda: words(config) == (False, "deleted", "deleted", None), "the lift"
        )
        compact.wait_until(lambda: read_latest(config).records == {}, "the purge")


@pytest.mark.parametrize("moment", mortal.Moment)
def test_an_override_counts_once_wherever_compact_is_killed(
    config: KafkaConfig, tmp_path: Path, moment: mortal.Moment
) -> None:
    folder = tmp_path / "stores"
    Outside(config).send(*history(ALICE))
    command = [sys.executable, mortal.__file__, moment, "compact", "--state-dir", str(folder)]
    with subprocess.Popen([*command, *cluster(config)], stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: repo(config, ALICE) != {}, "its first transaction")
            run(config, "override", ALICE, "takendown", "--reason", "Order 4711")
            assert process.wait(60) == -9  # in its second
        finally:
            process.kill()
    with Running(config, folder, policy=Policy()) as compact:
        hidden = (False, "takendown", None, "takendown")
        compact.wait_until(lambda: words(config) == hidden, "the override")
    messages = read_decided(config, config.topic("repos"))
    overridden = [json.loads(m.value or b"")["override_status"] for m in messages]
    assert overridden == [None, "takendown"]


def test_what_is_wrong_is_said_with_its_remedy(config: KafkaConfig) -> None:
    nothing = standpipe("account", "show", ALICE, *cluster(config))
    assert nothing.returncode == 1
    assert "nothing was ever said of it" in nothing.stderr
    options = ("override", ALICE, "takendown")
    for arguments, remedy in (
        (("show", "alice"), "write it like did:plc:"),
        (("override", ALICE, "hidden", "--reason", "x"), "'takendown'"),
        (options, "--reason"),
        ((*options, "--reason", " "), "say in 1 to 1,000 characters why"),
        ((*options, "--reason", "x" * 1_001), "say in 1 to 1,000 characters why"),
    ):
        result = standpipe("account", *arguments, *cluster(config))
        assert result.returncode == 2
        assert remedy in result.stderr
