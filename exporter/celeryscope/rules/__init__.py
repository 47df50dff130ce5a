"""Recording and alerting rules for Prometheus, as data, and the commands' way to print them.

`alerts/*.rules.yml` are what this prints with the default settings.
"""
