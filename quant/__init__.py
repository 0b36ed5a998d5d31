"""How a model gets small: widths and steps, rounding, entropy coding, and the artifact that holds it."""
