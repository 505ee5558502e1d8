"""The repositories: one narrow class per concern, in SQL that SQLite and PostgreSQL both speak."""
