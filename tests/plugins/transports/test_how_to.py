"""What docs/how-to/deliver-to-the-internet.md tells to write is a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailcrane.config.convert import convert
from mailcrane.config.static import parse
from mailcrane_transports.plugin import TYPES

HOW_TO = Path(__file__).parents[3] / "docs/how-to"


@pytest.mark.parametrize("name", ["deliver-direct.part", "deliver-relay.part", "deliver-socks.part"])
def test_the_configuration_of_the_how_to_is_taken(name: str) -> None:
    static = parse('hostname = "mail.example.org"\ndata_dir = "data"\n' + (HOW_TO / name).read_text("utf-8"))
    types = {type_name: config for type_name, config, _ in TYPES}
    [(transport, section)] = static.transports.items()
    assert static.queue.default_transport == transport
    convert({key: value for key, value in section.items() if key != "type"}, types[section["type"]], transport)
