"""Mailcrane: a complete mail server whose every stage is a hook."""

__version__ = "0.1.0"
