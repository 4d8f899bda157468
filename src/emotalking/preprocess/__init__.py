"""From a clip to a subject folder: one module a step; :func:`emotalking.preprocess.prepare.prepare` runs them all."""
