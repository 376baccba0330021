"""Predictions for photos: trained nets on aligned faces, with calibrated ages, genders and uncertainty."""
