"""The store: everything that must survive a power cut, behind units of work and whole reads.

A caller hands a function to `Store.write` or `Store.read`; the function gets a `Transaction`, whose attributes are the
repositories. How units are batched and committed belongs to the engine (`mailcrane.store.sqlite`).
"""
