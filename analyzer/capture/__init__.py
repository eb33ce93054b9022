"""Capture files to columns of TCP segments."""
