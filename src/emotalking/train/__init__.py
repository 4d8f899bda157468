"""One trainer, four stages."""
