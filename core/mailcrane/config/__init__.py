"""Configuration: the static TOML file, the rows that change while running, and look-ups over them.

`static` is `mailcrane.toml`; `rows` is what administrators change while the server runs; `declarative` is the TOML
form of those rows; `directory` answers the questions of the mail path; `convert` turns tables into typed values with
errors that name the key.
"""
