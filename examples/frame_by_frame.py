"""Use frames in a program of your own: python frame_by_frame.py AVATAR SOUND.

The emotion moves from calm to excited while the head speaks; each frame is a uint8 RGB array [H, W, 3].
"""

import sys

import numpy as np

from emotalking import Avatar, EmotionTrack, Player

if len(sys.argv) != 3:
    sys.exit(__doc__)
avatar_file, sound = sys.argv[1:]
player = Player(Avatar.load(avatar_file))
emotion = EmotionTrack(times=np.array([0.0, 2.0]), values=np.array([[0.3, -0.6], [0.6, 0.7]]))
for number, frame in enumerate(player.frames(sound, emotion, seconds=2.0)):
    brightness = float(frame.mean())  # your own work with the frame
    print(f"frame {number}: {frame.shape[1]}x{frame.shape[0]}, mean brightness {brightness:.1f}")
