"""A transport that speaks LMTP (RFC 2033)."""
