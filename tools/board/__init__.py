"""Records -> rows -> README.md and index.html: pure, apart from reading. tools.leaderboard is the shell."""
