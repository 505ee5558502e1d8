"""Names looked up in DNS: typed answers with the DNSSEC bit, a cache, and one query on the way for each question."""
