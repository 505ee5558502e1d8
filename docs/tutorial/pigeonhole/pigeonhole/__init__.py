"""Puts messages for some domains into pigeonholes: one folder for each recipient, one file for each message."""
