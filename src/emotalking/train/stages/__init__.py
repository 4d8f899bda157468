"""Training stages: mouth, face, emotion and fine-tune, each one :class:`emotalking.train.step.Stage`."""
