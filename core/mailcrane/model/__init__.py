"""The vocabulary: frozen values that every stage shares, and nothing that does I/O.

One module per family of values. The package imports nothing else of Mailcrane.
"""
