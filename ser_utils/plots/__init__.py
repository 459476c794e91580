"""Figures of the report, one function each; their colours, banner and saving are in ``style``."""
