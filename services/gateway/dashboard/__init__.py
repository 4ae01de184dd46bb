"""The operators' dashboard: pages made here, kept fresh by htmx and by the stream of changes."""

from services.gateway.dashboard.pages import Dashboard

__all__ = ["Dashboard"]
