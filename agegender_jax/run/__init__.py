"""The jobs: training, evaluation and audits, with their files, logs and signals."""
