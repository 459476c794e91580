"""Training: augmentation, one run, the files of runs, many runs."""
