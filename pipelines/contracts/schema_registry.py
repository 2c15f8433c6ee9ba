"""A client of a Confluent-compatible schema registry: looks up, checks, registers.

    find (look up → check compatibility) → register, if nothing is refused

A version that is there is left alone, so that the command may run any number of times. Nothing is
registered before all versions are looked up: a registry that refuses one gets none.

Source: docs.confluent.io/platform/current/schema-registry/develop/api.html, "Subjects" and
"Compatibility"; Karapace, Redpanda and Apicurio serve the same.
"""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote

import aiohttp

from pipelines.contracts.subjects import Finding, State, SubjectVersion
from pipelines.errors import ConfigError, TransientError
from pipelines.identity.fetching import parse_base_url

REQUEST_TIMEOUT_S: Final = 30.0
# Of an answer that is read; a schema comes back with a look-up.
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024

# Of a version that the registry does not take.
REFUSAL_REMEDY: Final = (
    "look at what the registry has under that subject: another program may have registered it, or "
    "its compatibility level forbids an added field (BACKWARD allows it)"
)

_CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_SUBJECT_NOT_FOUND: Final = 40401
_SCHEMA_NOT_FOUND: Final = 40403
_DENIED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_REFUSED: Final = frozenset({HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY})


class RegistryUnavailableError(TransientError):
    """The schema registry cannot be reached, or is in trouble."""


class _Answer(NamedTuple):
    """What the registry answered: fine, not found or refused."""

    status: int
    fields: dict[str, Any]

    @property
    def told(self) -> str:
        """The registry's own words."""
        return str(self.fields.get("message") or f"HTTP {self.status}")


class SchemaRegistry:
    """A registry at an address. Use it as an asynchronous context.

    Args:
        url: `http(s)://host[:port][/path]`.
        credentials: `user:password`; None where the registry asks for none.

    Raises:
        ConfigError: one of them is of another form.
    """

    def __init__(self, url: str, credentials: str | None = None) -> None:
        self.url = parse_base_url("--registry", url, "http://127.0.0.1:8081")
        self._headers = {
            "User-Agent": "standpipe",
            "Accept": f"{_CONTENT_TYPE}, application/json",
        }
        if credentials is not None:
            user, colon, password = credentials.partition(":")
            if not (user and colon):
                raise ConfigError("--credentials is not of the form USER:PASSWORD")
            authorization = aiohttp.encode_basic_auth(user, password, "utf-8")
            self._headers["Authorization"] = authorization
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers=self._headers, timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def find(self, wanted: Iterable[SubjectVersion]) -> list[Finding]:
        """Returns what is there, what is missing, and what would be refused. Changes nothing.

        Of several missing versions of one subject the registry can judge the first alone.

        Args:
            wanted: of each subject the versions in their order.

        Raises:
            RegistryUnavailableError: nobody answers, or not now.
            ConfigError: whoever answers is no registry, or lets us not in.
        """
        found: list[Finding] = []
        for version in wanted:
            is_next = not found or (
                found[-1].wanted.subject != version.subject or found[-1].state is State.PRESENT
            )
            found.append(await self._find(version, is_next=is_next))
        return found

    async def register(self, version: SubjectVersion) -> int:
        """Registers a version and returns its number in the registry.

        Raises:
            RegistryUnavailableError: nobody answers, or not now.
            ConfigError: the registry refuses it, or lets us not in.
        """
        answer = await self._post(f"/subjects/{quote(version.subject)}/versions", version)
        schema_id = answer.fields.get("id")
        if answer.status != HTTPStatus.OK or not isinstance(schema_id, int):
            raise ConfigError(
                f"{self.url} refuses version {version.version} of {version.subject}: "
                f"{answer.told}; {REFUSAL_REMEDY}"
            )
        return schema_id

    async def _find(self, version: SubjectVersion, *, is_next: bool) -> Finding:
        subject = quote(version.subject)
        answer = await self._post(f"/subjects/{subject}", version)
        if answer.status == HTTPStatus.OK:
            return Finding(version, State.PRESENT, answer.fields.get("id"))
        code = answer.fields.get("error_code")
        if answer.status == HTTPStatus.NOT_FOUND:
            if code == _SUBJECT_NOT_FOUND or (code == _SCHEMA_NOT_FOUND and not is_next):
                return Finding(version, State.MISSING)
            if code != _SCHEMA_NOT_FOUND:
                raise self._no_registry(f"HTTP {answer.status}")
            answer = await self._post(
                f"/compatibility/subjects/{subject}/versions/latest?verbose=true", version
            )
            if answer.fields.get("is_compatible") is True:
                return Finding(version, State.MISSING)
        messages = answer.fields.get("messages")
        told = "; ".join(map(str, messages)) if isinstance(messages, list) else ""
        return Finding(version, State.REFUSED, detail=" ".join((told or answer.told).split()))

    async def _post(self, path: str, version: SubjectVersion) -> _Answer:
        body = json.dumps({"schema": version.schema, "schemaType": "JSON"})
        async with self._opened(path, body) as response:
            raw = await self._read(response)
        try:
            fields = json.loads(raw)
        except ValueError:
            fields = None
        told = fields.get("message", "") if isinstance(fields, dict) else ""
        if response.status in _DENIED:
            raise ConfigError(
                f"{self.url} lets us not in (HTTP {response.status}): set --credentials to a user "
                "who may read and write subjects"
            )
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR or (
            response.status == HTTPStatus.TOO_MANY_REQUESTS
        ):
            raise RegistryUnavailableError(
                f"the schema registry at {self.url} is in trouble (HTTP {response.status}: "
                f"{told or 'no reason given'}): run the command again later, it goes on where it "
                "was"
            )
        known = {HTTPStatus.OK, HTTPStatus.NOT_FOUND, *_REFUSED}
        if not isinstance(fields, dict) or response.status not in known:
            raise self._no_registry(f"HTTP {response.status}")
        return _Answer(response.status, fields)

    @asynccontextmanager
    async def _opened(self, path: str, body: str) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None
        try:
            async with self._session.post(
                f"{self.url}{path}",
                data=body,
                headers={"Content-Type": _CONTENT_TYPE},
                allow_redirects=False,
            ) as response:
                yield response
        except (aiohttp.ClientError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise RegistryUnavailableError(
                f"no schema registry answers at {self.url} ({reason}): start it, or check "
                "--registry"
            ) from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        raw = bytearray()
        async for piece in response.content.iter_any():
            raw += piece
            if len(raw) > MAX_ANSWER_BYTES:
                raise self._no_registry(f"more than {MAX_ANSWER_BYTES} bytes")
        return bytes(raw)

    def _no_registry(self, what: str) -> ConfigError:
        return ConfigError(
            f"{self.url} does not answer like a schema registry ({what}): check --registry, with "
            "its path if it is not at the root"
        )
