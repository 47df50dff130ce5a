"""The Grafana dashboards, as code.

`python -m celeryscope_dashboards` writes `dashboards/generated`, and docs/dashboards.md about them.
"""
