"""What a record claims, as types: submission, track, verdict. Shared by record, verify and leaderboard."""
