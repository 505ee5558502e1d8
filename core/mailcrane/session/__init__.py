"""One dialog with a client: `smtp` drives the sans-I/O server over a stream, `policy` decides on envelope addresses,
`login` verifies who submits.
"""
