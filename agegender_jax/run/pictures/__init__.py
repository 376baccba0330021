"""The pictures that predict and align read, and the rows that they write."""
