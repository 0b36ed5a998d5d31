"""What a model learns from: documents, tokens, the exact bytes of every token, shards, batches."""
