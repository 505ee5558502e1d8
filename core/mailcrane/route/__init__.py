"""Which transport an attempt takes."""
