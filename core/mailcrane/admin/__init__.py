"""Administration: one typed API of operations under the command line, the control socket and web pages.

`administration` is what operations work on; `operations` lists them; `control` carries them over a Unix socket;
`offline` runs them on the database while no server does.
"""
