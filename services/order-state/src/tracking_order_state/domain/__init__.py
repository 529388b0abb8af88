"""The rules: decisions on single commands and on batches, repeats, early updates, due times, parking,
erasure, archiving; the cache of orders, and positions of partitions.

No I/O and no clock: times are arguments. Most modules are pure functions; `batch`, `holding` and
`order_cache` keep state in memory. Imports no other folder of this package.
"""
