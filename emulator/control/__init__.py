"""The emulator's own API, `/_emulator`: faults, settings, clock and request log."""
