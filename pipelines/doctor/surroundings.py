"""Checks of what is around the cluster: processes, clocks, disks, the directory. Pure."""

from collections.abc import Sequence
from typing import Final

from pipelines.atproto.commit import MAX_CLOCK_SKEW_US
from pipelines.doctor.findings import Judgement, Result, counted, fine
from pipelines.doctor.snapshot import Clock, Directory, Disk
from pipelines.status.overview import Overview
from pipelines.status.text import duration_text

# A machine that keeps time by the network is off by milliseconds; a beat may be under way for some
# hundred of them.
SKEW_WARNING_S: Final = 2.0
# The bridge's clock says what "from the future" is: one that is behind by the tolerance refuses
# everything.
SKEW_WRONG_S: Final = MAX_CLOCK_SKEW_US / 1e6 / 2
# RocksDB writes a store anew while it compacts it, and so needs room for a second copy.
DISK_WARNING_SHARE: Final = 0.1
DISK_WRONG_BYTES: Final = 512 * 1024 * 1024


def judge_processes(overview: Overview) -> Judgement:
    """Judges whether the processes of the deployment are alive, as `standpipe status` does."""
    if overview.problems:
        return Judgement(
            Result.WRONG,
            f"{counted(len(overview.problems), 'problem')} with processes",
            tuple(overview.problems),
            "`standpipe status` shows all of them",
        )
    alive = sum(
        process.condition.is_alive for stage in overview.stages for process in stage.processes
    )
    return fine(
        f"{counted(alive, 'process', 'processes')} of "
        f"{counted(len(overview.stages), 'stage')} alive"
    )


def judge_clocks(clocks: Sequence[Clock]) -> Judgement:
    """Judges how far clocks are from the broker's."""
    off = [clock for clock in clocks if abs(clock.ahead_s) >= SKEW_WARNING_S]
    worst_s = max((abs(clock.ahead_s) for clock in clocks), default=0.0)
    if not off:
        return fine(f"{counted(len(clocks), 'clock')}, within {worst_s:.2f} s of the broker's")
    return Judgement(
        Result.WRONG if worst_s >= SKEW_WRONG_S else Result.WARNING,
        f"{len(off)} of {counted(len(clocks), 'clock')} not as the broker's, by up to "
        f"{duration_text(worst_s)}",
        tuple(
            f"{clock.name} is {duration_text(abs(clock.ahead_s))} "
            f"{'ahead' if clock.ahead_s > 0 else 'behind'}"
            for clock in off
        ),
        "set the clocks of these machines by the network (NTP); a bridge whose clock is five "
        "minutes behind has every commit refused as one from the future",
    )


def judge_disks(disks: Sequence[Disk]) -> Judgement:
    """Judges whether local stores have room."""
    unusable = [disk for disk in disks if disk.problem is not None]
    full = [disk for disk in disks if disk.problem is None and disk.free_bytes < DISK_WRONG_BYTES]
    tight = [
        disk
        for disk in disks
        if disk.problem is None and disk.free_bytes < DISK_WARNING_SHARE * disk.total_bytes
    ]
    bad = unusable or full or tight
    if not bad:
        return fine("; ".join(_disk_text(disk) for disk in disks))
    return Judgement(
        Result.WARNING if bad is tight else Result.WRONG,
        f"{len(bad)} of {counted(len(disks), 'folder')} of local stores "
        + ("not usable" if bad is unusable else "short of room"),
        tuple(_disk_text(disk) for disk in bad),
        "make room, or put the stores elsewhere with --state-dir; a store may be deleted while "
        "its process rests, and is built anew from the topics",
    )


def judge_directory(directory: Directory) -> Judgement:
    """Judges whether identities can be looked up."""
    if directory.problem is None:
        return fine(f"{directory.url} answered within {directory.seconds:.2f} s")
    return Judgement(
        Result.WRONG,
        f"{directory.url} does not answer",
        (directory.problem,),
        "frames of accounts whose keys are not known yet are parked until it does; look at the "
        "way there from this machine, or name a mirror with --plc-url",
    )


def _disk_text(disk: Disk) -> str:
    if disk.problem is not None:
        return f"{disk.folder}: {disk.problem}"
    free = disk.free_bytes / 2**30
    return f"{disk.folder}: {free:.1f} GiB of {disk.total_bytes / 2**30:.1f} GiB are free"
