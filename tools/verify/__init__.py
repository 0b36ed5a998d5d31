"""What tools.verify asks of a record: a safe reader of its folder, and rules that look at nothing else."""
