"""What the system reaches on this machine, beside the floors that its bare parts set."""
