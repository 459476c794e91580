"""RAVDESS, the synthetic corpus that stands in for it, and the folds."""
