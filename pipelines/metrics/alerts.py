"""The alert rules for Prometheus, made from the registry of metrics. Pure.

`deploy/prometheus/alerts.yaml` is what `rules` returns, and a test holds them equal. Each alert
names the section of the runbook that says what to do.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pipelines.metrics.dashboard import quantile
from pipelines.metrics.registry import BY_NAME
from pipelines.status.overview import Condition
from pipelines.status.stages import RETENTION_WARNING_SHARE, RETENTION_WRONG_SHARE, STAGES
from pipelines.status.upstreams import TROUBLES

# Longer than a rebalance, a restart or a restore of a small store takes.
LAG_S: Final = 300
# A relay of the live network is never quiet for a second; a small host may be for minutes.
QUIET_S: Final = 300
# Half of the time after which the broker aborts a transaction.
SLOW_S: Final = 5
REFUSED_SHARE: Final = 0.01
DESYNCHRONIZED_SHARE: Final = 0.05
PARKED_COUNT: Final = 1_000
# A few repositories are always at servers that are gone for good.
FAILED_FETCHES_SHARE: Final = 0.5


class Severity(StrEnum):
    """Whether it can wait until tomorrow."""

    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule.

    Attributes:
        name: in one word.
        expression: in PromQL.
        minutes: how long it has to be true.
        severity: how urgent it is.
        summary: what is the matter; may use Prometheus's templates.
        section: of the runbook.
    """

    name: str
    expression: str
    minutes: int
    severity: Severity
    summary: str
    section: str


