"""What quarantined messages are worth today, and whose repositories are to be fetched for it.

A message is proven again with the code and the keys of today. What would be accepted now was lost
to its repository, and what is authentic and still refused has left it suspect: in both cases the
whole repository is asked for, once for each account. The messages themselves never go into a topic
of records: they are old, and a record may have been changed or deleted since.

Pure, but for the look-up of keys.
"""

from collections import Counter
from enum import StrEnum
from typing import Final, NamedTuple, assert_never

from pipelines.atproto.syntax import Did, Tid
from pipelines.crawl.candidates import Known, is_complete_to
from pipelines.errors import ConfigError, IdentityUnavailableError
from pipelines.repair.requests import Cause, Request
from pipelines.verdict import KeyLookup, Proven, Refused, Skipped, Unsigned, judge_frame

# Some 300 bytes each.
MAX_ACCOUNTS_COUNT: Final = 200_000


class Finding(StrEnum):
    """What is thought of a message now."""

    ACCEPTED = "accepted"  # it would be taken
    SUSPECT = "suspect"  # it is refused, and its account did sign the commit in it
    REFUSED = "refused"  # it is refused, and nothing in it is known to be the account's
    NOT_KNOWN = "not_known"  # nobody can tell the account's key now


class Judged(NamedTuple):
    """A message, judged again.

    Attributes:
        finding: what is thought of it.
        did: whose repository is to be fetched for it, or None.
        rev: the signed revision that the repository has to have reached, or None.
    """

    finding: Finding
    did: Did | None = None
    rev: Tid | None = None


class _Account(NamedTuple):
    """Why a repository is to be fetched, and what it has to have reached."""

    reason: str
    rev: Tid | None


def judge(message: bytes, keys: KeyLookup, received_us: int | None) -> Judged:
    """Judges a quarantined message again.

    Args:
        message: as it came from the upstream.
        keys: where to look up signing keys, as of today.
        received_us: when it came, microseconds since the epoch: what "from the future" means.
    """
    try:
        verdict = judge_frame(message, keys, received_us)
    except IdentityUnavailableError:
        return Judged(Finding.NOT_KNOWN)
    match verdict:
        case Proven(verified):
            return Judged(Finding.ACCEPTED, verified.commit.did, verified.commit.rev)
        case Unsigned(event):
            return Judged(Finding.ACCEPTED, event.did)
        case Refused(authentic=None):
            return Judged(Finding.REFUSED)
        case Refused(authentic=opened):
            assert opened is not None
            return Judged(Finding.SUSPECT, opened.commit.did, opened.commit.rev)
        case Skipped():
            return Judged(Finding.ACCEPTED)
        case _:
            assert_never(verdict)


class Redrive:
    """Collects what messages come to.

    Attributes:
        counts: messages by the reason for which they were refused, and what is thought now.
    """

    def __init__(self) -> None:
        """Starts with nothing."""
        self.counts: dict[str, Counter[Finding]] = {}
        self._accounts: dict[Did, _Account] = {}

    def add(self, reason: str, judged: Judged) -> None:
        """Adds a message.

        Args:
            reason: for which it was refused.
            judged: what is thought of it now.

        Raises:
            ConfigError: there are more accounts than `MAX_ACCOUNTS_COUNT`.
        """
        self.counts.setdefault(reason, Counter())[judged.finding] += 1
        if judged.did is None:
            return
        before = self._accounts.get(judged.did)
        if before is None:
            if len(self._accounts) == MAX_ACCOUNTS_COUNT:
                raise ConfigError(
                    f"the messages are about more than {MAX_ACCOUNTS_COUNT:,} accounts: take "
                    "fewer at a time, with --since and --until or --reason"
                )
            self._accounts[judged.did] = _Account(reason, judged.rev)
        elif judged.rev is not None and (before.rev is None or judged.rev > before.rev):
            self._accounts[judged.did] = before._replace(rev=judged.rev)

    @property
    def dids(self) -> tuple[Did, ...]:
        """The accounts that messages are about, in the order of their first ones."""
        return tuple(self._accounts)

    def request(self, did: Did, known: Known | None, now_us: int) -> Request | None:
        """Returns what to ask for of an account; None if its repository needs nothing.

        Args:
            did: one of `dids`.
            known: what `repos` says of it.
            now_us: the time of day, microseconds since the epoch.
        """
        reason, rev = self._accounts[did]
        if known is not None and rev is not None and is_complete_to(known, rev):
            return None
        return Request(did, Cause.REDRIVE, reason, rev, None, now_us)
