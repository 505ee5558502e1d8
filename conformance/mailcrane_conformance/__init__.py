"""Conformance kits: what a plugin for Mailcrane must do, as behaviours with ids that can be run.

`transport` has the behaviours of a transport; `peer` is the scripted SMTP server that they are shown with, and imports
nothing of Mailcrane. ``python -m mailcrane_conformance transport package.module:function`` runs a kit from the shell,
`mailcrane_conformance.transport.run` from a test.
"""
