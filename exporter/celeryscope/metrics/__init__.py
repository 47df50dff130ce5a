"""What is exported: the catalog of metrics, their values, and their way into an exposition."""
