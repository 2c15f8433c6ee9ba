"""What a generated network follows from: its settings, and how often what happens in it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Mix:
    """How often what happens, as probabilities from 0 to 1.

    Those of operations are from 180 seconds of the production network: 95.5 % create, 3.9 %
    delete, 0.6 % update, and 99 % of commits with one operation. Those of accounts and keys are
    far higher than there, so that a short run has some of each.

    Attributes:
        p256: of a key to be on P-256. Practically none is in production, and every reader of the
            network has to support it.
        delete: of an operation.
        update: of an operation.
        several_ops: of a commit to have more than one operation.
        gap: of some sequence numbers to be left out before an event.
        create_account: of the next event to be a creation, while accounts are wanting.
        delete_account: of the next event.
        deactivate_account: of the next event; and to come back, while some are inactive.
        change_handle: of the next event: a PLC operation and an `#identity`.
        rotate_key: of the next event: a PLC operation, an `#identity`, and a `#sync` to a commit
            that changes nothing.
        sign_again: of the next event: a `#sync` to a commit that changes nothing.
    """

    p256: float = 0.1
    delete: float = 0.039
    update: float = 0.006
    several_ops: float = 0.008
    gap: float = 0.02
    create_account: float = 0.1
    delete_account: float = 0.0004
    deactivate_account: float = 0.001
    change_handle: float = 0.001
    rotate_key: float = 0.0004
    sign_again: float = 0.001


@dataclass(frozen=True, slots=True)
class Settings:
    """What a generated network follows from: the same settings give the same bytes.

    Attributes:
        accounts_count: how many accounts live at a time; a deleted one is replaced.
        seed: tells networks with otherwise equal settings apart.
        records_count: records of each account before the first event. With any, all accounts
            exist before the stream begins; with none, it begins with their creation.
        mix: how often what happens.
    """

    accounts_count: int
    seed: int = 0
    records_count: int = 0
    mix: Mix = field(default_factory=Mix)
