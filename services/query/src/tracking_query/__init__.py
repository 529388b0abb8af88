"""query: reads of orders, their history, the outcomes of updates and the event log."""
