"""Sockets: bound, accepted from, limited per address, and handed to a session."""
