"""order-state: decides every command on an order, commits the result and publishes it."""
