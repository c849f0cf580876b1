"""The verbs as data: parameters, requests and results."""
