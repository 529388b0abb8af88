"""The parts that all routes share: context, parameters, cursors."""
