"""The parts of an evaluation: the runs and images that it names, their predictions, scores and result files."""
