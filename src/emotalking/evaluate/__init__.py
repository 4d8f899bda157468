"""Pure metrics and the scenarios that use them."""
