"""`standpipe identity check`: one account's log and document, verified."""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

import click
import orjson

from pipelines.atproto.errors import IdentifierError, IdentityError, PlcError, Reason
from pipelines.atproto.syntax import Did, Handle, parse_did
from pipelines.cli.identity_view import findings_as_json, findings_as_text
from pipelines.cli.resolving import resolver_options
from pipelines.errors import ConfigError
from pipelines.identity.documents import Identity, parse_document
from pipelines.identity.findings import Findings
from pipelines.identity.handles import HandleCheck, HandleResolver
from pipelines.identity.plc import judge_log
from pipelines.identity.resolver import Resolver


@click.command()
@click.argument("target", metavar="DID|FILE")
@click.option(
    "--handle", "checks_handle", is_flag=True, help="Look up whether the handle leads back, too."
)
@click.option("--json", "is_json", is_flag=True, help="One JSON object on stdout.")
@resolver_options
def check(target: str, *, checks_handle: bool, is_json: bool, resolver: Resolver) -> int:
    """Verify a PLC log, operation by operation.

    DID is looked up: its document and, for did:plc, its audit log, which have to agree. FILE is
    an audit log as a directory serves it at /<did>/log/audit (- for standard input).

    \b
    standpipe identity check did:plc:ewvi7nxzyoun6zhxrhs64oiz
    curl -s https://plc.directory/did:plc:…/log/audit | standpipe identity check -

    Each operation is hashed, its signature checked with the keys that the one before it allows,
    and which of them stand is worked out anew: a directory can leave operations out, but it
    cannot make any up.

    Exit code 0 if nothing is wrong, 1 if something is, 2 on wrong usage.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    if target.startswith("did:"):
        findings = look_up(_parse_did(target), resolver)
    else:
        findings = _read(target)
    if checks_handle:
        findings = with_handle_check(findings)
    if is_json:
        click.echo(json.dumps(findings_as_json(findings)))
    else:
        click.echo("\n".join(findings_as_text(findings)))
    return 1 if findings.problems() else 0


def look_up(did: Did, resolver: Resolver) -> Findings:
    """Fetches an account's document and log, and judges them; closes the resolver.

    Raises:
        IdentityUnavailableError: one of them cannot be had now.
    """

    async def fetch() -> Findings:
        try:
            return await _fetch(did, resolver)
        finally:
            await resolver.close()

    return asyncio.run(fetch())


def with_handle_check(findings: Findings) -> Findings:
    """Looks up whether the handle that an account claims leads back to it."""
    handle = findings.claimed_handle
    if handle is None:
        return findings

    async def look_it_up(claimed: Handle) -> HandleCheck:
        handles = HandleResolver()
        try:
            return await handles.check(findings.did, claimed)
        finally:
            await handles.close()

    return replace(findings, handle_check=asyncio.run(look_it_up(handle)))


async def _fetch(did: Did, resolver: Resolver) -> Findings:
    found = Findings(did)
    try:
        served = await resolver.raw_document(did, past_caches=True)
        found = replace(found, served_document=served)
        found = replace(found, document=parse_document(did, served))
    except IdentityError as error:
        found = replace(found, document=error)
    try:
        log = await resolver.raw_audit_log(did)
    except IdentityError as error:
        return replace(found, log_error=error)
    if log is not None:
        return _with_log(found, log)
    if did.startswith("did:plc:") and isinstance(found.document, Identity):
        missing = IdentityError(
            Reason.IDENTITY_LOG, "the directory has a document of this DID, but no log", did=did
        )
        return replace(found, log_error=missing)
    return found


def _with_log(found: Findings, log: object) -> Findings:
    try:
        return replace(found, judged=judge_log(found.did, log))
    except PlcError as error:
        return replace(found, log_error=error)


def _read(name: str) -> Findings:
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read an audit log from {name}: {error.strerror}; a DID begins with did:"
        ) from None
    try:
        log = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ConfigError(
            f"{name} is not JSON ({error}): an audit log is needed, as a directory serves it at "
            "/<did>/log/audit"
        ) from None
    match log:
        case [{"did": str(did)}, *_]:
            return _with_log(Findings(_parse_did(did)), log)
    raise ConfigError(f"{name} is not an audit log: a list of operations with their DID is needed")


def _parse_did(text: str) -> Did:
    try:
        return parse_did(text)
    except IdentifierError as error:
        raise ConfigError(
            f"{error.detail}; write it like did:plc:ewvi7nxzyoun6zhxrhs64oiz"
        ) from None
