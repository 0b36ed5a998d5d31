"""What every folder uses: configuration, the command-line shell, files, progress, runs. Imports nothing of ours."""
