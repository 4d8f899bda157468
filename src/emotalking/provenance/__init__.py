"""What outputs say about themselves: signed metadata, an invisible mark, and the consent behind an avatar."""
