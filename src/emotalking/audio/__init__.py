"""Audio features per video frame, their windows, and voice activity."""
