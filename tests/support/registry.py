"""A schema registry that behaves as Confluent documents it, for tests of what talks to one.

Source: docs.confluent.io/platform/current/schema-registry/develop/api.html.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


def _incompatibilities(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Returns why the new schema does not accept all that the old one does, at the top level."""
    told = [
        f"PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL at /properties/{name}"
        for name in old.get("properties", {})
        if name not in new.get("properties", {})
    ]
    return told + [
        f"REQUIRED_ATTRIBUTE_ADDED at /required/{name}"
        for name in new.get("required", [])
        if name not in old.get("required", [])
    ]


@dataclass
class FakeRegistry:
    """A registry in memory; `handle` answers its requests.

    Attributes:
        subjects: the texts of each subject's versions, from 1.
        ids: number of each text.
        written: subjects in the order in which something was registered.
        is_lying: whether compatibility checks pass whatever comes, as under another's hands.
    """

    subjects: dict[str, list[str]] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    is_lying: bool = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        assert request.headers["Content-Type"] == CONTENT_TYPE
        assert set(body) == {"schema", "schemaType"}
        assert body["schemaType"] == "JSON"
        json.loads(body["schema"])
        match request.path.strip("/").split("/"):
            case ["subjects", subject]:
                return self._look_up(subject, body["schema"])
            case ["subjects", subject, "versions"]:
                return self._register(subject, body["schema"])
            case ["compatibility", "subjects", subject, "versions", "latest"]:
                return self._check(subject, body["schema"])
        return _error(404, 404, "HTTP 404 Not Found")

    def _look_up(self, subject: str, schema: str) -> web.Response:
        if subject not in self.subjects:
            return _error(404, 40401, f"Subject '{subject}' not found.")
        if schema not in self.subjects[subject]:
            return _error(404, 40403, "Schema not found")
        version = self.subjects[subject].index(schema) + 1
        told = {"subject": subject, "id": self.ids[schema], "version": version, "schema": schema}
        return _answer(200, told)

    def _check(self, subject: str, schema: str) -> web.Response:
        if subject not in self.subjects:
            return _error(404, 40401, f"Subject '{subject}' not found.")
        reasons = [] if self.is_lying else self._reasons(subject, schema)
        return _answer(200, {"is_compatible": not reasons, "messages": reasons})

    def _register(self, subject: str, schema: str) -> web.Response:
        versions = self.subjects.get(subject, [])
        if schema not in versions:
            if versions and (reasons := self._reasons(subject, schema)):
                told = f"Schema being registered is incompatible with an earlier schema: {reasons}"
                return _error(409, 409, told)
            self.subjects.setdefault(subject, []).append(schema)
            self.ids.setdefault(schema, len(self.ids) + 1)
            self.written.append(subject)
        return _answer(200, {"id": self.ids[schema]})

    def _reasons(self, subject: str, schema: str) -> list[str]:
        return _incompatibilities(json.loads(self.subjects[subject][-1]), json.loads(schema))


def _answer(status: int, fields: dict[str, Any]) -> web.Response:
    return web.Response(status=status, text=json.dumps(fields), content_type=CONTENT_TYPE)


def _error(status: int, code: int, message: str) -> web.Response:
    return _answer(status, {"error_code": code, "message": message})
