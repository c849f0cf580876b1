"""REST v2, the control plane."""
