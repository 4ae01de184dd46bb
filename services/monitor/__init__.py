"""Watches the statistics and says when something is wrong, once, and when it is over."""
