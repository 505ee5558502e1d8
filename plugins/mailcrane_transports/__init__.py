"""The transports that Mailcrane ships with: relay to a host by SMTP, and the local one for development."""
