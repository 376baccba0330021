"""Systems fitted in closed form or by scikit-learn, on the host in float64, as functions of arrays."""
