"""SASL without I/O (RFC 4422): both sides of SCRAM, CRAM-MD5, PLAIN and LOGIN, and the secrets they are checked with.

Used by SMTP, IMAP and our own SMTP client. Base64 and the protocol's framing are the caller's.
"""
