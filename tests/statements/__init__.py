"""The statements that the services send, and the list of those that were reviewed."""
