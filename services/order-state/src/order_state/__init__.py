"""order-state: decides what happens to orders, and records it."""
