"""SMTP without I/O (RFC 5321, RFC 6409): bytes in, events out, and bytes to send.

``server`` and ``client`` are the two ends of a dialog; ``command``, ``grammar``, ``replies``, ``reply_reader``,
``extensions`` and ``data`` are what they are made of. Sockets, TLS, deadlines and policy belong to whoever drives them.
"""
