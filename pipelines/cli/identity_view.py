"""What was found of an account, as JSON and as text."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.errors import IdentityError
from pipelines.atproto.keys import VerifyingKey
from pipelines.identity.documents import Identity
from pipelines.identity.findings import Findings
from pipelines.identity.operation import Form, Operation
from pipelines.identity.plc import LogEntry, Refused, Valid


def findings_as_json(findings: Findings) -> dict[str, Any]:
    """Returns everything that was found, as values of JSON.

    `log` has an item for each operation: its `state` is `standing`, `void` (then `nullified_by`
    says by which) or `refused` (then `reason` and `detail` say why).
    """
    problems, standing, document = findings.problems(), findings.standing, findings.document
    check = findings.handle_check
    return {
        "did": findings.did,
        "is_valid": not problems,
        "problems": problems,
        "current": None if standing is None else _content(standing),
        "document": _document(document),
        "handle": None if check is None else {"handle": check.handle, "leads_to": check.did},
        "log": [_entry(position, entry) for position, entry in enumerate(findings.judged)],
    }


def findings_as_text(findings: Findings) -> Iterator[str]:
    """Yields the lines of the same for a person."""
    shown = findings_as_json(findings)
    yield shown["did"]
    if shown["document"] is not None:
        yield "document"
        yield from member_lines(shown["document"])
    if shown["log"]:
        yield f"log, {len(shown['log'])} operations"
        for entry in shown["log"]:
            yield from _entry_lines(entry)
    if shown["current"] is not None:
        yield "current by the log"
        yield from member_lines(shown["current"])
    if shown["handle"] is not None:
        yield "handle, looked up"
        yield from member_lines(shown["handle"])
    if shown["problems"]:
        yield "problems"
        yield from (f"  FAILED   {problem}" for problem in shown["problems"])
    else:
        yield "ok: nothing is wrong"


def _document(document: Identity | IdentityError | None) -> dict[str, Any] | None:
    match document:
        case None:
            return None
        case Identity():
            return _content(document)
        case IdentityError():
            return {"reason": document.reason, "detail": document.detail}


def _content(says: Identity | Operation) -> dict[str, Any]:
    if isinstance(says, Operation) and says.form is Form.TOMBSTONE:
        return {"is_tombstone": True}
    return {
        "signing_key": _key(says.signing_key),
        "pds": says.pds,
        "handle": says.handle,
    }


def _key(key: VerifyingKey | None) -> str | None:
    return None if key is None else key.did_key()


def _entry(position: int, entry: Valid | Refused) -> dict[str, Any]:
    shown: dict[str, Any] = {"n": position}
    match entry:
        case Valid(logged=logged, signer=signer, nullified_by=nullified_by):
            shown |= {"state": "standing" if nullified_by is None else "void"}
            shown |= {"nullified_by": nullified_by, "signed_by": _key(signer)}
        case Refused(logged=logged, error=error):
            shown |= {"state": "refused", "reason": error.reason, "detail": error.detail}
    return shown if logged is None else shown | _logged(logged)


def _logged(logged: LogEntry) -> dict[str, Any]:
    operation = logged.operation
    return {
        "created_at": logged.created_at,
        "type": operation.form,
        "cid": encode_cid(operation.cid),
        "prev": None if operation.prev_cid is None else encode_cid(operation.prev_cid),
        "rotation_keys": [_key(key) for key in operation.rotation_keys],
        **_content(operation),
    }


def _entry_lines(entry: dict[str, Any]) -> Iterator[str]:
    match entry["state"]:
        case "standing":
            state = "standing"
        case "void":
            state = f"void, by operation {entry['nullified_by']}"
        case _:
            state = f"REFUSED: {entry['reason']}"
    yield f"  {entry['n']}  {entry.get('created_at', '-')}  {entry.get('type', '-')}  {state}"
    named = ("cid", "signed_by", "signing_key", "pds", "handle")
    yield from member_lines({name: entry[name] for name in named if name in entry}, indent=5)


def member_lines(members: Mapping[str, Any], indent: int = 2) -> Iterator[str]:
    """Yields a line for each member: its name and value, a dash for None."""
    for name, value in members.items():
        yield f"{'':{indent}}{name.replace('_', ' '):12} {'-' if value is None else value}"
