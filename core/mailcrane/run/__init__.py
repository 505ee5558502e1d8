"""The composition root: a server is put together here, and nowhere else.

`server` makes the stages and hands each what it needs; `serve` runs one from a file until it is told to stop;
`localserve` sets up a development server; `catcher` shows the webhooks that a development server posts to itself.
"""
