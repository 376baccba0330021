"""Systems that are solved in closed form or by scikit-learn, on the host in float64: arrays in, arrays out."""
