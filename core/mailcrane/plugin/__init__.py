"""Plugins: what hooks there are, how they are asked, and how plugins are found, started and watched.

`hookspecs` is the list of hooks and their reference. pluggy registers and validates; `caller` asks, on trio.
"""
