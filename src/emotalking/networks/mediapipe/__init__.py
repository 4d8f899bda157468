"""MediaPipe's networks for faces, persons and hands, run by PyTorch (``networks/data/LICENSE.mediapipe``)."""
