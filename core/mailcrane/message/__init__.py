"""Messages as octets (RFC 5322, RFC 2045 to 2049, RFC 6376), without I/O: read, composed, traced, signed."""