def alerts() -> tuple[Alert, ...]:
    """Returns the rules."""
    alive = "|".join(condition for condition in Condition if condition.is_alive)
    ending = "|".join(stage.name for stage in STAGES if stage.may_end)
    processes, state = _name("processes"), _name("state")
    refused, proven = (f"sum(rate({_name(name)}[10m]))" for name in ("refused", "proven"))
    repos = _name("repos")
    fetches = f'sum(rate({_name("repo_fetches")}{{{{outcome=~"{{}}"}}}}[1h]))'
    return (
        Alert(
            "StandpipeUnwatched",
            f"absent({processes})",
            5,
            Severity.CRITICAL,
            "Nothing is seen of the deployment: it is down, or `standpipe metrics serve` is",
            "nothing runs",
        ),
        Alert(
            "StandpipeProcessFailed",
            f'sum by (stage) ({processes}{{condition="{Condition.FAILED}"}}) > 0',
            1,
            Severity.CRITICAL,
            "{{ $value }} processes of {{ $labels.stage }} failed",
            "failed",
        ),
        Alert(
            "StandpipeProcessSilent",
            f'sum by (stage) ({processes}{{condition="{Condition.SILENT}"}}) > 0',
            1,
            Severity.CRITICAL,
            "{{ $value }} processes of {{ $labels.stage }} give no sign of life",
            "silent",
        ),
        Alert(
            "StandpipeStageStopped",
            f'sum by (stage) ({processes}{{condition=~"{alive}",stage!~"{ending}"}}) == 0',
            5,
            Severity.CRITICAL,
            "No {{ $labels.stage }} runs",
            "a stage does not run",
        ),
        Alert(
            "StandpipeWaits",
            f'{state}{{state="{Condition.WAITING}"}} == 1',
            10,
            Severity.WARNING,
            "{{ $labels.stage }} {{ $labels.slot }} has been waiting for ten minutes",
            "groups.stuck",
        ),
        Alert(
            "StandpipeTransactionsSlow",
            f"{quantile(BY_NAME['transaction_duration_seconds'], 0.95, '10m')} > {SLOW_S}",
            15,
            Severity.WARNING,
            "One in twenty transactions of {{ $labels.stage }} takes more than "
            "{{ $value | humanizeDuration }}",
            "transactions are slow",
        ),
        Alert(
            "StandpipeLag",
            f"{_name('lag_seconds')} > {LAG_S}",
            10,
            Severity.WARNING,
            "{{ $labels.stage }} is {{ $value | humanizeDuration }} behind",
            "groups.stuck",
        ),
        Alert(
            "StandpipeRetentionNear",
            f"{_name('retention_used_ratio')} >= {RETENTION_WARNING_SHARE}",
            10,
            Severity.WARNING,
            "{{ $labels.stage }} has used {{ $value | humanizePercentage }} of its input's time",
            "groups.retention",
        ),
        Alert(
            "StandpipeRetentionReached",
            f"{_name('retention_used_ratio')} >= {RETENTION_WRONG_SHARE}",
            1,
            Severity.CRITICAL,
            "{{ $labels.stage }} is about to lose messages that it has not processed",
            "groups.retention",
        ),
        Alert(
            "StandpipeUpstreamQuiet",
            f"time() - {_name('upstream_last_message_timestamp_seconds')} > {QUIET_S}",
            1,
            Severity.WARNING,
            "No upstream has brought anything for {{ $value | humanizeDuration }}",
            "the upstream is quiet",
        ),
        Alert(
            "StandpipeUpstreamAway",
            f"{_name('upstream_connected')} == 0",
            10,
            Severity.WARNING,
            "There is no connection to {{ $labels.host }}",
            "an upstream is away",
        ),
        Alert(
            "StandpipeUpstreamBlind",
            " or ".join(
                f"time() - {_name(f'upstream_{trouble}_timestamp_seconds')} > 0"
                for trouble in TROUBLES
            ),
            1,
            Severity.WARNING,
            "{{ $labels.host }} has told little or nothing for {{ $value | humanizeDuration }}",
            "an upstream is blind",
        ),
        Alert(
            "StandpipeBusyAccounts",
            f"{_name('upstream_busy_accounts')} > 0",
            15,
            Severity.WARNING,
            "{{ $labels.host }} has {{ $value }} accounts with a thousand events a minute or more",
            "an account sends too much",
        ),
        Alert(
            "StandpipeRefusals",
            f"{refused} / ({refused} + {proven}) > {REFUSED_SHARE}",
            15,
            Severity.WARNING,
            "{{ $value | humanizePercentage }} of signed frames are refused",
            "many frames are refused",
        ),
        Alert(
            "StandpipeParked",
            f'sum({_name("parked")}{{what="frames"}}) > {PARKED_COUNT}',
            15,
            Severity.WARNING,
            "{{ $value }} frames wait for the identity of their account",
            "directory.reachable",
        ),
        Alert(
            "StandpipeDesynchronized",
            f'sum({repos}{{sync="desynchronized"}}) / sum({repos}) > {DESYNCHRONIZED_SHARE}',
            60,
            Severity.WARNING,
            "{{ $value | humanizePercentage }} of the repositories are desynchronized",
            "many repositories are desynchronized",
        ),
        Alert(
            "StandpipeAuditMismatch",
            f'sum(increase({_name("audited")}{{finding="mismatch"}}[6h])) > 0',
            0,
            Severity.CRITICAL,
            "{{ $value }} repositories whose records are not those of the signed commit",
            "records do not match their root",
        ),
        Alert(
            "StandpipeFetchesFail",
            f"{fetches.format('failed')} / ({fetches.format('failed|snapshot|absent')})"
            f" > {FAILED_FETCHES_SHARE}",
            60,
            Severity.WARNING,
            "{{ $value | humanizePercentage }} of the tries to fetch a repository are in vain",
            "repositories cannot be fetched",
        ),
    )


def rules() -> dict[str, Any]:
    """Returns the content of a rule file, as YAML has it."""
    return {
        "groups": [
            {
                "name": "standpipe",
                "rules": [
                    {
                        "alert": alert.name,
                        "expr": alert.expression,
                        "for": f"{alert.minutes}m",
                        "labels": {"severity": alert.severity.value},
                        "annotations": {
                            "summary": alert.summary,
                            "runbook": f'deploy/RUNBOOK.md, "{alert.section}"',
                        },
                    }
                    for alert in alerts()
                ],
            }
        ]
    }


def _name(metric: str) -> str:
    return BY_NAME[metric].full_name
