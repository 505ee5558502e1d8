"""A transport that hands each message to a command."""
