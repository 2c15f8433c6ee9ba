"""How the commit at which a repository's records stand relates to what its server says. Pure.

    equal    the same commit
    behind   the server has a newer one: it may be on its way here, so it is looked at again
    drift    the server has another commit of that revision, an older one, or no repository

What a server says is a claim, unsigned: it decides what is fetched and never what is true.

Source: lexicon com.atproto.sync.getLatestCommit. spec: I-08, J-10
"""

from enum import StrEnum
from typing import NamedTuple, TypeAlias, assert_never

import orjson

from pipelines.atproto.commit import check_rev_not_future
from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.syntax import Tid, parse_tid
from pipelines.compact.events import Signed
from pipelines.compact.state import RepoState
from pipelines.repair.manifests import RepoError


class ServerHead(NamedTuple):
    """A server names its newest commit.

    Attributes:
        rev: the revision.
        commit: CID of the commit block, as text.
    """

    rev: Tid
    commit: str


class ServerRefusal(NamedTuple):
    """A server has no repository to give; `error` is the name of its reason."""

    error: RepoError


class NoAnswer(NamedTuple):
    """Nobody can say: no server is named, or it is away, or answers something else."""

    detail: str


ServerAnswer: TypeAlias = ServerHead | ServerRefusal | NoAnswer


class Standing(StrEnum):
    """What a comparison says."""

    EQUAL = "equal"
    BEHIND = "behind"
    DRIFT = "drift"
    INACTIVE = "inactive"  # the account is not active here: there is nothing to compare
    UNREACHABLE = "unreachable"


class Comparison(NamedTuple):
    """A repository, or a record, beside its server's answer.

    Attributes:
        standing: what it says.
        problem: why they are not equal, or None.
        rev: the revision that the server names, or None.
    """

    standing: Standing
    problem: str | None = None
    rev: Tid | None = None

    @property
    def is_apart(self) -> bool:
        """Whether the server has something else, for all that can be known."""
        return self.standing in (Standing.BEHIND, Standing.DRIFT)


def parse_answer(status: int, body: bytes, now_us: int) -> ServerAnswer:
    """Reads an answer to getLatestCommit.

    Args:
        status: of HTTP.
        body: the answer's, or its beginning.
        now_us: the time of day, microseconds since the epoch; tells what "future" means.
    """
    match status, _members(body):
        case _, None:
            return NoAnswer(f"status {status} and no JSON")
        case 200, {"cid": str(commit), "rev": rev}:
            try:
                parsed = parse_tid(rev)
                check_rev_not_future(parsed, now_us)
            except ProtocolError as error:
                return NoAnswer(f"a revision that cannot be: {error}")
            return ServerHead(parsed, commit)
    return parse_refusal(body) or NoAnswer(f"status {status} and no commit")


def parse_refusal(body: bytes) -> ServerRefusal | None:
    """Reads an answer that gives nothing of a repository; None if it does not say why.

    Args:
        body: the answer's, or its beginning.
    """
    match _members(body):
        case {"error": str(name)} if name in set(RepoError):
            return ServerRefusal(RepoError(name))
    return None


def _members(body: bytes) -> object:
    """Returns decoded JSON; None for what is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def compare(state: RepoState, answer: ServerAnswer | None) -> Comparison:
    """Compares a repository with an answer that came after its state was read.

    Args:
        state: of the repository.
        answer: of its server; None if it was not asked, as of an account that is not active.
    """
    if answer is None or not state.active:
        return Comparison(Standing.INACTIVE)
    match answer:
        case NoAnswer(detail):
            return Comparison(Standing.UNREACHABLE, detail)
        case ServerRefusal(error):
            return Comparison(Standing.DRIFT, f"the server answers {error}: the account is active")
        case ServerHead():
            return _compare_heads(None if state.head is None else state.head.signed, answer)
        case _:
            assert_never(answer)


def has_arrived(state: RepoState, rev: Tid) -> bool:
    """Tells whether a revision that was behind is here by now, or one after it.

    An account that is not active any more has nothing to wait for: nothing of it is taken over.
    """
    return not state.active or (state.head is not None and state.head.signed.rev >= rev)


def _compare_heads(ours: Signed | None, server: ServerHead) -> Comparison:
    if ours is None or ours.rev < server.rev:
        held = "none" if ours is None else ours.rev
        problem = f"the server has revision {server.rev}, we {held}"
        return Comparison(Standing.BEHIND, problem, server.rev)
    if ours.rev > server.rev:
        problem = f"the server has revision {server.rev}, which is older than {ours.rev}"
        return Comparison(Standing.DRIFT, problem, server.rev)
    if ours.commit != server.commit:
        problem = f"of one revision the server has commit {server.commit}, we {ours.commit}"
        return Comparison(Standing.DRIFT, problem, server.rev)
    return Comparison(Standing.EQUAL, None, server.rev)
