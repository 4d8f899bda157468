"""Gaussians, audio encoder, motion networks and the avatar that composes them."""
