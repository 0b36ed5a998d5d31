"""Ablations as data: the sweep file, the study that workers share, one trial as a child process, table and plot."""
