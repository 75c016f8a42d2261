"""Fault injection on a throwaway run: kills, damaged files, full disks."""
