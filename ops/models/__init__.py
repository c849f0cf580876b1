"""Model files as values: places, records, inventories, categories, source names."""
