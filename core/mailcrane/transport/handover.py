"""One delivery: the plugins are told, the transport is called, and its answer is checked."""

from __future__ import annotations

import msgspec

from mailcrane.model.delivery import Delivery, Outcome, RecipientResult
from mailcrane.model.transport import NotNow, Transport
from mailcrane.observe.log import get_log
from mailcrane.plugin.caller import Hooks
from mailcrane.plugin.errors import HookFailed
from mailcrane.result.check import NonsenseResults, check_results
from mailcrane.result.classify import failed_text
from mailcrane.transport.content import merge_preparations
from mailcrane.transport.deadline import BoundedCalls, DeadlinePassed, Interrupted, delivery_seconds

log = get_log(__name__)

Results = tuple[RecipientResult, ...]


async def hand_over(
    hooks: Hooks, name: str, transport: Transport, delivery: Delivery, *, calls: BoundedCalls
) -> Results:
    """Hand a delivery to a transport and return one result per forward-path, in order.

    Whatever the transport does wrong defers all forward-paths: the fault is ours, and the octets are still here.

    Args:
        name: Of the transport.
        calls: Where the transport runs.

    Raises:
        Interrupted: the server stops; nothing is known of what came of the delivery.
        NotNow: the transport has tried nothing.
    """
    try:
        preparation = merge_preparations(
            [answer for _, answer in await hooks.prepare_delivery(delivery=delivery, transport=name)]
        )
    except HookFailed as failure:
        return defer_all(delivery, failed_text(failure))
    if preparation.defer is not None:
        result = RecipientResult(
            Outcome.DEFERRED, preparation.defer, f"put off by a plugin: {preparation.defer}", notes=preparation.notes
        )
        return (result,) * len(delivery.entries)
    results = await _deliver(name, transport, delivery, calls)
    if not preparation.notes:
        return results
    return tuple(msgspec.structs.replace(result, notes=(*preparation.notes, *result.notes)) for result in results)


def defer_all(delivery: Delivery, error: str) -> Results:
    """Return results that put off every forward-path of a delivery."""
    return (RecipientResult(Outcome.DEFERRED, error=error),) * len(delivery.entries)


async def _deliver(name: str, transport: Transport, delivery: Delivery, calls: BoundedCalls) -> Results:
    seconds = delivery_seconds(delivery.content.size_octets)
    try:
        answer = await calls.call(seconds, lambda: transport.deliver(delivery))
        return check_results(answer, len(delivery.entries))
    except (Interrupted, NotNow):
        raise
    except DeadlinePassed as late:
        log.error("transport did not answer", delivery=delivery.id, transport=name, problem=str(late))
        return defer_all(delivery, f"transport {name}: {late}")
    except NonsenseResults as nonsense:
        log.error("transport answered nonsense", delivery=delivery.id, transport=name, problem=str(nonsense))
        return defer_all(delivery, f"transport {name}: {nonsense}")
    except Exception as error:
        log.exception("transport raised", delivery=delivery.id, transport=name)
        return defer_all(delivery, f"transport {name} raised {type(error).__name__}")
