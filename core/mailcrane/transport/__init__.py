"""Handing over to the next hop: the transports of the configuration, the content they carry, and their deadline."""
