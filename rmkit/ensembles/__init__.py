"""Voters: features of a frozen backbone, heads on them, folds."""
