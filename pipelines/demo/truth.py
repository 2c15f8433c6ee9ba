"""What really happened in a simulated network, as it says itself at `/sim/truth`."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.atproto.syntax import Did
from pipelines.errors import UpstreamUnavailableError

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class TrueAccount:
    """An account as it really is.

    Attributes:
        status: why it may not be shown, or None.
        head: revision, commit CID and root as text; None each without a commit.
        records: path → record CID as text.
    """

    status: str | None
    head: tuple[str | None, str | None, str | None]
    records: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Truth:
    """A network as it really is.

    Attributes:
        seq: sequence number of its last event.
        accounts: all of them.
    """

    seq: int
    accounts: Mapping[Did, TrueAccount]


def load_truth(base: str) -> Truth:
    """Asks a simulated network what really happened up to its last frame.

    Args:
        base: address of its PLC directory.

    Raises:
        UpstreamUnavailableError: it does not answer.
    """
    summary = _get(f"{base}/sim/truth")
    return Truth(
        seq=summary["seq"],
        accounts={did: _account(_get(f"{base}/sim/truth/{did}")) for did in summary["accounts"]},
    )


def _account(fields: Mapping[str, Any]) -> TrueAccount:
    return TrueAccount(
        status=fields["status"],
        head=(fields["rev"], fields["commit_cid"], fields["data_cid"]),
        records=fields["records"],
    )


def _get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310 - our own
            return json.load(response)
    except (urllib.error.URLError, TimeoutError) as error:
        raise UpstreamUnavailableError(f"the simulated network does not answer: {error}") from None
