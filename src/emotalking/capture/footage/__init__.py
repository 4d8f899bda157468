"""What footage checking measures: pure functions on arrays, one module a subject; ``capture.check`` composes them."""
