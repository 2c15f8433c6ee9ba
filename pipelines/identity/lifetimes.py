"""For how long what is known of an identity is used, and what it is worth then. Pure.

Times are microseconds since the epoch.
"""

from typing import Final

from pipelines.atproto.errors import IdentityError
from pipelines.errors import IdentityUnavailableError
from pipelines.identity.lookups import Outcome
from pipelines.identity.memory import RememberedKey
from pipelines.identity.pace import MAX_RETRY_AFTER_S

SECOND_US: Final = 1_000_000

# How long a revoked key is still trusted if the announcement of its change was lost; relays in
# use have the same. Shorter means more requests to the directory, for every active account.
IDENTITY_LIFETIME_US: Final = 24 * 3_600 * SECOND_US
# And how long while nobody can say whether it still holds.
UNCONFIRMED_LIFETIME_US: Final = 7 * IDENTITY_LIFETIME_US
# That a DID does not exist, or has no usable key. An announcement ends it sooner.
NEGATIVE_LIFETIME_US: Final = 300 * SECOND_US
# A DID that was made just now may not be everywhere yet: for so long nobody can say that it does
# not exist, and it is asked for more often.
NEW_DID_US: Final = 180 * SECOND_US
NEW_DID_LIFETIME_US: Final = 15 * SECOND_US
# That nobody could say: long enough that a batch does not ask once per commit.
UNAVAILABLE_LIFETIME_US: Final = 5 * SECOND_US
# A history is only asked for when the current key fails, and must not miss a change that has
# just been made.
HISTORY_LIFETIME_US: Final = 60 * SECOND_US


def is_fresh(remembered: RememberedKey, now_us: int) -> bool:
    """Tells whether a key may be used without asking again."""
    return now_us - remembered.learned_s * SECOND_US < IDENTITY_LIFETIME_US


def is_usable(remembered: RememberedKey, now_us: int) -> bool:
    """Tells whether a key may be used while nobody can say whether it still holds."""
    return now_us - remembered.learned_s * SECOND_US < UNCONFIRMED_LIFETIME_US


def refusal_lifetime_us(asked_us: int, missing_since_us: int | None) -> int:
    """Returns for how long it counts that a DID has no usable identity.

    Args:
        asked_us: when that was found.
        missing_since_us: when it was first found not to exist; None if it exists.
    """
    if missing_since_us is not None and asked_us - missing_since_us < NEW_DID_US:
        return NEW_DID_LIFETIME_US
    return NEGATIVE_LIFETIME_US


def history_lifetime_us(outcome: Outcome) -> int:
    """Returns for how long the outcome of a look-up of a history counts."""
    match outcome:
        case IdentityUnavailableError():
            return unavailable_lifetime_us(outcome)
        case IdentityError():
            return NEGATIVE_LIFETIME_US
        case _:
            return HISTORY_LIFETIME_US


def unavailable_lifetime_us(error: IdentityUnavailableError) -> int:
    """Returns for how long it counts that nobody could say."""
    wanted_s = min(error.retry_after_s or 0.0, MAX_RETRY_AFTER_S)
    return max(UNAVAILABLE_LIFETIME_US, int(wanted_s * SECOND_US))
