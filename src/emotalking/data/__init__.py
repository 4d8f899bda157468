"""The on-disk subject folder: read, write, validate."""

from emotalking.data.findings import Finding
from emotalking.data.frame import Frame, LandmarkTrack
from emotalking.data.subject import Subject
from emotalking.data.validate import validate

__all__ = ["Finding", "Frame", "LandmarkTrack", "Subject", "validate"]
