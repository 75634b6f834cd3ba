"""The report of a run: read, measured, drawn and written as a page."""
