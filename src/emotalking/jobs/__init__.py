"""Many independent jobs: one after another in this process, or many at once on a Ray cluster (extra ``cluster``)."""
