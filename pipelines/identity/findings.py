"""What a DID's log and document say together, and what is wrong with them. Pure.

The log proves itself (`pipelines.identity.plc`); the document is signed by nobody, so the two are
compared. For people who look at one account: the pipeline takes what it needs, and does not stop
at a contradiction that does not matter to it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipelines.atproto.errors import IdentityError
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import Did, Handle
from pipelines.identity.documents import Identity
from pipelines.identity.handles import HandleCheck
from pipelines.identity.operation import Form, Operation
from pipelines.identity.plc import Refused, Valid


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found of one account.

    Attributes:
        did: the account.
        judged: the entries of its log; empty for an account without one.
        log_error: why the log as a whole cannot be read, or None.
        document: what its document says, or why there is nothing to be had; None if it was not
            asked for.
        served_document: the document as it came, whatever it is; None if nothing came.
        handle_check: whether its handle leads back to it; None if that was not asked for, or it
            claims none.
    """

    did: Did
    judged: Sequence[Valid | Refused] = ()
    log_error: IdentityError | None = None
    document: Identity | IdentityError | None = None
    served_document: object = None
    handle_check: HandleCheck | None = None

    @property
    def standing(self) -> Operation | None:
        """The last operation that stands: what it says is so now. None if none does."""
        for entry in reversed(self.judged):
            if isinstance(entry, Valid) and entry.nullified_by is None:
                return entry.logged.operation
        return None

    @property
    def claimed_handle(self) -> Handle | None:
        """The handle that the account claims now, unproven."""
        if isinstance(self.document, Identity):
            return self.document.handle
        return None if self.standing is None else self.standing.handle

    def problems(self) -> list[str]:
        """Returns a sentence for each thing that is wrong."""
        found = [*self._log_problems(), *self._document_problems()]
        if self.log_error is not None:
            found.insert(0, f"{self.log_error.reason}: {self.log_error.detail}")
        check = self.handle_check
        if check is not None and check.problem is not None:
            found.append(f"the handle {check.handle} is not the account's: {check.problem}")
        return found

    def _log_problems(self) -> Iterator[str]:
        for position, entry in enumerate(self.judged):
            match entry:
                case Refused(error=error):
                    yield f"{error.reason}: {error.detail}"
                case Valid(logged=logged, nullified_by=nullified_by):
                    is_void = nullified_by is not None
                    if logged.is_nullified is not None and logged.is_nullified != is_void:
                        yield (
                            f"operation {position}: the directory has it as "
                            f"{_state(logged.is_nullified)}, by the rules it is {_state(is_void)}"
                        )

    def _document_problems(self) -> Iterator[str]:
        document, standing = self.document, self.standing
        if isinstance(document, IdentityError):
            if standing is None or standing.form is not Form.TOMBSTONE:
                yield f"{document.reason}: {document.detail}"
        elif document is not None and standing is not None:
            if standing.form is Form.TOMBSTONE:
                yield "the DID was given up, but a document is served"
                return
            for name, logged, served in (
                ("signing key", standing.signing_key, document.signing_key),
                ("server", standing.pds, document.pds),
                ("handle", standing.handle, document.handle),
            ):
                if logged != served:
                    yield (
                        f"the {name} is {_shown(logged)} by the log, {_shown(served)} by the "
                        "document"
                    )


def _state(is_void: bool) -> str:
    return "void" if is_void else "standing"


def _shown(value: VerifyingKey | str | None) -> str:
    match value:
        case None:
            return "missing"
        case VerifyingKey():
            return value.did_key()
        case _:
            return value
