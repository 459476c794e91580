"""Questions answered by many runs: ablation, leakage, search, and the audit of the paper."""
