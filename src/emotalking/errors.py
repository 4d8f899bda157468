"""The one exception that speaks to a user."""


class UserError(Exception):
    """Something the user handed us cannot be used.

    The message is one sentence: what is wrong, where, and what to do. The command line prints it
    without a traceback and exits with code 2; library users catch it like any other exception.
    """
