"""Pollers: each asks one source of facts, on its own connection, for readings or a PollError."""
