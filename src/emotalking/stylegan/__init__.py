"""Training of the paper's lip-aligned emotional face generator: StyleGAN2, EmoStyle, lip encoder, LipExtract."""
