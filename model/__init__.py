"""What is learned: one configuration space that holds the contest's decoder, LLaMA, and the seeds' other systems."""
