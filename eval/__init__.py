"""How good it is: which targets are scored, and what they come to in bits per byte."""
