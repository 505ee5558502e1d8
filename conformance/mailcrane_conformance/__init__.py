"""Conformance kit: what plugins for Mailcrane must do, as behaviours with ids that can be tried.

A suite is a list of behaviours: `transport` has those of a transport, `plugin` those of any plugin, `webhook` those of
receivers and of senders of webhooks. `peer` is the scripted SMTP and LMTP server that transports are shown with, and
imports nothing of Mailcrane. Each suite has ``run``, which returns results, and ``make_test``, which makes a test for
pytest; ``python -m mailcrane_conformance`` tries them from the shell.
"""
