"""The simulated third party: a server of its own, and what a client needs to know of it."""
