"""TLS for every listener and every outgoing connection: one stream over OpenSSL memory BIOs, and its set-up.

`stream` is the stream, `context` what servers and clients negotiate, `certificate` reads and makes certificates,
`proxy_protocol` tells the real client behind a load balancer.
"""
