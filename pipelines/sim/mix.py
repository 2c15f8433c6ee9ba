"""What a generated network follows from: its settings, and how often what happens in it."""

from dataclasses import dataclass, field, fields
from typing import Any, Final

from pipelines.errors import ConfigError


def _share(default: float, meaning: str) -> Any:
    """Returns a field of `Mix`; its meaning is for `standpipe sim --help`, too."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True)
class Mix:
    """How often what happens, as probabilities from 0 to 1.

    Those of operations are from 180 seconds of the production network: 95.5 % create, 3.9 %
    delete, 0.6 % update, and 99 % of commits with one operation. Those of accounts and keys are
    far higher than there, so that a short run has some of each: practically no account there has a
    P-256 key or a did:web, and every reader has to support them.

    What happens to an account is told with an `#identity` where its document changes, and a new
    handle or key of a did:plc is an operation that the host's rotation key has signed.

    A did:web keeps its signing key unless `rotate_web_key` says otherwise: nobody has a history of
    its keys, so that whoever reads behind a change cannot prove what was signed before.

    Raises:
        ConfigError: one is not from 0 to 1, or those of the next event are more than 1 together.
    """

    p256: float = _share(0.1, "a key is on P-256, not K-256")
    did_web: float = _share(0.1, "an account has a did:web, not a did:plc")
    delete: float = _share(0.039, "an operation is a delete")
    update: float = _share(0.006, "an operation is an update")
    several_ops: float = _share(0.008, "a commit has more than one operation")
    gap: float = _share(0.02, "sequence numbers are left out before an event")
    create_account: float = _share(0.1, "a new account is next, while accounts are wanting")
    delete_account: float = _share(0.0004, "the deletion of an account is next")
    deactivate_account: float = _share(
        0.001, "a deactivation is next; likewise, while some are inactive, a return"
    )
    change_handle: float = _share(0.001, "a change of a handle is next")
    rotate_key: float = _share(0.0004, "a new signing key is next, with a #sync that it signs")
    rotate_web_key: float = _share(0.0, "this new key is made although the account has a did:web")
    sign_again: float = _share(0.001, "a #sync to a commit that changes nothing is next")

    def __post_init__(self) -> None:
        _check(self, EXCLUSIVE)


@dataclass(frozen=True, slots=True)
class Trouble:
    """How often what goes wrong, as probabilities from 0 to 1; see `pipelines.sim.troubles`.

    Raises:
        ConfigError: one is not from 0 to 1, or those of the next event are more than 1 together.
    """

    drop_commit: float = _share(0, "a commit is next that nobody is told of")
    skip_commit: float = _share(0, "so it is, and the one after it claims to be its own successor")
    wrong_since: float = _share(0, "a commit is next that claims a revision before it in vain")
    wrong_prev_data: float = _share(0, "a commit is next that claims a root before it in vain")
    storm_sync: float = _share(0, "a storm of #sync of one account is next")
    flap_account: float = _share(0, "an account is next that goes and comes, perhaps to stay away")
    import_repo: float = _share(0, "an import that removes half of a repository is next")
    migrate_account: float = _share(0, "a migration to another PDS is next")
    return_account: float = _share(
        0, "an account that takes the place of a deleted one is that one"
    )

    def __post_init__(self) -> None:
        _check(self, tuple(item.name for item in fields(self) if item.name != "return_account"))

    @property
    def is_any(self) -> bool:
        """Whether anything may go wrong."""
        return any(getattr(self, item.name) for item in fields(self))


def _check(shares: Mix | Trouble, exclusive: tuple[str, ...]) -> None:
    for item in fields(shares):
        share = getattr(shares, item.name)
        if not 0 <= share <= 1:
            raise ConfigError(f"{item.name} is {share}: choose a number from 0 to 1")
    total = sum(getattr(shares, name) for name in exclusive)
    if total > 1:
        raise ConfigError(f"{', '.join(exclusive)} are {total:g} together: choose 1 at most")


# What may happen to the account of the next event; else it writes.
EXCLUSIVE: Final = (
    "delete_account",
    "deactivate_account",
    "change_handle",
    "rotate_key",
    "sign_again",
)


def meanings(shares: type[Mix | Trouble]) -> dict[str, str]:
    """Returns what each share is the probability of, by its name."""
    return {item.name: item.metadata["meaning"] for item in fields(shares)}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a generated network follows from: the same settings give the same bytes.

    Attributes:
        accounts_count: how many accounts live at a time; a deleted one is replaced.
        seed: tells networks with otherwise equal settings apart.
        records_count: records of each account before the first event. With any, all accounts
            exist before the stream begins; with none, it begins with their creation.
        large_count: records of one more account, which exists before the first event; 0 for none.
        hosts_count: PDSes among which the accounts are spread.
        mix: how often what happens.
        trouble: how often what goes wrong.
        calm_after: events after which nothing goes wrong any more, and every account of which
            nobody can know how it is writes; None for never.

    Raises:
        ConfigError: accounts are to migrate, and there is one PDS.
    """

    accounts_count: int
    seed: int = 0
    records_count: int = 0
    large_count: int = 0
    hosts_count: int = 1
    mix: Mix = field(default_factory=Mix)
    trouble: Trouble = field(default_factory=Trouble)
    calm_after: int | None = None

    def __post_init__(self) -> None:
        if self.trouble.migrate_account and self.hosts_count == 1:
            raise ConfigError("accounts cannot migrate with one PDS: choose more hosts")
