"""Render an avatar speaking to a video: python render_video.py AVATAR SOUND VIDEO."""

import sys

import emotalking

if len(sys.argv) != 4:
    sys.exit(__doc__)
avatar, sound, video = sys.argv[1:]
made = emotalking.render(avatar, sound, video, emotion="happy:0.6")
print(f"{made.video}: {made.frames} frames")
