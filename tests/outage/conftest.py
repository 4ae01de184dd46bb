from tests.survival.conftest import stands

__all__ = ["stands"]
