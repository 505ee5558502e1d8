"""The transport types that relay to one host: ``smtp``, ``submission``, ``submissions`` and ``local``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import trio

from mailcrane.api import Delivery, RecipientResult, Reply
from mailcrane.api.tls import TLSMode, TLSPolicy
from mailcrane.api.transport import Suspended
from mailcrane_transports import metrics
from mailcrane_transports.config import LocalConfig, NextHopConfig, SMTPConfig, SubmissionsConfig
from mailcrane_transports.dial import SystemDialer
from mailcrane_transports.home import Home
from mailcrane_transports.line import Line
from mailcrane_transports.progress import Progress
from mailcrane_transports.session import SetUp, Target

_NO_VERIFIED_TLS = Reply.make(554, "5.7.30", "REQUIRETLS needs a transport that verifies TLS")


class RelayTransport:
    """Delivers to a host, whatever the domain; implements `mailcrane.api.Transport`."""

    def __init__(self, target: Target, set_up: SetUp, config: NextHopConfig, home: Home) -> None:
        self._target = target
        self._log = home.log
        self._line = Line(SystemDialer(), set_up, home.hostname, config, home.start_soon)

    async def deliver(self, delivery: Delivery) -> tuple[RecipientResult, ...]:
        """Deliver over a session of its own, or one that another delivery has left open.

        Raises:
            NotNow: a limit is reached.
        """
        progress = Progress(delivery)
        if delivery.require_tls and not self._target.policy.is_verified:
            metrics.requiretls_unsupported.inc("unverified")
            progress.begin_host()
            progress.lacks(_NO_VERIFIED_TLS)
            return progress.results()
        with progress.kept(self._log):
            try:
                await self._line.deliver(self._target, progress, _left_to_the_system)
            except Suspended as suspended:
                progress.untried(self._target.host, str(suspended))
        return progress.results()

    async def aclose(self) -> None:
        """Close the sessions that are kept."""
        await self._line.aclose()


async def open_smtp(config: SMTPConfig, home: Home) -> RelayTransport:
    """Make a transport of the type ``smtp`` or ``submission``. Nothing is connected before the first delivery.

    Raises:
        OSError: `ca_file` cannot be read.
        CertificateError: it has no certificates.
    """
    if config.no_starttls:
        mode = TLSMode.NONE
    else:
        mode = TLSMode.REQUIRED if config.starttls_insecure_skip_verify else TLSMode.VERIFIED
    policy = TLSPolicy(mode, "configuration (no_starttls is not set)")
    return await _open(Target(config.host, config.port, policy), config, home)


async def open_submissions(config: SubmissionsConfig, home: Home) -> RelayTransport:
    """Make a transport of the type ``submissions``; raises as `open_smtp` does."""
    policy = TLSPolicy(TLSMode.VERIFIED, "configuration", is_immediate=True)
    return await _open(Target(config.host, config.port, policy), config, home)


async def open_local(config: LocalConfig, home: Home) -> RelayTransport:
    """Make a transport of the type ``local``: TLS where the listener offers it, with whatever certificate.

    Each recipient has a transaction of its own: the reply after the final dot stands for all recipients, and one that
    is to fail in a test would take the others with it.
    """
    policy = TLSPolicy(TLSMode.OPPORTUNISTIC, "configuration")
    target = Target(config.host, config.port, policy, max_recipients=1)
    return RelayTransport(target, SetUp(), config, home)


async def _open(target: Target, config: SMTPConfig | SubmissionsConfig, home: Home) -> RelayTransport:
    ca_pem = await trio.Path(Path(config.ca_file)).read_bytes() if config.ca_file else None
    set_up = SetUp(auth=config.auth, ca_pem=ca_pem)
    set_up.check(target.policy.mode)
    return RelayTransport(target, set_up, config, home)


async def _left_to_the_system() -> Sequence[str]:
    return ()
