"""RunPod's REST API: calls, specs, catalog, prices, quotas."""
