"""What tests are written with, ours and a stranger's: the real server in memory, made-up values, a clock.

`server` runs every stage with a store in memory; only the next hop, DNS, the receiver of webhooks and time are fake.
`ask` asks one hook of one plugin. `made_entry` and its like make values with sensible defaults. `Clock` follows
trio's clock, so that a mock clock moves the time of day too. `FakeResolver` is a DNS of a test's own. `FAILURES` is
what plugins do wrong, to see what comes of it.

For those who test an application that sends mail there is a whole server in a process of its own:
`running_localserve`, and as a fixture `mailcrane.testing.pytest`.
"""

from typing import TYPE_CHECKING

from mailcrane.api._lazy import lazy_names

if TYPE_CHECKING:
    from mailcrane.plugin.data import HeldPluginData as HeldPluginData
    from mailcrane.plugin.find import find_plugins as find_plugins
    from mailcrane.plugin.find import import_plugin as import_plugin
    from mailcrane.plugin.host import PluginHost as PluginHost
    from mailcrane.plugin.registration import implemented_hooks as implemented_hooks
    from mailcrane.plugin.spec import hook_specs as hook_specs
    from mailcrane.testing.client import SMTPClient as SMTPClient
    from mailcrane.testing.clock import Clock as Clock
    from mailcrane.testing.development import DevelopmentServer as DevelopmentServer
    from mailcrane.testing.development import HostPort as HostPort
    from mailcrane.testing.development import NothingArrived as NothingArrived
    from mailcrane.testing.development import ServerFailed as ServerFailed
    from mailcrane.testing.development import running_localserve as running_localserve
    from mailcrane.testing.dns import FakeResolver as FakeResolver
    from mailcrane.testing.events import made_data as made_data
    from mailcrane.testing.failures import FAILURES as FAILURES
    from mailcrane.testing.failures import Failure as Failure
    from mailcrane.testing.failures import impatient as impatient
    from mailcrane.testing.hooks import ask as ask
    from mailcrane.testing.hooks import made_arguments as made_arguments
    from mailcrane.testing.hooks import made_event as made_event
    from mailcrane.testing.hooks import plugin_services as plugin_services
    from mailcrane.testing.hooks import running_plugins as running_plugins
    from mailcrane.testing.in_memory import PASSWORD as PASSWORD
    from mailcrane.testing.in_memory import ROWS as ROWS
    from mailcrane.testing.in_memory import RunningServer as RunningServer
    from mailcrane.testing.in_memory import server as server
    from mailcrane.testing.receiver import FakeReceiver as FakeReceiver
    from mailcrane.testing.receiver import Posted as Posted
    from mailcrane.testing.transport import FakeTransport as FakeTransport
    from mailcrane.testing.values import made_delivery as made_delivery
    from mailcrane.testing.values import made_entry as made_entry
    from mailcrane.testing.values import made_message as made_message
    from mailcrane.testing.values import made_retired as made_retired
    from mailcrane.testing.values import made_session as made_session
    from mailcrane.testing.values import made_suppression as made_suppression
    from mailcrane.testing.web import HTTPAnswer as HTTPAnswer
    from mailcrane.testing.web import ask_app as ask_app
    from mailcrane.testing.webhook import made_call as made_call
else:
    # A type checker sees the names above, and no others.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "mailcrane.plugin.data": ("HeldPluginData",),
            "mailcrane.plugin.find": ("find_plugins", "import_plugin"),
            "mailcrane.plugin.host": ("PluginHost",),
            "mailcrane.plugin.registration": ("implemented_hooks",),
            "mailcrane.plugin.spec": ("hook_specs",),
            "mailcrane.testing.client": ("SMTPClient",),
            "mailcrane.testing.clock": ("Clock",),
            "mailcrane.testing.dns": ("FakeResolver",),
            "mailcrane.testing.development": (
                "DevelopmentServer",
                "HostPort",
                "NothingArrived",
                "ServerFailed",
                "running_localserve",
            ),
            "mailcrane.testing.events": ("made_data",),
            "mailcrane.testing.failures": ("FAILURES", "Failure", "impatient"),
            "mailcrane.testing.hooks": ("ask", "made_arguments", "made_event", "plugin_services", "running_plugins"),
            "mailcrane.testing.in_memory": ("PASSWORD", "ROWS", "RunningServer", "server"),
            "mailcrane.testing.receiver": ("FakeReceiver", "Posted"),
            "mailcrane.testing.transport": ("FakeTransport",),
            "mailcrane.testing.values": (
                "made_delivery",
                "made_entry",
                "made_message",
                "made_retired",
                "made_session",
                "made_suppression",
            ),
            "mailcrane.testing.web": ("HTTPAnswer", "ask_app"),
            "mailcrane.testing.webhook": ("made_call",),
        },
    )
