"""Measures the system on this machine, and the bare components as lower bounds."""
