"""`standpipe schemas register`, against a registry that behaves as Confluent documents it."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from aiohttp import web
from support.registry import FakeRegistry
from support.web import Server, answer, running_server

from pipelines import cli
from pipelines.config import KafkaConfig
from pipelines.contracts import schema_registry
from pipelines.contracts.subjects import subject_versions
from pipelines.kafka.topics import registry

WANTED = list(subject_versions(registry(), KafkaConfig()))
POSTS = "atproto.records.app.bsky.feed.post-value"


@pytest.fixture
def fake() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def server(fake: FakeRegistry) -> Iterator[Server]:
    with running_server(fake.handle) as running:
        yield running


def register(url: str, *options: str) -> int:
    return cli._run(["schemas", "register", "--registry", url, *options])


def test_subjects_are_topics_with_a_suffix_and_schemas_are_whole() -> None:
    by_subject = {wanted.subject: wanted for wanted in WANTED}
    assert len(by_subject) == len(WANTED)
    assert {"atproto.events-value", "atproto.latest.other-value", POSTS} <= set(by_subject)
    # What is no JSON has no subject.
    assert not any("frames" in name or "quarantine" in name for name in by_subject)
    for wanted in WANTED:
        schema = json.loads(wanted.schema)
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["$schema"].endswith("2020-12/schema")


def test_all_topics_are_registered_and_a_second_run_finds_them(
    fake: FakeRegistry, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert register(server.url) == 0
    assert fake.subjects == {wanted.subject: [wanted.schema] for wanted in WANTED}
    assert f"registered: {len(WANTED)}, there: 0, refused: 0" in capsys.readouterr().out
    assert register(server.url) == 0
    assert f"registered: 0, there: {len(WANTED)}, refused: 0" in capsys.readouterr().out
    assert len(fake.written) == len(WANTED)


def test_a_dry_run_writes_nothing(
    fake: FakeRegistry, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert register(server.url, "--dry-run") == 0
    assert fake.subjects == {}
    assert f"to register: {len(WANTED)}" in capsys.readouterr().out


def test_prefix_and_collections_are_those_of_the_deployment(
    fake: FakeRegistry, server: Server
) -> None:
    assert register(server.url, "--topic-prefix", "own", "--admit", "com.example.note") == 0
    records = {name for name in fake.subjects if name.startswith("own.records.")}
    assert records == {"own.records.com.example.note-value", "own.records.other-value"}
    assert all(name.startswith("own.") for name in fake.subjects)


def test_what_was_interrupted_goes_on(fake: FakeRegistry, server: Server) -> None:
    assert register(server.url) == 0
    for wanted in WANTED[5:]:
        del fake.subjects[wanted.subject]
    fake.written.clear()
    assert register(server.url) == 0
    assert fake.written == [wanted.subject for wanted in WANTED[5:]]


def older(change: dict[str, Any]) -> str:
    schema = json.loads(next(wanted.schema for wanted in WANTED if wanted.subject == POSTS))
    return json.dumps(schema | change)


def test_an_older_version_is_followed_if_it_is_compatible(
    fake: FakeRegistry, server: Server
) -> None:
    assert register(server.url) == 0
    newest = fake.subjects[POSTS]
    fake.subjects[POSTS] = [older({"description": "Something else."})]
    assert register(server.url) == 0
    assert fake.subjects[POSTS][1:] == newest


def test_if_one_is_refused_nothing_is_registered(
    fake: FakeRegistry, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.subjects[POSTS] = [older({"required": []})]
    assert register(server.url) == 1
    assert fake.written == []
    output = capsys.readouterr().out
    assert f"refused  {POSTS}  version 1  REQUIRED_ATTRIBUTE_ADDED at /required/uri" in output
    assert "Nothing is registered: look at what the registry has under that subject" in output


def test_json_says_the_same(
    fake: FakeRegistry, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.subjects[POSTS] = [older({"required": []})]
    assert register(server.url, "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert told["registry"] == server.url
    states = {entry["subject"]: entry["state"] for entry in told["subjects"]}
    assert states.pop(POSTS) == "refused"
    assert set(states.values()) == {"missing"}
    del fake.subjects[POSTS]
    assert register(server.url, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {entry["subject"]: entry["id"] for entry in told["subjects"]} == {
        subject: fake.ids[versions[0]] for subject, versions in fake.subjects.items()
    }


def test_a_refusal_after_the_check_is_said(
    fake: FakeRegistry, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.subjects[POSTS] = [older({"required": []})]
    fake.is_lying = True
    assert register(server.url) == 2
    error = capsys.readouterr().err
    assert f"refuses version 1 of {POSTS}: Schema being registered is incompatible" in error


@pytest.mark.parametrize(
    ("status", "body", "code", "complaint"),
    [
        (500, '{"error_code": 50001, "message": "Error in the store"}', 1, "500: Error in the st"),
        (429, "", 1, "is in trouble (HTTP 429: no reason given): run the command again later"),
        (401, '{"error_code": 401, "message": "Unauthorized"}', 2, "set --credentials"),
        (403, "no", 2, "set --credentials"),
        (404, "<html>", 2, "does not answer like a schema registry (HTTP 404): check --registry"),
        (404, '{"error_code": 404, "message": "Not found"}', 2, "check --registry"),
        (301, "", 2, "does not answer like a schema registry (HTTP 301)"),
        (200, "[]", 2, "does not answer like a schema registry (HTTP 200)"),
        (405, "{}", 2, "does not answer like a schema registry (HTTP 405)"),
    ],
)
def test_what_goes_wrong_is_said_with_its_remedy(
    status: int, body: str, code: int, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_server(answer(status, body)) as server:
        assert register(server.url) == code
    output = capsys.readouterr()
    assert complaint in output.err
    assert output.out == ""


def test_an_invalid_schema_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    told = '{"error_code": 42201, "message": "Invalid schema:\\n no draft 2020-12"}'
    with running_server(answer(422, told)) as server:
        assert register(server.url) == 1
    assert "Invalid schema: no draft 2020-12" in capsys.readouterr().out


def test_an_endless_answer_is_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(schema_registry, "MAX_ANSWER_BYTES", 1_000)
    with running_server(answer(200, "x" * 10_000)) as server:
        assert register(server.url) == 2
    assert "more than 1000 bytes" in capsys.readouterr().err


def test_nobody_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with running_server(answer(200)) as server:
        url = server.url
    assert register(url) == 1
    assert f"no schema registry answers at {url} (" in capsys.readouterr().err


def test_the_path_of_a_registry_and_its_user_are_heeded(fake: FakeRegistry) -> None:
    seen: set[str] = set()

    async def handle(request: web.Request) -> web.StreamResponse:
        seen.add(request.headers.get("Authorization", ""))
        assert request.path.startswith("/apis/ccompat/v7/")
        rel_url = request.rel_url.with_path(request.path.removeprefix("/apis/ccompat/v7"))
        return await fake.handle(request.clone(rel_url=rel_url))

    with running_server(handle) as server:
        url = f"{server.url}/apis/ccompat/v7/"
        assert register(url, "--credentials", "me:secret") == 0
    assert seen == {"Basic bWU6c2VjcmV0"}
    assert len(fake.subjects) == len(WANTED)


@pytest.mark.parametrize("options", [["--credentials", "me"], ["--credentials", ":secret"]])
def test_credentials_of_another_form_are_refused(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert register("http://127.0.0.1:1", *options) == 2
    error = capsys.readouterr().err
    assert "--credentials is not of the form USER:PASSWORD" in error
    assert "secret" not in error


def test_an_address_of_another_form_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert register("registry.example:8081") == 2
    assert "give one like http://127.0.0.1:8081" in capsys.readouterr().err
