"""The on-disk subject folder: read, write, validate."""

from emotalking.subject.frame import Frame, LandmarkTrack
from emotalking.subject.subject import Subject
from emotalking.subject.validate import validate

__all__ = ["Frame", "LandmarkTrack", "Subject", "validate"]
