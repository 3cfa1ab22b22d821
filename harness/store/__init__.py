"""Keep what trials gave in an SQLite file, and read it again."""
