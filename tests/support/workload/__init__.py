"""A Celery application whose tasks do all that a monitor has to tell apart, and keep a ledger of it."""

BROKER_VARIABLE = "WORKLOAD_BROKER"  # the workers' broker URL
LEDGER_VARIABLE = "WORKLOAD_LEDGER"  # the folder of the ledger
SENT_EVENTS_VARIABLE = "WORKLOAD_SENT_EVENTS"  # 1 or 0: whether the workers' own sends (retries) tell of themselves
