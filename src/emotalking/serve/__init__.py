"""Live server: sessions of talking heads over WebSocket and WebRTC, rendered together in one thread.

Nothing is imported here: the modules need the extra ``emotalking[serve]``.
"""
