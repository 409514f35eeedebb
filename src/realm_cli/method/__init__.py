"""The method, pure: no torch, no I/O; random generators are passed in."""
