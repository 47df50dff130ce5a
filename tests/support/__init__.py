"""What tests start, wait for and compare with: brokers, workers, exporters, the ledger of a workload."""
