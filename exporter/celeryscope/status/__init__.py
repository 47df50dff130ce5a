"""The status page: what is known now, read from the series, and shown to a person."""
