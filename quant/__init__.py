"""How a model gets small: bits, rounding, entropy coding, and the artifact that holds it all."""
