"""Exceptions that speak to a user.

A message is one sentence: what is wrong, where, and what to do. The command line prints it without a traceback and
exits with code 2 for an :class:`InputError`; library users catch it like any other exception.
"""


class EmotalkingError(Exception):
    """Base class of every error that this package raises on purpose."""


class InputError(EmotalkingError):
    """A file, an argument or a setting cannot be used."""


class NoFaceError(InputError):
    """An image or a clip shows no face that can be used."""


class MissingModelError(InputError):
    """A checkpoint of an optional pretrained model is missing."""


class MissingPackageError(InputError):
    """An optional package is not installed."""


class DeviceError(InputError):
    """A device does not exist, cannot be used, or its memory is full."""


UserError = InputError
"""Name of :class:`InputError` before 0.2.0."""
