"""The nets and photos that are explained, and explanations within an evaluation."""
