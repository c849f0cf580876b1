"""This machine: its model folders, their scan and the hash cache."""
