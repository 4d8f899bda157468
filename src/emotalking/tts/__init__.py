"""Speech from text: back ends, alignment, phonemes and the curated sentences."""
