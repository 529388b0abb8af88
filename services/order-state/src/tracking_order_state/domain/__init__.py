"""The rules: decisions on single commands and on batches, parking, positions of partitions.

Pure: imports no I/O and no other folder of this package.
"""
