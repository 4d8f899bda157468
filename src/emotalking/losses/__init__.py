"""Loss functions, one file a loss; ``train.stages`` weighs them by the fields of each stage's losses config."""
