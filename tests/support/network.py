"""Generated networks for tests, and the keys that belong to them."""

import itertools

from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import Did
from pipelines.identity.documents import parse_document
from pipelines.identity.plc import key_at, verify_audit_log
from pipelines.sim.events import Event
from pipelines.sim.generator import Generator
from pipelines.sim.identities import AccountIdentity
from pipelines.sim.mix import Mix, Settings, Trouble

# More of everything that is rare, so that a few thousand events have some of each.
LIVELY = Mix(
    p256=0.3,
    did_web=0.3,
    delete=0.2,
    update=0.05,
    several_ops=0.1,
    create_account=0.05,
    delete_account=0.005,
    deactivate_account=0.01,
    change_handle=0.01,
    rotate_key=0.01,
    rotate_web_key=0.5,
    sign_again=0.01,
)

# Some of everything that can go wrong, likewise.
TROUBLED = Trouble(
    drop_commit=0.01,
    skip_commit=0.01,
    wrong_since=0.01,
    wrong_prev_data=0.01,
    storm_sync=0.002,
    flap_account=0.01,
    import_repo=0.01,
    migrate_account=0.01,
    return_account=0.5,
)


def make_events(settings: Settings, count: int) -> list[Event]:
    """Returns the first events of a network."""
    return list(itertools.islice(Generator(settings).events(), count))


class DirectoryKeys:
    """Keys for the judge: what the directory says, fetched anew each time."""

    def __init__(self) -> None:
        self.identities: dict[Did, AccountIdentity] = {}

    def current_key(self, did: Did) -> VerifyingKey:
        return parse_document(did, self.identities[did].document()).require_key()

    def refreshed_key(self, did: Did, since_us: int | None) -> VerifyingKey | None:
        raise AssertionError(f"the current key of {did} is right at {since_us}")

    def key_at(self, did: Did, time_us: int) -> VerifyingKey | None:
        log = self.identities[did].audit_log()
        return None if log is None else key_at(verify_audit_log(did, log), time_us)
