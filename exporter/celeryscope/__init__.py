"""celeryscope: a Prometheus exporter that tells the truth about a Celery cluster."""

__version__ = "0.1.0"
