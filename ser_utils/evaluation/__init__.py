"""From predictions to metrics, intervals, tests and tables."""
