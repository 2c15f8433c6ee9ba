"""One run of a whole pipeline, from the first process to the end of the last one."""

import time
from collections.abc import Callable
from typing import TypeAlias

from pipelines.up.children import Upstream, addresses_in, upstream_of
from pipelines.up.runner import TICK_S, Runner
from pipelines.up.supervisor import Child, Failure

Source: TypeAlias = Upstream | Child


def run(
    runner: Runner,
    source: Source,
    stages: Callable[[Upstream], list[Child]],
    should_stop: Callable[[], bool],
    observe: Callable[[], None],
) -> Failure | None:
    """Runs a pipeline until it is asked to stop, or fails; then stops it in order.

    A KeyboardInterrupt, which is the second Ctrl-C, ends all processes at once.

    Args:
        runner: without children so far.
        source: a real upstream, or the simulated network to be started first.
        stages: the stages for an upstream.
        should_stop: asked every `TICK_S`.
        observe: called every `TICK_S`, to show or check something.

    Returns:
        What ended the run, or did not end cleanly; None if all went well.
    """
    supervisor = runner.supervisor
    network = source if isinstance(source, Child) else None
    runner.add([source] if isinstance(source, Child) else stages(source))
    while not supervisor.is_over:
        try:
            runner.tick()
            if should_stop() and not supervisor.is_stopping:
                supervisor.stop()
            if network is not None and not supervisor.is_stopping:
                addresses = addresses_in(runner.log_of(network).read_text(encoding="utf-8"))
                if addresses is not None:
                    network = None
                    runner.add(stages(upstream_of(addresses)))
            observe()
            time.sleep(TICK_S)
        except KeyboardInterrupt:
            supervisor.stop()
    return supervisor.failure
