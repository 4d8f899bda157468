"""Thresholds of blinks, each with its unit: AU45 intensity, eye closure, or lid opening.

AU45 is OpenFace's intensity, 0..5. Closure is what the face branch sees of it, ``AU45`` clipped at
:data:`AU45_CLIP` and brought to 0..1 (``Subject.blink``). Opening is the lids' gap as a share of its usual value.
"""

AU45_CLIP = 2.0
"""AU45 at which the face branch takes the eyes for closed; larger values are clipped (docs/paper.md 1.3)."""
AU45_CLOSED = 2.5
"""AU45 that we write for closed lids. The face branch clips the unit at :data:`AU45_CLIP`, so a blink must end a little
above it, and a half-closed lid must not reach it."""
AU45_OPEN = 0.3
"""AU45 below which the lids do not move for a blink, so that lids and cheeks can be measured."""
AU45_NO_BLINK = 0.5
"""AU45 that a clip with a blink exceeds somewhere: open eyes measured by this package stay below it."""

CLOSURE_SHUT = 0.4
"""Closure from which a frame shows closed eyes to a viewer (AU45 of 0.8)."""
CLOSURE_MARGIN = 0.1
"""Closure above the clip's smallest up to which eyes count as fully open."""

OPENING_IN_BLINK = 0.6
"""Opening below which lids are in a blink; MediaPipe leaves a slit of 0.2 to 0.5 in a full one."""
OPENING_CLOSED = 0.4
"""Largest opening of closed lids, where the clip's deepest blinks do not show a smaller one."""
NARROWED = 0.2
"""Share of the way from the usual to the closed opening up to which lids only narrow: AU45 is 0 there."""
LONGEST_BLINK_S = 0.5
"""Seconds after which closed lids are no blink but closed eyes."""

OPENNESS_BLINK = (0.25, 0.75)
"""Area of the eye's opening, as a share of the neutral face's, between which commanded moves of the lids fade in."""
