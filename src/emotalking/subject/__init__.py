"""The on-disk subject folder: read, write, validate."""

from emotalking.subject.findings import Finding
from emotalking.subject.frame import Frame, LandmarkTrack
from emotalking.subject.subject import Subject
from emotalking.subject.validate import validate

__all__ = ["Finding", "Frame", "LandmarkTrack", "Subject", "validate"]
