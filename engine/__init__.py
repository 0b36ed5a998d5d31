"""What makes a run run: the device and the ranks, the clock, checkpoints, the log."""
