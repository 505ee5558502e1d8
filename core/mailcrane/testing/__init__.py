"""What tests are written with, ours and a stranger's: the real server in memory, made-up values, a clock.

`server` runs every stage with a store in memory; only the next hop, DNS and time are fake. `ask` asks one hook of one
plugin. `made_entry` and its like make values with sensible defaults. `Clock` follows trio's clock, so that a mock
clock moves the time of day too.
"""

from mailcrane.testing.clock import Clock
from mailcrane.testing.values import made_entry, made_session

__all__ = ["Clock", "made_entry", "made_session"]
