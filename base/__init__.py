"""What all stand on: configuration, the command-line shell, progress, the newest run. Imports nothing of ours."""
