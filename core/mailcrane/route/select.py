"""The transport of an attempt: the operator's choice, a plugin's, a rule's, or the server's default."""

from __future__ import annotations

from collections.abc import Container

from mailcrane.config.directory import Directory
from mailcrane.model.delivery import Entry, Outcome, RecipientResult, RouteChoice
from mailcrane.plugin.caller import Hooks
from mailcrane.plugin.errors import HookFailed
from mailcrane.result.classify import failed_text


async def select_transport(
    hooks: Hooks, directory: Directory, entry: Entry, *, transports: Container[str], default_transport: str
) -> RouteChoice | RecipientResult:
    """Choose the transport of the attempt that has begun for an entry.

    Args:
        entry: With the attempt counted that is routed.
        transports: The names of ``[transports]``.
        default_transport: ``[queue] default_transport``; empty for none.

    Returns:
        The choice, or a deferred result: what cannot be routed now may be after the configuration was mended.
    """
    domain = directory.domain(entry.reverse_path.domain)
    if domain is not None and domain.is_disabled:
        return _deferred(f"domain {domain.name} of the reverse-path is disabled")
    choice: RouteChoice | None = None
    if entry.transport:
        choice = RouteChoice(entry.transport, "set for the entry")
    else:
        try:
            choice = await hooks.select_route(entry=entry)
        except HookFailed as failure:
            return _deferred(failed_text(failure))
    if choice is None:
        choice = _by_rules(directory, entry)
    if choice is None and default_transport:
        choice = RouteChoice(default_transport, "[queue] default_transport")
    if choice is None:
        return _deferred(
            f"no route for {entry.forward_path.domain}: no plugin answers, no rule matches, "
            "and [queue] default_transport is not set"
        )
    if choice.transport not in transports:
        reason = choice.reason or "chosen by a plugin"
        return _deferred(f"transport {choice.transport!r} ({reason}) is not in [transports]")
    return choice


def _by_rules(directory: Directory, entry: Entry) -> RouteChoice | None:
    found = directory.select_route(
        entry.account, entry.reverse_path.domain, entry.forward_path.domain, entry.attempts - 1
    )
    return None if found is None else RouteChoice(found.route.transport, f"route of {found.scope}")


def _deferred(error: str) -> RecipientResult:
    return RecipientResult(Outcome.DEFERRED, error=error)
