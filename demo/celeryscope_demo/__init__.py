"""The demo: the tasks of a small social network, a load, and the command that runs them on one machine."""
