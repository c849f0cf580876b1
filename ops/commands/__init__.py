"""What ``./inv`` does: a module a group of commands, a function a command, and how they become tasks."""
