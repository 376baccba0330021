"""The parts of a training: its first state, its loop, validation and final test, and systems that are solved."""
