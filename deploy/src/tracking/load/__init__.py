"""`tracking load`: reads files, sends their operations to ingest, and reports the results.

Modules in the order of their use: `sources` (bytes to lines of text), `header` and `readers` (lines to named
fields), `times` and `operations` (fields to operations), `olist` (the Olist data set), `spool` (records by
order), `order_records` (the next record of an order), `sender` or `dry_run`, `summary`. Only `sources`,
`spool` and `sender` do I/O.
"""
