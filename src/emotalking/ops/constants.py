"""Constants of rendering, shared by all four rasterizers; the CPU kernel gets them as arguments."""

MAX_ALPHA = 0.999
"""A single Gaussian never covers a pixel fully, so 1 / (1 - alpha) in the backward pass stays finite. gsplat 1.5 has
0.999 compiled in (3DGS used 0.99); all back ends share its value so that an avatar renders the same on each."""

MIN_ALPHA = 1.0 / 255.0
"""Fainter contributions cannot change an 8-bit image; dropping them gives every Gaussian a finite extent."""

MIN_TRANSMITTANCE = 1e-4
"""Blending stops before the Gaussian that would leave this transmittance or less: anything behind is invisible."""

BLUR_2D = 0.3
"""Square pixels added to the projected variances, so that no Gaussian is thinner than the pixel grid (3DGS)."""

FRUSTUM_MARGIN = 0.3
"""The Jacobian of the projection is evaluated at most this fraction of the half field of view outside the image: the
linearisation explodes for Gaussians far outside the view."""

MAX_EXTENT = 3.33
"""Standard deviations after which a Gaussian of opacity 1 falls below ``MIN_ALPHA``: sqrt(2 ln 255) = 3.329, rounded up
to gsplat's number."""
