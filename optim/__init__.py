"""How it is learned: Muon for matrices, AdamW for the rest, schedules as pure functions, averages of weights."""
