"""From a clip to a subject folder: one module a step; :func:`emotalking.capture.prepare.prepare` runs them all."""
