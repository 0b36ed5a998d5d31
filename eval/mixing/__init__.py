"""Context mixing: the model's distribution combined with what the text so far has taught."""
