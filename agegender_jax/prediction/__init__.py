"""From photos to answers: trained nets on aligned faces, with calibrated ages, genders and doubts."""
