"""One module a verb; a package is a group of verbs, such as ``sync train`` and ``sync measure``.

A module has ``SECTION`` (of the help), ``FUNCTION`` (whose parameters and docstring make the options), ``run``, which
gets the function's arguments and prints around the call, and, where they apply, ``EXAMPLES`` and ``IF_INTERRUPTED``.
Further parameters of ``run`` are options of the command line alone.
"""

from typing import Any

Arguments = dict[str, Any]
"""Arguments of a verb's function by name, each of the type that its signature gives; the parser has checked them."""
