"""Each loss with its equation."""
