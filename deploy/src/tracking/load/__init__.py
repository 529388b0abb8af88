"""`tracking load`: from files of any common shape to operations of a batch, and what became of them.

The steps, each in a module of its own: `sources` (bytes to lines of text), `dialect` and `header` (lines to
named fields), `operations` (fields to operations), `readers` and `olist` (files to records), `spool` and
`arrange` (the records of one order together, in the order of their times), `order_work` and `sender` (batches
to ingest), `summary` and `view` (what a person is told). Only `sources`, `spool` and `sender` do I/O.
"""
