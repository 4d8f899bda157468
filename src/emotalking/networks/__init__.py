"""Optional pretrained models: our own implementations of published networks, strict loading of their checkpoints."""
