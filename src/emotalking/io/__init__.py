"""Video, audio, image and file input and output."""
