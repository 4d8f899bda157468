"""The synthetic actor and the demo."""
