"""Pages: one HTML file each, with everything inside."""

from clew.report.page import Section, page, picture

__all__ = ["Section", "page", "picture"]
