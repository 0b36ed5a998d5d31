"""What a run takes before it starts: devices, memory, time, data, the command that starts it. See __main__."""
