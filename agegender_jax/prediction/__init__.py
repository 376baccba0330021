"""Predictions for photos by trained nets on aligned faces, with calibrated ages, genders and uncertainty."""
