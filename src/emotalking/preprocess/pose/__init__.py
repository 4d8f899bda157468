"""Head pose of a clip."""
