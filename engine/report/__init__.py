"""A run as one HTML file: nothing is loaded from elsewhere, no script runs, and light and dark are both readable."""

from engine.report.page import Explanation as Explanation, write_report as write_report

__all__ = ["Explanation", "write_report"]
