"""Ratings as arrays: pair accuracy, calibration, rank quality and grouped bootstrap. numpy, scipy, scikit-learn."""
