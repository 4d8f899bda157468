"""``emotalking study results``."""

from emotalking import api
from emotalking.cli.commands import Arguments

SECTION = "evaluate"
FUNCTION = api.study_results
EXAMPLES = """examples:
  emotalking study results study
  emotalking study results study --answers answers_1f2e3d4c.csv answers_5b6a7988.csv
"""


def run(arguments: Arguments) -> None:
    """Print the table."""
    results = api.study_results(**arguments)
    print(results.table.markdown())
    print(results.summary)
